from __future__ import annotations

import numpy as np

from m2h_export.data.boundaries import semantic_boundaries


def test_each_pixel_is_compared_with_right_lower_and_lower_right() -> None:
    labels = np.zeros((4, 4), np.uint8)
    labels[2, 2] = 5
    # The pixel itself differs from its neighbours; the three up and left of it see it, those below do not.
    assert semantic_boundaries(labels).tolist() == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


def test_the_last_row_column_and_corner() -> None:
    labels = np.array([[0, 0, 1], [0, 0, 2], [3, 4, 9]], np.uint8)
    assert semantic_boundaries(labels).tolist() == [[0, 1, 1], [1, 1, 1], [1, 1, 0]]


def test_an_ignored_pixel_makes_no_boundary_and_hides_its_pairs() -> None:
    labels = np.array([[7, 7, 7, 7], [7, 7, 255, 7], [7, 7, 7, 8]], np.uint8)
    assert semantic_boundaries(labels).tolist() == [[0, 255, 255, 0], [0, 255, 255, 1], [0, 0, 1, 0]]


def test_without_ignore_every_value_is_a_class() -> None:
    labels = np.array([[300, 255], [300, 300]], np.uint16)
    assert semantic_boundaries(labels, ignore=None).tolist() == [[1, 1], [0, 0]]
