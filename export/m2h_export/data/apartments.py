"""Simulated apartments, as `m2h-sim` writes them (`m2h_runtime.simulation.dataset` has the layout)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import yaml

from m2h_export.data.errors import DatasetError
from m2h_export.data.sample import IGNORE, Sample
from m2h_runtime.label_space import load_label_map, load_label_space
from m2h_runtime.simulation.dataset import DEPTH_UNIT_M, NORMAL_SCALE
from m2h_runtime.simulation.episode import reserved_seeds
from m2h_runtime.simulation.renderer import boundaries

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


class Apartments:
    """Every frame of every episode of a split; classes are those of NYUD20, with unknown at 0.

    Args:
        root: the folder that `m2h-sim --out` was given.
        split: "train", "val" or "test".

    Raises:
        DatasetError: no such folder, no episodes, an episode without its description, or an apartment that is
            reserved for judging in the training split.
    """

    def __init__(self, root: Path, split: str = "train") -> None:
        folder = root / split
        if not folder.is_dir():
            raise DatasetError(f"{folder}: no such folder; make it: m2h-sim --split {split} --out {root}")
        self.root, self.split = root, split
        self._frames: list[tuple[Path, int]] = []
        self._scene_of: list[range] = []  # for each frame, those of its episode
        self._cameras: dict[Path, NDArray[np.float64]] = {}
        kept = {seed for name, seeds in reserved_seeds().items() if name != split for seed in seeds}
        for episode in sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != "."):
            settings = _settings(episode)
            if settings["seed"] in kept:
                raise DatasetError(
                    f"{episode}: apartment {settings['seed']} is reserved for judging and cannot be in {split}; "
                    "remove it"
                )
            camera = settings["camera"]
            self._cameras[episode] = np.array(
                [[camera["fx"], 0, camera["cx"]], [0, camera["fy"], camera["cy"]], [0, 0, 1.0]]
            )
            count, first = int(settings["frames"]), len(self._frames)
            self._frames += [(episode, index) for index in range(count)]
            self._scene_of += [range(first, first + count)] * count
        if not self._frames:
            raise DatasetError(f"{folder}: no episodes; make some: m2h-sim --split {split} --out {root}")

    @property
    def class_names(self) -> tuple[str, ...]:
        """NYUD20's 21, unknown first; it never occurs as truth."""
        return load_label_space("nyud20").classes

    def __len__(self) -> int:
        return len(self._frames)

    def scene(self, index: int) -> range:
        """The frames of the episode that frame `index` is of; walk before stills."""
        return self._scene_of[index]

    def pose(self, index: int) -> NDArray[np.float64]:
        """(4, 4) world from camera of frame `index`."""
        episode, number = self._frames[index]
        return np.asarray(_poses(episode)[number])

    def __getitem__(self, index: int) -> Sample:
        """Raises DatasetError: a file of the frame is missing or is not what it should be."""
        episode, number = self._frames[index]
        file = f"{number:06d}.png"
        image = _read(episode / "rgb" / file, np.uint8, 3)[..., ::-1]
        size = image.shape[:2]
        depth = _read(episode / "depth" / file, np.uint16, 1, size)
        labels = _read(episode / "labels" / file, np.uint8, 1, size)
        packed = _read(episode / "normals" / file, np.uint16, 3, size)[..., ::-1].astype(np.float32)
        known = labels > 0
        normals = packed / np.float32(NORMAL_SCALE) - 1
        normals[packed.max(axis=2) == 0] = 0
        labels20 = load_label_map("nyudv2_40", "nyud20")[labels]
        return Sample(
            f"{episode.name}/{number:06d}",
            np.ascontiguousarray(image),
            depth.astype(np.float32) * np.float32(DEPTH_UNIT_M),
            np.where(known, labels20, np.uint8(IGNORE)),
            np.asarray(normals, np.float32),
            boundaries(labels20),
            intrinsics=self._cameras[episode],
            world_from_camera=self.pose(index),
        )


def _settings(episode: Path) -> dict[str, Any]:
    file = episode / "episode.yaml"
    try:
        settings = yaml.safe_load(file.read_text(encoding="utf-8"))
        _ = settings["seed"], settings["frames"], settings["camera"]["fx"]
    except OSError as error:
        raise DatasetError(f"{file}: missing; remove the folder and run m2h-sim again") from error
    except (yaml.YAMLError, TypeError, KeyError) as error:
        raise DatasetError(f"{file}: damaged ({error}); remove the folder and run m2h-sim again") from error
    return dict(settings)


@lru_cache(maxsize=1024)
def _poses(episode: Path) -> NDArray[np.float64]:
    """(N, 4, 4) world from camera, from lines of stamp tx ty tz qx qy qz qw."""
    file = episode / "frames.txt"
    try:
        rows = np.loadtxt(file, ndmin=2)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{file}: missing or damaged; remove the folder and run m2h-sim again") from error
    x, y, z, w = rows[:, 4:8].T
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    poses[:, :3, 0] = np.stack([1 - 2 * (y * y + z * z), 2 * (x * y + z * w), 2 * (x * z - y * w)], axis=1)
    poses[:, :3, 1] = np.stack([2 * (x * y - z * w), 1 - 2 * (x * x + z * z), 2 * (y * z + x * w)], axis=1)
    poses[:, :3, 2] = np.stack([2 * (x * z + y * w), 2 * (y * z - x * w), 1 - 2 * (x * x + y * y)], axis=1)
    poses[:, :3, 3] = rows[:, 1:4]
    return poses


def _read(path: Path, dtype: type, channels: int, size: tuple[int, ...] | None = None) -> NDArray[Any]:
    array = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if array is None:
        raise DatasetError(
            f"{path}: missing or no picture; remove the episode's folder and run m2h-sim again"
        )
    found = 1 if array.ndim == 2 else array.shape[2]
    if array.dtype != dtype or found != channels or (size is not None and array.shape[:2] != size):
        raise DatasetError(
            f"{path}: expected {np.dtype(dtype).name} with {channels} channels of size {size or 'any'}, "
            f"got {array.dtype} {array.shape}; remove the episode's folder and run m2h-sim again"
        )
    return np.asarray(array)
