"""Several views of one static scene, from data sets whose samples have poses.

A neighbour is a frame of the same scene, some frames before or after, from which much of the view can be seen and which
was taken from somewhere else. Whoever has none is alone: its own neighbour, with the identity pose (CvM, section 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from m2h_export.data.errors import DatasetError
from m2h_export.data.sample import DenseDataset
from m2h_runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from m2h_export.data.sample import Sample

MAX_VIEWS = 4
"""That the networks take."""

_GRID = 16  # points across and down that stand for a picture
_ANY_CAMERA = (1.0, 1.0, 0.0, 0.0)  # with the identity pose every camera gives the identity


@runtime_checkable
class PosedDataset(DenseDataset, Protocol):
    """A data set of scenes in which only the camera moves."""

    def scene(self, index: int) -> range:
        """The samples of the scene that sample `index` is of, in the order in which they were taken."""

    def pose(self, index: int) -> NDArray[np.float64] | None:
        """(4, 4) world from camera of sample `index`, without reading its files; None where it has none."""


@dataclass(frozen=True)
class ViewSettings:
    """How many views a training or an evaluation takes together, and which.

    Attributes:
        count: V; 1 is single view.
        gap: nearest and farthest neighbour, in frames.
        min_overlap: share of the view's known depths that have to lie in the neighbour's picture, 0..1.
        baseline_m: nearest and farthest place of the neighbour's camera, metres.
    """

    count: int = 1
    gap: tuple[int, int] = (1, 10)
    min_overlap: float = 0.4
    baseline_m: tuple[float, float] = (0.05, 1.5)

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MAX_VIEWS:
            raise InputError(f"views.count: {self.count} views; give 1 to {MAX_VIEWS}")
        if not 1 <= self.gap[0] <= self.gap[1]:
            raise InputError(f"views.gap: {list(self.gap)}; give the nearest, from 1 up, and the farthest")
        if not 0 <= self.min_overlap <= 1:
            raise InputError(f"views.min_overlap: {self.min_overlap} must be in 0..1")
        if not 0 <= self.baseline_m[0] <= self.baseline_m[1]:
            raise InputError(f"views.baseline_m: {list(self.baseline_m)}; give the nearest and the farthest")


def relative_pose(first: Sample, second: Sample) -> NDArray[np.float64]:
    """(4, 4) second_from_first: a point in the first camera's optical frame, seen by the second camera.

    Raises:
        DatasetError: a sample has no pose.
    """
    if first.world_from_camera is None or second.world_from_camera is None:
        raise DatasetError(f"{first.name}, {second.name}: a relative pose needs the poses of both")
    return np.asarray(np.linalg.solve(second.world_from_camera, first.world_from_camera), np.float64)


def overlap(sample: Sample, neighbour_from_camera: NDArray[np.float64]) -> float:
    """Share of a sample's known depths that lie in the picture of an equal camera at the neighbour's place.

    What stands between is not looked at. 1 for a sample without depth: nothing speaks against it.

    Args:
        sample: with intrinsics.
        neighbour_from_camera: (4, 4).
    """
    if sample.depth is None or sample.intrinsics is None:
        return 1.0
    height, width = sample.depth.shape
    v, u = (axis.ravel() for axis in np.meshgrid(_spread(height), _spread(width), indexing="ij"))
    depth = sample.depth[v, u].astype(np.float64)
    known = depth > 0
    if not known.any():
        return 1.0
    rays = np.linalg.solve(sample.intrinsics, np.stack([u, v, np.ones_like(u)])[:, known])
    points = neighbour_from_camera[:3, :3] @ (rays * depth[known]) + neighbour_from_camera[:3, 3:]
    x, y, z = sample.intrinsics @ points
    front = z > 0
    z = np.where(front, z, 1.0)
    inside = (np.abs(2 * x / z - (width - 1)) <= width) & (np.abs(2 * y / z - (height - 1)) <= height)
    return float((front & inside).mean())


def _spread(length: int) -> NDArray[np.int64]:
    step = max(1, length // _GRID)
    return np.arange(step // 2, length, step)


class Views:
    """Views of a data set: a sample and its neighbours.

    Args:
        dataset: whose samples are the first views; where it has no poses, every sample is alone.
        settings: how many, and which.
    """

    def __init__(self, dataset: DenseDataset, settings: ViewSettings) -> None:
        self.dataset, self.settings = dataset, settings
        self._posed = dataset if isinstance(dataset, PosedDataset) else None

    def drawn(self, index: int, rng: np.random.Generator) -> list[Sample]:
        """Sample `index` and up to `count` - 1 neighbours, drawn from all that fit; it may be alone."""
        candidates = self._candidates(index)
        return self._with(index, [candidates[i] for i in rng.permutation(len(candidates))])

    def nearest(self, index: int) -> list[Sample]:
        """Sample `index` and up to `count` - 1 neighbours, the nearest in time that fit, earlier before later."""
        return self._with(index, sorted(self._candidates(index), key=lambda i: (abs(i - index), i)))

    def _with(self, index: int, candidates: Sequence[int]) -> list[Sample]:
        first = self.dataset[index]
        fitting = (i for i in candidates if self._fits(first, i))
        return [first, *(self.dataset[i] for i in islice(fitting, self.settings.count - 1))]

    def _candidates(self, index: int) -> list[int]:
        if self.settings.count == 1 or self._posed is None:
            return []
        low, high = self.settings.gap
        return [i for i in self._posed.scene(index) if low <= abs(i - index) <= high]

    def _fits(self, first: Sample, index: int) -> bool:
        pose = self._posed.pose(index) if self._posed is not None else None
        if pose is None or first.world_from_camera is None:
            return False
        there = np.asarray(np.linalg.solve(pose, first.world_from_camera), np.float64)
        near_m, far_m = self.settings.baseline_m
        baseline = float(np.linalg.norm(pose[:3, 3] - first.world_from_camera[:3, 3]))
        return near_m <= baseline <= far_m and overlap(first, there) >= self.settings.min_overlap


def filled(views: Sequence[Sample], count: int) -> list[Sample]:
    """Exactly `count` views: neighbours that are too few are repeated; a sample alone is its own neighbour."""
    return [views[0], *islice(cycle(views[1:] or views), count - 1)]


def poses_between(views: Sequence[Sample]) -> NDArray[np.float32]:
    """(V, V, 4, 4), [i, j] takes points of camera i to camera j, metres; exactly the identity between the same sample.

    Raises:
        DatasetError: two different samples, and one has no pose.
    """
    poses = [np.eye(4) if a is b else relative_pose(a, b) for a in views for b in views]
    return np.reshape(poses, (len(views), len(views), 4, 4)).astype(np.float32)


def cameras_of(views: Sequence[Sample]) -> NDArray[np.float32]:
    """(V, 4) fx, fy, cx, cy in pixels; any camera for a sample that has none, which is always alone."""
    cameras = [
        _ANY_CAMERA if v.intrinsics is None else v.intrinsics[(0, 1, 0, 1), (0, 1, 2, 2)] for v in views
    ]
    return np.array(cameras, np.float32)


class MixedDataset:
    """Several data sets as one, such as labelled stills and video frames that have depth alone.

    Args:
        datasets: with the class names of the first, or without classes.

    Raises:
        InputError: two have different classes.
    """

    def __init__(self, datasets: Sequence[DenseDataset]) -> None:
        self.datasets = list(datasets)
        named = [dataset.class_names for dataset in self.datasets if dataset.class_names]
        if any(names != named[0] for names in named):
            raise InputError(
                "data.also: a data set has other classes than the first; take sets of the same ones"
            )
        self.class_names: tuple[str, ...] = named[0] if named else ()
        self._starts = np.cumsum([0, *(len(dataset) for dataset in self.datasets)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> Sample:
        dataset, start = self._of(index)
        return dataset[index - start]

    def scene(self, index: int) -> range:
        """As `PosedDataset`; a sample of a data set without poses is a scene of its own."""
        dataset, start = self._of(index)
        if not isinstance(dataset, PosedDataset):
            return range(index, index + 1)
        scene = dataset.scene(index - start)
        return range(scene.start + start, scene.stop + start)

    def pose(self, index: int) -> NDArray[np.float64] | None:
        """As `PosedDataset`."""
        dataset, start = self._of(index)
        return dataset.pose(index - start) if isinstance(dataset, PosedDataset) else None

    def _of(self, index: int) -> tuple[DenseDataset, int]:
        which = int(np.searchsorted(self._starts, range(len(self))[index], side="right")) - 1
        return self.datasets[which], int(self._starts[which])
