"""A sample at another size, with its geometry kept true."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from m2h_export.data.errors import DatasetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_export.data.sample import DenseDataset, Sample
    from m2h_export.data.views import PosedDataset


def resize_sample(sample: Sample, size: tuple[int, int]) -> Sample:
    """`sample` stretched to `size` (height, width).

    The image is averaged over areas when both sides shrink and bilinear otherwise. Depth, labels and normals take
    the nearest source pixel, so no value is invented across a depth jump. Boundaries are thin: when a side
    shrinks, a target pixel is on the boundary if any of its source pixels is. Depth and normals stay as measured
    even if the aspect ratio changes, because the intrinsics change with it.

    Raises:
        DatasetError: `size` is not positive.
    """
    if min(size) < 1:
        raise DatasetError(f"size {size}: height and width must be at least 1; give e.g. (224, 224)")
    if sample.image.shape[:2] == size:
        return sample
    return replace(
        sample,
        image=_resize_image(sample.image, size),
        depth=_optional(sample.depth, size),
        semantics=_optional(sample.semantics, size),
        normals=_optional(sample.normals, size),
        edges=None if sample.edges is None else _shrink_edges(sample.edges, size),
        extra={name: _nearest(values, size) for name, values in sample.extra.items()},
        intrinsics=_scale_intrinsics(sample.intrinsics, sample.image.shape, size),
    )


class ResizedDataset:
    """`dataset` with every sample at `size` (height, width)."""

    def __init__(self, dataset: DenseDataset, size: tuple[int, int]) -> None:
        self.dataset = dataset
        self.size = size

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of `Sample.semantics`, in the order of its indices."""
        return self.dataset.class_names

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        return resize_sample(self.dataset[index], self.size)


class ResizedPosedDataset(ResizedDataset):
    """The same of a data set with poses, which stay as they are."""

    dataset: PosedDataset

    def scene(self, index: int) -> range:
        """As `PosedDataset`."""
        return self.dataset.scene(index)

    def pose(self, index: int) -> NDArray[np.float64] | None:
        """As `PosedDataset`."""
        return self.dataset.pose(index)


def _resize_image(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    shrinks = size[0] <= image.shape[0] and size[1] <= image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size[::-1], interpolation=method), np.uint8)


def _optional(values: NDArray[Any] | None, size: tuple[int, int]) -> NDArray[Any] | None:
    return None if values is None else _nearest(values, size)


def _nearest(values: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Nearest by pixel centres; OpenCV's INTER_NEAREST is half a pixel off."""
    rows = _source_indices(values.shape[0], size[0])
    columns = _source_indices(values.shape[1], size[1])
    return np.ascontiguousarray(values[rows[:, None], columns])


def _source_indices(source: int, target: int) -> NDArray[np.int64]:
    return ((2 * np.arange(target) + 1) * source) // (2 * target)


def _shrink_edges(edges: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    on_edge = edges == 1
    for axis in (0, 1):
        if size[axis] < edges.shape[axis]:
            # Each source pixel belongs to the target pixel that its centre falls into.
            starts = -((size[axis] - 2 * edges.shape[axis] * np.arange(size[axis])) // (2 * size[axis]))
            on_edge = np.logical_or.reduceat(on_edge, starts, axis=axis)
    near = _nearest(edges, size)
    return np.where(_nearest(on_edge, size), 1, np.where(near == 1, 0, near)).astype(np.uint8)


def _scale_intrinsics(
    intrinsics: NDArray[np.float64] | None, shape: tuple[int, ...], size: tuple[int, int]
) -> NDArray[np.float64] | None:
    """Pixel centres are at integers, so the corner -0.5 is what stays: u' = (u + 0.5) s - 0.5."""
    if intrinsics is None:
        return None
    scale_y, scale_x = size[0] / shape[0], size[1] / shape[1]
    scale = np.array(
        [[scale_x, 0.0, 0.5 * scale_x - 0.5], [0.0, scale_y, 0.5 * scale_y - 0.5], [0.0, 0.0, 1.0]]
    )
    return np.asarray(scale @ intrinsics, np.float64)
