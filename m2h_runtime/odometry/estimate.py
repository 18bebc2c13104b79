"""`Estimate`: where the camera is, and how far that can be believed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from m2h_runtime.arrays import check_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_runtime.frame import Frame

State = Literal["starting", "tracking", "lost"]


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """The camera at one frame. The arrays are read-only.

    Attributes:
        stamp_ns: the frame's.
        frame_id: the camera's optical frame.
        world_from_camera: float64 (4, 4), metres. The world begins at the first frame, which looks along x, and has z
            up if the IMU knows gravity; else the first picture is taken for level. While lost: the last known position,
            turned by the gyroscope.
        covariance: float64 (6, 6) of x, y, z in m^2 and of rotations about the world's axes in rad^2, since the start.
        quality: 0 (do not use it) to 1, of this frame alone: drift is in `covariance`.
        state: "starting" (nothing is mapped yet), "tracking" or "lost".
        why: for a person, the same words from frame to frame; "" where there is nothing to explain.
        segment: counts up when it was lost: poses of two segments are not joined to each other.
        inliers: landmarks that agree with the pose.
        residual_px: median distance between them and their landmarks in the picture, which is `odometry.visual.WIDTH`
            pixels wide; 0 if not tracking.
        disagreement_rad: between the pictures' rotation since the frame before and the gyroscope's; None without it.
    """

    stamp_ns: int
    frame_id: str
    world_from_camera: NDArray[np.float64]
    covariance: NDArray[np.float64]
    quality: float
    state: State
    why: str = ""
    segment: int = 0
    inliers: int = 0
    residual_px: float = 0.0
    disagreement_rad: float | None = None

    def __post_init__(self) -> None:
        """Check the arrays and make them read-only."""
        check_array("pose", self.world_from_camera, np.float64, (4, 4))
        check_array("covariance", self.covariance, np.float64, (6, 6))
        self.world_from_camera.setflags(write=False)
        self.covariance.setflags(write=False)

    @classmethod
    def given(cls, frame: Frame) -> Estimate | None:
        """What the source itself says: its pose, taken for exact; None where it says nothing."""
        if frame.world_from_camera is None:
            return None
        pose = frame.world_from_camera.copy()
        return cls(frame.stamp_ns, frame.frame_id, pose, np.zeros((6, 6)), 1.0, "tracking")

    @property
    def tracking(self) -> bool:
        """The pose may be used."""
        return self.state == "tracking"
