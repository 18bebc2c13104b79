"""Video frames with depth and camera poses, in pairs, for training with two views (CvM, section 4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from m2h_export.data.errors import (
    DatasetError,
    check_size,
    read_gray,
    read_image,
    read_lines,
    require_file,
    require_folder,
)
from m2h_export.data.nyudv2_folder import nyud_intrinsics
from m2h_export.data.sample import Sample
from m2h_runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

POSES_NAME = "poses.txt"
TRAJECTORY_NAMES = ("trajectory.txt", "groundtruth.txt")
_IMAGE_SUFFIXES = (".png", ".jpg", ".ppm")


@dataclass(frozen=True)
class _Frame:
    scene: Path
    image: Path
    world_from_camera: NDArray[np.float64]
    intrinsics: NDArray[np.float64] | None


class NyuV2Video:
    """Frames of one or several scenes; each has depth and a pose.

    Args:
        root: a scene folder (rgb/, depth/ and poses.txt or a TUM trajectory), or a folder of such folders.
        split: names of scenes in SPLIT.txt beside them; without that file "train" is all scenes.
        gap: frames between the two views of a pair.
        depth_unit_m: metres per count of the 16-bit depth files.
        max_stamp_gap_s: a frame takes the trajectory's nearest pose; without one this near it is left out.

    Raises:
        DatasetError: a folder, list or pose file is missing or malformed, or a scene is too short for `gap`.
    """

    def __init__(
        self,
        root: Path,
        split: str = "train",
        *,
        gap: int = 1,
        depth_unit_m: float = 0.001,
        max_stamp_gap_s: float = 0.02,
    ) -> None:
        if gap < 1:
            raise InputError(f"gap {gap}: the two views of a pair are at least 1 frame apart")
        self.root = require_folder(root, "name a scene folder or a folder of scenes")
        self.gap = gap
        self._depth_unit_m = depth_unit_m
        self._frames: list[_Frame] = []
        self._scene_of: list[range] = []  # for each frame
        for scene in _scenes(root, split):
            frames = _read_scene(scene, root, max_stamp_gap_s)
            if len(frames) <= gap:
                raise DatasetError(
                    f"{scene}: {len(frames)} frames with poses are too few for a gap of {gap}; "
                    "take a smaller gap or leave the scene out"
                )
            self._scene_of += [range(len(self._frames), len(self._frames) + len(frames))] * len(frames)
            self._frames += frames

    @property
    def class_names(self) -> tuple[str, ...]:
        """None: the frames have depth only."""
        return ()

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Sample:
        frame = self._frames[index]
        image = read_image(frame.image)
        path = frame.scene / "depth" / f"{frame.image.stem}.png"
        stored = read_gray(path, np.uint16)
        check_size(path, stored, image.shape[:2])
        intrinsics = frame.intrinsics if frame.intrinsics is not None else nyud_intrinsics(image.shape[:2])
        if intrinsics is None:
            raise DatasetError(
                f"{frame.scene / 'intrinsics.txt'}: needed, as the frames are not 480 x 640; "
                "write fx fy cx cy there"
            )
        return Sample(
            f"{frame.scene.name}/{frame.image.stem}",
            image,
            depth=(stored * self._depth_unit_m).astype(np.float32),
            intrinsics=intrinsics,
            world_from_camera=frame.world_from_camera,
        )

    def scene(self, index: int) -> range:
        """The frames of the scene that frame `index` is of, in the order in which they were taken."""
        return self._scene_of[index]

    def pose(self, index: int) -> NDArray[np.float64]:
        """(4, 4) world from camera of frame `index`."""
        return self._frames[index].world_from_camera

    def pair(self, index: int) -> tuple[Sample, Sample]:
        """Frame `index` and the one `gap` later, or earlier where the scene ends; see `views.relative_pose`."""
        index = range(len(self))[index]
        later = index + self.gap
        return self[index], self[later if later in self.scene(index) else index - self.gap]


def _scenes(root: Path, split: str) -> list[Path]:
    if (root / "rgb").is_dir():
        return [root]
    listing = root / f"{split}.txt"
    if listing.is_file():
        names = read_lines(listing, "it lists the scenes of the split, one a line")
        return [require_folder(root / name, f"{listing} lists it; fetch it or take it out") for name in names]
    if split != "train":
        require_file(listing, f"the scenes of the split {split!r} are listed there, one a line")
    scenes = sorted(path.parent for path in root.glob("*/rgb"))
    if not scenes:
        raise DatasetError(f"{root}: neither rgb/ nor SCENE/rgb/ in it; name a folder of video frames")
    return scenes


def _read_scene(scene: Path, root: Path, max_stamp_gap_s: float) -> list[_Frame]:
    require_folder(scene / "depth", "depth of the frames is kept there, 16-bit PNG")
    folder = require_folder(scene / "rgb", "pictures of the frames are kept there")
    images = sorted(path for path in folder.iterdir() if path.suffix in _IMAGE_SUFFIXES)
    if not images:
        raise DatasetError(f"{folder}: no {', '.join(_IMAGE_SUFFIXES)} in it; put the frames there")
    intrinsics = _read_intrinsics(scene, root)
    poses = _read_poses(scene, images, max_stamp_gap_s)
    return [
        _Frame(scene, image, pose, intrinsics)
        for image, pose in zip(images, poses, strict=True)
        if pose is not None
    ]


def _read_intrinsics(scene: Path, root: Path) -> NDArray[np.float64] | None:
    path = next((p for p in (scene / "intrinsics.txt", root / "intrinsics.txt") if p.is_file()), None)
    if path is None:
        return None
    advice = "write fx fy cx cy in pixels there"
    values = _numbers(path, " ".join(read_lines(path, advice)), (4,), advice)
    return np.array([[values[0], 0.0, values[2]], [0.0, values[1], values[3]], [0.0, 0.0, 1.0]])


def _read_poses(
    scene: Path, images: Sequence[Path], max_stamp_gap_s: float
) -> Sequence[NDArray[np.float64] | None]:
    """world_from_camera (4, 4) of each image, None where the trajectory has none."""
    if (scene / POSES_NAME).is_file():
        return _poses_by_line(scene / POSES_NAME, len(images))
    trajectory = next((scene / name for name in TRAJECTORY_NAMES if (scene / name).is_file()), None)
    if trajectory is None:
        raise DatasetError(
            f"{scene / POSES_NAME}: no such file, nor {' or '.join(TRAJECTORY_NAMES)}; pairs need camera poses"
        )
    return _poses_by_stamp(trajectory, images, max_stamp_gap_s)


def _poses_by_line(path: Path, count: int) -> list[NDArray[np.float64]]:
    advice = "write one world_from_camera a line, 12 or 16 numbers, row by row"
    lines = read_lines(path, advice)
    if len(lines) != count:
        raise DatasetError(f"{path}: {len(lines)} poses for {count} frames in rgb; {advice}")
    poses = []
    for number, line in enumerate(lines, 1):
        pose = np.eye(4)
        pose[:3] = _numbers(path, line, (12, 16), advice, number)[:12].reshape(3, 4)
        poses.append(_check_rotation(path, number, pose))
    return poses


def _poses_by_stamp(
    path: Path, images: Sequence[Path], max_stamp_gap_s: float
) -> list[NDArray[np.float64] | None]:
    advice = "the TUM format is: stamp tx ty tz qx qy qz qw, of the camera in the world"
    stamps, poses = [], []
    for number, line in enumerate(read_lines(path, advice), 1):
        if line.startswith("#"):
            continue
        values = _numbers(path, line, (8,), advice, number)
        stamps.append(values[0])
        poses.append(_pose_from_tum(path, number, values))
    if not poses:
        raise DatasetError(f"{path}: has no pose; {advice}")
    times = np.array(stamps)
    found: list[NDArray[np.float64] | None] = []
    for image in images:
        try:
            gaps = np.abs(times - float(image.stem))
        except ValueError as error:
            raise DatasetError(
                f"{image}: a frame is named by its stamp in seconds when poses come from {path.name}; rename it"
            ) from error
        nearest = int(gaps.argmin())
        found.append(poses[nearest] if gaps[nearest] <= max_stamp_gap_s else None)
    return found


def _pose_from_tum(path: Path, line: int, values: NDArray[np.float64]) -> NDArray[np.float64]:
    length = float(np.linalg.norm(values[4:]))
    if abs(length - 1) > 0.01:
        raise DatasetError(
            f"{path}, line {line}: the quaternion has length {length:.3f}, not 1; write qx qy qz qw"
        )
    x, y, z, w = values[4:] / length
    pose = np.eye(4)
    pose[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    pose[:3, 3] = values[1:4]
    return pose


def _check_rotation(path: Path, line: int, pose: NDArray[np.float64]) -> NDArray[np.float64]:
    rotation = pose[:3, :3]
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > 0.01 or np.linalg.det(rotation) < 0:
        raise DatasetError(f"{path}, line {line}: the left 3 x 3 is not a rotation; write world_from_camera")
    return pose


def _numbers(
    path: Path, text: str, counts: tuple[int, ...], advice: str, line: int | None = None
) -> NDArray[np.float64]:
    where = f"{path}" if line is None else f"{path}, line {line}"
    try:
        values = np.array([float(word) for word in text.replace(",", " ").split()])
    except ValueError as error:
        raise DatasetError(f"{where}: {error}; {advice}") from error
    if len(values) not in counts or not np.isfinite(values).all():
        wanted = " or ".join(map(str, counts))
        raise DatasetError(f"{where}: expected {wanted} finite numbers, got {len(values)}; {advice}")
    return values
