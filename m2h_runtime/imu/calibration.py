"""`ImuCalibration`: where the IMU sits on the camera, how its clock runs, and what it adds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from m2h_runtime.errors import CalibrationError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class ImuCalibration:
    """What is known about the IMU before the first sample.

    Attributes:
        camera_from_imu: float64 (4, 4), takes IMU coordinates to the camera's optical frame (Kalibr's T_cam_imu); None:
            unknown, so there are no rotations and no gravity in the camera's frame.
        time_offset_s: added to a camera stamp it gives the IMU's stamp of that instant (Kalibr's timeshift_cam_imu).
        gyro_bias: float64 (3,), rad/s, from the data sheet or an earlier run; all zero: unknown.
        nominal_rate_hz: samples per second that the driver should deliver; None: learned from the first ones.
        frame_id: name of the IMU's frame.

    Raises:
        CalibrationError: a number is not finite, the transform is not rigid or the rate not positive.
    """

    camera_from_imu: NDArray[np.float64] | None = None
    time_offset_s: float = 0.0
    gyro_bias: tuple[float, float, float] = (0.0, 0.0, 0.0)
    nominal_rate_hz: float | None = None
    frame_id: str = "imu_link"

    def __post_init__(self) -> None:
        """Check every number."""
        if self.camera_from_imu is not None and not _rigid(self.camera_from_imu):
            raise CalibrationError(
                "imu: camera_from_imu is no rigid transform; give Kalibr's T_cam_imu, (4, 4)"
            )
        if not np.isfinite(self.time_offset_s):
            raise CalibrationError(f"imu: a time offset of {self.time_offset_s} s; give a finite one")
        if np.shape(self.gyro_bias) != (3,) or not np.all(np.isfinite(self.gyro_bias)):
            raise CalibrationError(f"imu: a gyro bias of {self.gyro_bias}; give three finite numbers, rad/s")
        rate = self.nominal_rate_hz
        if rate is not None and not 0 < rate < np.inf:
            raise CalibrationError(
                f"imu: a rate of {rate} Hz; give a positive one, or none to have it measured"
            )

    @property
    def rotation(self) -> NDArray[np.float64] | None:
        """The rotation of `camera_from_imu`, float64 (3, 3), freed from the rounding of its printed digits."""
        if self.camera_from_imu is None:
            return None
        left, _, right = np.linalg.svd(self.camera_from_imu[:3, :3])
        nearest: NDArray[np.float64] = left @ right
        return nearest

    @property
    def time_offset_ns(self) -> int:
        """`time_offset_s` in whole nanoseconds."""
        return round(self.time_offset_s * 1e9)


UNKNOWN = ImuCalibration()
"""Nothing is known: samples are collected and checked, rotations and gravity are not given."""


def _rigid(transform: NDArray[np.float64]) -> bool:
    """A rotation with a translation. Calibration files print few digits, hence the tolerance."""
    if np.shape(transform) != (4, 4) or not np.all(np.isfinite(transform)):
        return False
    rotation = transform[:3, :3]
    orthonormal = np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3)
    return orthonormal and np.linalg.det(rotation) > 0 and np.allclose(transform[3], (0, 0, 0, 1))
