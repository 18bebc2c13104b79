"""`Calibration`: what is known about one camera, and whether it fits the images that come."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from m2h_runtime.errors import CalibrationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_runtime.calibration.camera import CameraModel

log = logging.getLogger("m2h")

RIGID_TOLERANCE = 1e-3
"""How far from orthonormal a rotation may be; people round matrices when they copy them."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """One camera, and its IMU if it has one. The array is read-only.

    Attributes:
        camera: intrinsics of the raw images.
        frame_id: name of the camera's optical frame; None leaves it to the source.
        camera_from_imu: float64 (4, 4), takes IMU coordinates to the camera's optical frame, metres (Kalibr's
            T_cam_imu); None if unknown.
        imu_time_offset_s: seconds; t_imu = t_camera + offset (Kalibr's timeshift_cam_imu).
        depth_scale: measured factor on this camera's depth; see `depth.depth_factor`.
        name: what a person calls the camera.

    Raises:
        CalibrationError: `camera_from_imu` is no rotation with a translation, the offset is not finite or the scale
            not positive.
    """

    camera: CameraModel
    frame_id: str | None = None
    camera_from_imu: NDArray[np.float64] | None = None
    imu_time_offset_s: float = 0.0
    depth_scale: float = 1.0
    name: str = ""

    def __post_init__(self) -> None:
        """Check the numbers and make the array read-only."""
        if not np.isfinite(self.imu_time_offset_s):
            raise CalibrationError(
                f"calibration: the IMU's time offset {self.imu_time_offset_s} is not finite"
            )
        if not (np.isfinite(self.depth_scale) and self.depth_scale > 0):
            raise CalibrationError(f"calibration: depth_scale {self.depth_scale} is not a positive number")
        if self.camera_from_imu is not None:
            _check_rigid(self.camera_from_imu)
            self.camera_from_imu.setflags(write=False)


def load_calibration(path: str | Path) -> Calibration:
    """Read a Kalibr camchain (`camchain.yaml`, `camchain-imucam.yaml`) or a ROS camera_info file.

    A camchain's first camera is cam0; `camchain.yaml#cam1` names another.

    Raises:
        CalibrationError: the file cannot be read, is neither format, or has a missing, unknown or wrong entry; the
            message names file and key.
    """
    from m2h_runtime.calibration import camera_info, kalibr  # they make what is defined here
    from m2h_runtime.calibration.entries import read_entries

    file, _, camera = str(path).partition("#")
    entries = read_entries(Path(file))
    if kalibr.recognises(entries):
        return kalibr.parse(entries, camera or "cam0")
    if not camera_info.recognises(entries):
        raise CalibrationError(
            f"{file}: has neither cam0 (a Kalibr camchain) nor camera_matrix (a ROS camera_info file); "
            "m2h-calibrate makes both"
        )
    if camera:
        raise CalibrationError(f"{path}: is a camera_info file, which holds one camera; leave out #{camera}")
    return camera_info.parse(entries)


def check_fits(calibration: Calibration, image_size: tuple[int, int]) -> Calibration:
    """The calibration for images of `image_size` = (H, W): itself, or scaled if the aspect ratio is the same.

    Scaling is logged: it is right only if the camera scales its picture and does not cut another window out.

    Raises:
        CalibrationError: the aspect ratio is another one.
    """
    camera, (height, width) = calibration.camera, image_size
    if camera.size == image_size:
        return calibration
    what = f"calibration {calibration.name}".rstrip()
    if camera.width * height != camera.height * width:
        raise CalibrationError(
            f"{what}: is for {camera.width}x{camera.height}, the images are {width}x{height} and have another "
            "aspect ratio; calibrate at that size with m2h-calibrate, or set the camera to the calibrated one"
        )
    log.warning(
        "%s: is for %dx%d, scaled to %dx%d; right if the camera shows the same view at both sizes",
        *(what, camera.width, camera.height, width, height),
    )
    return replace(calibration, camera=camera.resized(image_size))


def _check_rigid(transform: NDArray[np.float64]) -> None:
    rotation = transform[:3, :3]
    if (
        transform.shape != (4, 4)
        or not np.allclose(rotation @ rotation.T, np.eye(3), atol=RIGID_TOLERANCE)
        or np.linalg.det(rotation) < 0
        or not np.array_equal(transform[3], (0, 0, 0, 1))
    ):
        raise CalibrationError(
            "calibration: T_cam_imu is not a rotation with a translation; "
            "give 4 rows of 4 numbers, the last 0 0 0 1"
        )
