"""`Frame`: what a source hands to the pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from m2h_runtime.arrays import check_array
from m2h_runtime.errors import ContractError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_runtime.calibration.camera import CameraModel
    from m2h_runtime.imu.window import ImuWindow


@dataclass(frozen=True, slots=True)
class Frame:
    """One camera image on its way to the engine.

    Attributes:
        image: uint8 (H, W, 3), RGB, at the camera's size.
        stamp_ns: when the image was taken, integer nanoseconds. Of a live source since the Unix epoch (as ROS has it),
            or on the clock of whoever stamped it; of a recording as recorded. What is published carries this stamp.
        sequence: counts up by one per image that the source delivered, from 0.
        frame_id: name of the camera's optical frame (x right, y down, z forward).
        name: what a person would call this image (a file name), or "".
        taken_ns: the same instant on `time.monotonic_ns`, for ages and deadlines; None: a recording, which has no age.
        camera: intrinsics of `image`, if known.
        imu: the motion since the previous frame that the engine saw, if there is an IMU.
        world_from_camera: float64 (4, 4), pose of the camera's optical frame, if the source knows it.
    """

    image: NDArray[np.uint8]
    stamp_ns: int
    sequence: int
    frame_id: str = "camera_optical_frame"
    name: str = ""
    taken_ns: int | None = None
    camera: CameraModel | None = None
    imu: ImuWindow | None = None
    world_from_camera: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        """Check the image and make it read-only."""
        check_array("frame image", self.image, np.uint8, (None, None, 3))
        self.image.setflags(write=False)
        if self.camera is not None and self.camera.size != self.image.shape[:2]:
            raise ContractError(
                f"frame: its camera model is for {self.camera.width}x{self.camera.height}, "
                f"the image is {self.image.shape[1]}x{self.image.shape[0]}"
            )
