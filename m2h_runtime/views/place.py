"""Where the camera was at a frame, as far as anybody knows, and where one place lies seen from another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_runtime.frame import Frame


class Relation(NamedTuple):
    """The way from one place to another.

    Attributes:
        pose: float64 (3, 4), takes points of the first place's optical frame to the second's, metres.
        metric: False: only the rotation is known, and the translation is 0.
    """

    pose: NDArray[np.float64]
    metric: bool


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """What is known about the camera at one frame.

    Attributes:
        world_from_camera: float64 (4, 4), pose of the optical frame; None: unknown.
        chain: frames of one number are joined by gyroscope samples without a gap.
        camera_from_start: float64 (3, 3), takes vectors of the chain's first camera to this one.
    """

    world_from_camera: NDArray[np.float64] | None
    chain: int
    camera_from_start: NDArray[np.float64]

    def relation(self, other: Place) -> Relation | None:
        """From here to `other`: by the poses if both have one, else by the gyroscope; None: neither is there."""
        if self.world_from_camera is not None:
            if other.world_from_camera is None:
                return None
            return Relation(_relative(other.world_from_camera, self.world_from_camera), metric=True)
        if self.chain != other.chain:
            return None
        pose = np.zeros((3, 4))
        pose[:, :3] = other.camera_from_start @ self.camera_from_start.T
        return Relation(pose, metric=False)


def start(frame: Frame, chain: int) -> Place:
    """The place of a frame that no gyroscope joins to the one before."""
    return Place(_pose(frame), chain, np.eye(3))


def follow(before: Place | None, frame: Frame) -> Place:
    """The place of the frame after the one at `before`, which `frame.imu` begins at."""
    if before is None:
        return start(frame, 0)
    turn = None if frame.imu is None or not frame.imu.complete else frame.imu.camera_rotation
    if turn is None:
        return start(frame, before.chain + 1)
    return Place(_pose(frame), before.chain, turn @ before.camera_from_start)


def _pose(frame: Frame) -> NDArray[np.float64] | None:
    """What the source says, unless it is no pose: ground truth has holes that are written as NaN."""
    pose = frame.world_from_camera
    return None if pose is None or not np.isfinite(pose).all() else pose


def _relative(
    world_from_to: NDArray[np.float64], world_from_from: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(3, 4), to_from_from."""
    back = world_from_to[:3, :3].T
    pose = np.empty((3, 4))
    pose[:, :3] = back @ world_from_from[:3, :3]
    pose[:, 3] = back @ (world_from_from[:3, 3] - world_from_to[:3, 3])
    return pose
