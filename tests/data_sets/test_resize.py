from __future__ import annotations

import numpy as np
import pytest

from m2h_export.data.errors import DatasetError
from m2h_export.data.resize import resize_sample
from m2h_export.data.sample import IGNORE, Sample


def sample_of(size: tuple[int, int]) -> Sample:
    rows, columns = np.indices(size)
    numbers = (rows * size[1] + columns).astype(np.uint8)
    normals = np.zeros((*size, 3), np.float32)
    normals[..., 2] = -1
    normals[0, 0] = 0
    return Sample(
        "one",
        np.repeat(numbers[..., None], 3, axis=2),
        depth=numbers.astype(np.float32),
        semantics=numbers,
        normals=normals,
        edges=np.zeros(size, np.uint8),
        extra={"saliency": numbers},
        intrinsics=np.array([[10.0, 0.0, 3.0], [0.0, 12.0, 2.0], [0.0, 0.0, 1.0]]),
        world_from_camera=np.eye(4),
    )


def test_shrinking_averages_the_image_and_picks_truth() -> None:
    small = resize_sample(sample_of((4, 8)), (2, 2))
    # Mean of rows 0, 1 and columns 0..3 of 8 r + c: 4 + 1.5, rounded to even by OpenCV.
    assert small.image[0, 0, 0] in (5, 6)
    assert small.semantics is not None
    assert small.depth is not None
    # Centres of the targets fall on rows 1, 3 and columns 2, 6 of the source.
    assert small.semantics.tolist() == [[10, 14], [26, 30]]
    assert small.depth.tolist() == [[10.0, 14.0], [26.0, 30.0]]
    assert small.extra["saliency"].tolist() == [[10, 14], [26, 30]]
    assert small.world_from_camera is not None


def test_a_point_projects_to_the_same_place_of_the_picture() -> None:
    before, after = sample_of((4, 8)), resize_sample(sample_of((4, 8)), (6, 4))
    assert before.intrinsics is not None
    assert after.intrinsics is not None
    point = np.array([0.2, -0.1, 1.0])
    u0, v0, _ = before.intrinsics @ point
    u1, v1, _ = after.intrinsics @ point
    assert (u1 + 0.5) / 4 == pytest.approx((u0 + 0.5) / 8)
    assert (v1 + 0.5) / 6 == pytest.approx((v0 + 0.5) / 4)


def test_unknown_normals_stay_exactly_zero() -> None:
    large = resize_sample(sample_of((4, 4)), (8, 8))
    assert large.normals is not None
    assert not large.normals[:2, :2].any()
    np.testing.assert_array_equal(np.linalg.norm(large.normals, axis=2)[2:, 2:], 1.0)


@pytest.mark.parametrize("column", range(9))
def test_a_thin_boundary_survives_shrinking(column: int) -> None:
    edges = np.zeros((6, 9), np.uint8)
    edges[:, column] = 1
    sample = Sample("line", np.zeros((6, 9, 3), np.uint8), edges=edges)
    small = resize_sample(sample, (3, 4)).edges
    assert small is not None
    expected = np.zeros((3, 4), np.uint8)
    expected[:, (2 * column + 1) * 4 // 18] = 1
    np.testing.assert_array_equal(small, expected)


def test_unknown_boundaries_stay_unknown() -> None:
    sample = Sample("void", np.zeros((4, 4, 3), np.uint8), edges=np.full((4, 4), IGNORE, np.uint8))
    edges = resize_sample(sample, (2, 3)).edges
    assert edges is not None
    assert (edges == IGNORE).all()


def test_an_empty_size_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"size \(0, 4\)"):
        resize_sample(sample_of((4, 4)), (0, 4))
