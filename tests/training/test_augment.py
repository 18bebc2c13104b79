"""Augmentation keeps picture and truth together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from toy import sample

from m2h_export.data.sample import IGNORE, Sample
from m2h_export.training.augment import Colours, augment, crop_and_resize, flip
from m2h_export.training.experiment import AugmentSettings

STILL = AugmentSettings(flip=0, jitter=0)


def test_a_flip_mirrors_everything_and_the_normals_x() -> None:
    one = sample(0)
    slanted = np.zeros((64, 64, 3), np.float32)
    slanted[:, :10] = (0.6, 0, -0.8)
    one = replace(one, normals=slanted)
    two = flip(one)
    np.testing.assert_array_equal(two.image, one.image[:, ::-1])
    np.testing.assert_array_equal(two.depth, one.depth[:, ::-1])
    np.testing.assert_array_equal(two.semantics, one.semantics[:, ::-1])
    np.testing.assert_array_equal(two.edges, one.edges[:, ::-1])
    np.testing.assert_allclose(two.normals[5, -1], (-0.6, 0, -0.8), rtol=1e-6)
    np.testing.assert_array_equal(flip(two).normals, slanted)


def test_normals_still_fit_the_depth_after_a_flip() -> None:
    def across(s: Sample) -> float:
        return float(s.depth[0, 1] - s.depth[0, 0])

    slope = np.linspace(1, 2, 64, dtype=np.float32)[None].repeat(64, 0)  # farther to the right
    normals = np.broadcast_to(np.float32((0.6, 0, -0.8)), (64, 64, 3)).copy()
    one = Sample("slope", np.zeros((64, 64, 3), np.uint8), slope, normals=normals)
    two = flip(one)
    assert across(one) > 0 and one.normals[0, 0, 0] > 0
    assert across(two) < 0 and two.normals[0, 0, 0] < 0


def test_zoom_two_halves_depth_and_turns_the_normals_of_its_plane() -> None:
    """The plane z = 1 + x seen by f = 64: after the zoom, points and normals must still be orthogonal."""
    focal, centre = 64.0, 31.5
    u = (np.arange(64) - centre) / focal
    depth = (1 / (1 - u)).astype(np.float32)[None].repeat(64, 0)  # z = 1 + u z
    normal = np.float32([1, 0, -1]) / np.float32(np.sqrt(2))
    one = Sample("plane", np.zeros((64, 64, 3), np.uint8), depth, normals=np.tile(normal, (64, 64, 1)))
    two = crop_and_resize(one, (64, 64), zoom=2.0)
    columns = np.arange(0, 64, 8)  # nearest pixels come in pairs: compare across many
    assert two.depth[0, 32] == pytest.approx(one.depth[0, 32] / 2, rel=0.01)
    points = np.stack([(columns - centre) / focal * two.depth[0, columns], two.depth[0, columns]], -1)
    along = points[-1] - points[0]
    turned = two.normals[0, 0, [0, 2]]
    assert abs(along @ turned) / np.linalg.norm(along) < 0.01
    assert abs(along @ normal[[0, 2]]) / np.linalg.norm(along) > 0.2  # unturned they would not fit
    assert np.linalg.norm(two.normals[0, 0]) == pytest.approx(1, abs=1e-6)


def test_resizing_alone_keeps_depth() -> None:
    two = crop_and_resize(sample(0), (32, 32))
    assert two.image.shape == (32, 32, 3)
    np.testing.assert_array_equal(two.depth, sample(0).depth[1::2, 1::2])  # of the two nearest, the later


def test_the_crop_keeps_the_aspect_and_the_unknown() -> None:
    one = sample(0)
    one = replace(one, edges=np.full((64, 64), IGNORE, np.uint8))
    two = crop_and_resize(one, (16, 64))
    np.testing.assert_array_equal(two.image, one.image[24:40])
    assert (two.edges == IGNORE).all()


def test_a_thin_edge_survives_halving() -> None:
    edges = np.zeros((64, 64), np.uint8)
    edges[:, 20] = 1
    two = crop_and_resize(replace(sample(0), edges=edges), (32, 32))
    assert two.edges.sum() == 32
    assert two.edges[:, 10].all()


def test_the_generator_alone_decides() -> None:
    settings = AugmentSettings(max_zoom=2.0)
    first, again, other = (
        augment(sample(1), (32, 48), settings, np.random.default_rng([0, step, 0])) for step in (5, 5, 6)
    )
    for name in ("image", "depth", "semantics", "normals", "edges"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert (first.image != other.image).any()


def test_everything_off_changes_nothing() -> None:
    one = sample(2)
    two = augment(one, (64, 64), STILL, np.random.default_rng(0))
    for name in ("image", "depth", "semantics", "normals", "edges"):
        np.testing.assert_array_equal(getattr(two, name), getattr(one, name))


def test_jitter_changes_colours_within_their_limits() -> None:
    gray = np.full((4, 4, 3), 100, np.uint8)
    only_brightness = replace(STILL, jitter=1, brightness=0.2, contrast=0, gamma=0, saturation=0, hue_deg=0)
    found = [int(Colours.draw(only_brightness, np.random.default_rng(i))(gray)[0, 0, 0]) for i in range(40)]
    assert 80 <= min(found) < 90
    assert 110 < max(found) <= 120
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 200
    only_hue = replace(STILL, jitter=1, brightness=0, contrast=0, gamma=0, saturation=0, hue_deg=30)
    turned = np.stack([Colours.draw(only_hue, np.random.default_rng(i))(red)[0, 0] for i in range(40)])
    assert (turned[:, 0] == 200).all()  # within 30 degrees of red, red stays the largest
    assert 60 <= turned[:, 1].max() <= 100 and 60 <= turned[:, 2].max() <= 100  # to orange and to pink
