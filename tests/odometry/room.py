"""A room of six papered walls, seen from known poses: pictures, depth, labels and rotations, all exact."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

from m2h_runtime.calibration.camera import CameraModel
from m2h_runtime.frame import Frame
from m2h_runtime.imu import so3
from m2h_runtime.imu.window import ImuWindow
from m2h_runtime.label_space import load_label_space
from m2h_runtime.odometry.motion import LEVEL_START
from m2h_runtime.perception import Perception

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CAMERA = CameraModel(320, 240, 230.0, 230.0, 159.5, 119.5)
SIZE = (120, 160)
"""Of the perceptions."""
LOW, HIGH = np.array((-3.0, -2.5, -1.4)), np.array((3.0, 2.5, 1.4))
FPS = 30.0
HUMAN = 20


def paper(seed: int) -> NDArray[np.float32]:
    """Blobs of some centimetres; 100 pixels are a metre."""
    noise = np.random.default_rng(seed).normal(size=(700, 700)).astype(np.float32)
    blobs = cv2.GaussianBlur(noise, (0, 0), 4) * 8 + cv2.GaussianBlur(noise[::-1], (0, 0), 12) * 16
    return np.clip(128 + 60 * blobs, 0, 255)


WALLS = [paper(seed) for seed in range(6)]
COAT = paper(7)


def pose(position: Sequence[float] = (0, 0, 0), turn: Sequence[float] = (0, 0, 0)) -> NDArray[np.float64]:
    """World from camera: at a place, turned from looking along x by a rotation vector in the world, rad."""
    made = LEVEL_START.copy()
    made[:3, :3] = so3.exp(np.array(turn, np.float64)) @ made[:3, :3]
    made[:3, 3] = position
    return made


@lru_cache(maxsize=512)
def _look(camera: CameraModel, at: bytes) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return _rendered(camera, np.frombuffer(at, np.float64).reshape(4, 4))


def look(camera: CameraModel, at: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Gray values and metres along the optical axis, float32 (H, W)."""
    gray, depth = _look(camera, at.tobytes())
    return gray.copy(), depth.copy()


def _rendered(
    camera: CameraModel, at: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rows, columns = np.mgrid[: camera.height, : camera.width].astype(np.float64)
    rays = np.stack(
        ((columns - camera.cx) / camera.fx, (rows - camera.cy) / camera.fy, np.ones_like(rows)), -1
    )
    ways = rays @ at[:3, :3].T
    eye = at[:3, 3]
    with np.errstate(divide="ignore"):
        hits = np.where(ways > 0, HIGH - eye, LOW - eye) / ways
    depth, axis = hits.min(axis=-1), hits.argmin(axis=-1)
    points = eye + ways * depth[..., None]
    gray = np.zeros(depth.shape, np.float32)
    for wall in range(6):
        flat, upper = divmod(wall, 2)
        mask = (axis == flat) & ((np.take_along_axis(ways, axis[..., None], -1)[..., 0] > 0) == bool(upper))
        if not mask.any():
            continue
        across, along = [100 * (points[..., i] + 3.2).astype(np.float32) for i in range(3) if i != flat]
        gray[mask] = cv2.remap(WALLS[wall], across, along, cv2.INTER_LINEAR)[mask]
    return gray, depth.astype(np.float32)


@dataclass
class Walk:
    """Frames and perceptions from given poses, one each 1 / `FPS` s.

    Attributes:
        poses: world from camera.
        gyroscope: each frame but the first has its rotation since the one before, and gravity.
        blank: frames that show a white wall.
        scale: of what the network says about depth.
        visitor: by frame, the column where somebody stands who hides 140 columns; None: nobody.
        labelled: the network sees that it is somebody.
        camera: of the perceptions.
        first_ns: the first stamp.
    """

    poses: Sequence[NDArray[np.float64]]
    gyroscope: bool = True
    blank: range = field(default_factory=lambda: range(0))
    scale: float = 1.0
    visitor: Sequence[int] | None = None
    labelled: bool = True
    camera: CameraModel = field(default_factory=lambda: CAMERA.resized(SIZE))
    first_ns: int = 10**9

    def stamp_ns(self, index: int) -> int:
        return self.first_ns + round(index * 1e9 / FPS)

    def frame(self, index: int, before: int | None = None) -> Frame:
        """With the IMU's window from the frame `before`, by default the one before."""
        gray, _ = look(CAMERA, self.poses[index])
        if index in self.blank:
            gray[:] = 200
        if self.visitor is not None:
            left = self.visitor[index]
            gray[40:, left : left + 140] = COAT[:200, :140]
        noise = np.random.default_rng(index).normal(0, 2, gray.shape)
        image = np.repeat(np.clip(gray + noise, 0, 255).astype(np.uint8)[..., None], 3, axis=-1)
        imu = self.window(index - 1 if before is None else before, index)
        return Frame(image, self.stamp_ns(index), index, camera=CAMERA, imu=imu)

    def window(self, before: int, index: int) -> ImuWindow | None:
        if not self.gyroscope or index == 0:
            return None
        now, then = self.poses[index][:3, :3], self.poses[before][:3, :3]
        stamps_ns = np.array((self.stamp_ns(before), self.stamp_ns(index)))
        return ImuWindow(
            stamps_ns,
            np.zeros((2, 3)),
            np.zeros((2, 3)),
            np.ones(2, np.bool_),
            camera_rotation=now.T @ then,
            gravity=now.T @ (0.0, 0.0, -1.0),
        )

    def perception(self, index: int) -> Perception:
        _, depth = look(self.camera, self.poses[index])
        labels = np.ones(depth.shape, np.uint8)
        if self.visitor is not None:
            left = self.visitor[index] // 2
            depth[20:, left : left + 70] = 1.2
            labels[20:, left : left + 70] = HUMAN if self.labelled else 1
        nothing = np.zeros(depth.shape, np.uint8)
        normals = np.zeros((*depth.shape, 3), np.float32)
        space = load_label_space("nyud20")
        return Perception(depth * np.float32(self.scale), labels, nothing, normals, nothing.copy(), space)
