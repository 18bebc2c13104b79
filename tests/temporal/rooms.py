"""A box of a room with exact depth and labels from any pose, and frames that know where they were taken."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from stand_ins import Clock

from m2h_runtime.calibration.camera import CameraModel
from m2h_runtime.frame import Frame
from m2h_runtime.imu import so3
from m2h_runtime.imu.window import ImuWindow
from m2h_runtime.label_space import load_label_space
from m2h_runtime.perception import Perception
from m2h_runtime.pipeline.health import Health
from m2h_runtime.temporal import Alignment

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_runtime.temporal import AlignmentSettings

FPS = 15
CAMERA = CameraModel(96, 64, 70.0, 70.0, 47.5, 31.5)
SPACE = load_label_space("nyud20")
WALL, FLOOR, CEILING, SHELF, HUMAN = 1, 2, 3, 7, 20
ROOM_M = np.array([[-2.5, -1.5, -2.0], [2.5, 1.2, 4.0]])
"""Low and high corner; x right, y down, z forward as a camera at the origin sees it."""
LABELS = np.array([[WALL, CEILING, WALL], [SHELF, FLOOR, WALL]])


def pose(
    x: float = 0.0, y: float = 0.0, z: float = 0.0, turn: tuple[float, float, float] = (0, 0, 0)
) -> NDArray:
    """World from camera, (4, 4); `turn` is a rotation vector, rad."""
    matrix = np.eye(4)
    matrix[:3, :3] = so3.exp(np.array(turn, np.float64))
    matrix[:3, 3] = x, y, z
    return matrix


def walk(count: int) -> list[NDArray]:
    """Ahead at 0.5 m/s with sway and turns."""
    times = np.arange(count) / FPS
    return [
        pose(
            0.1 * np.sin(2 * t),
            0.03 * np.sin(5 * t),
            0.5 * t,
            (0.1 * np.sin(t), 0.4 * np.sin(t), 0.05 * np.sin(3 * t)),
        )
        for t in times
    ]


def room(world_from_camera: NDArray, camera: CameraModel = CAMERA) -> tuple[NDArray, NDArray]:
    """Depth, float32 (H, W), metres, and labels, uint8 (H, W), of the room's six faces."""
    v, u = np.indices(camera.size, np.float64)
    rays = np.stack(((u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones(camera.size)), -1)
    rays = rays @ world_from_camera[:3, :3].T
    away = (rays > 0).astype(int)  # which face of each axis is ahead
    with np.errstate(divide="ignore"):
        reach = (
            np.take_along_axis(ROOM_M, away.reshape(-1, 3), 0).reshape(rays.shape) - world_from_camera[:3, 3]
        ) / rays
    axis = np.abs(reach).argmin(-1)
    depth = np.take_along_axis(reach, axis[..., None], -1)[..., 0]
    label = LABELS[np.take_along_axis(away, axis[..., None], -1)[..., 0], axis]
    return depth.astype(np.float32), label.astype(np.uint8)


def perception(depth: NDArray, labels: NDArray | int = WALL, confidence: int = 200) -> Perception:
    """A perception of that, with normals and edges that say nothing."""
    size = depth.shape
    normals = np.zeros((*size, 3), np.float32)
    normals[..., 2] = -1
    return Perception(
        np.ascontiguousarray(depth, np.float32),
        np.broadcast_to(np.asarray(labels, np.uint8), size).copy(),
        np.full(size, confidence, np.uint8),
        normals,
        np.zeros(size, np.uint8),
        SPACE,
    )


def window(turned: NDArray, complete: bool = True) -> ImuWindow:
    """The gyroscope's: `turned` (3, 3) takes vectors of the earlier camera to the later one."""
    nothing = np.zeros((2, 3))
    return ImuWindow(
        np.array((0, 1)), nothing, nothing, np.ones(2, bool), complete=complete, camera_rotation=turned
    )


class Stream:
    """An `Alignment` that is given frames 1 / `FPS` s apart.

    Attributes:
        said: by frame, its health's text.
    """

    def __init__(
        self, settings: AlignmentSettings | None = None, camera: CameraModel | None = CAMERA
    ) -> None:
        self.clock = Clock()
        self.health = Health(clock=self.clock)
        self.alignment = Alignment(settings, self.health, self.clock)
        self.camera = camera
        self.stamp_ns = 10**9
        self.sequence = 0
        self.said: list[str] = []

    def step(
        self,
        seen: Perception,
        where: NDArray | None,
        imu: ImuWindow | None = None,
        after_s: float = 1 / FPS,
        image: NDArray | None = None,
        **more: float,
    ) -> Perception:
        self.stamp_ns += round(1e9 * after_s)
        self.clock.forward(1000 * after_s)
        self.sequence += 1
        image = np.zeros((*seen.size, 3), np.uint8) if image is None else image
        frame = Frame(image, self.stamp_ns, self.sequence, imu=imu, world_from_camera=where)
        out = self.alignment.align(seen.stamped(frame), frame, self.camera, **more)
        self.said.append(self.health.parts()["alignment"].text)
        return out

    @property
    def frames(self) -> dict[str, int]:
        return self.alignment.report()["frames"]

    @property
    def changes(self) -> list[str]:
        return [change.condition.text for change in self.health.transitions]


def noisy(depth: NDArray, rng: np.random.Generator, share: float) -> NDArray:
    """`depth` with normal noise of `share` of it."""
    return (depth * (1 + share * rng.standard_normal(depth.shape))).astype(np.float32)


def with_labels(seen: Perception, labels: NDArray) -> Perception:
    return replace(seen, semantics=labels.astype(np.uint8))
