"""`ImuWindow`: the motion between two frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from m2h_runtime.arrays import check_array
from m2h_runtime.errors import ContractError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ImuWindow:
    """IMU samples from one frame's stamp to the next one's, in order of time. The arrays are read-only.

    Attributes:
        stamps_ns: int64 (N,), on the camera's clock, strictly increasing; the first and the last are the two frames'.
        gyro: float64 (N, 3), angular velocity in the IMU frame, rad/s.
        accel: float64 (N, 3), specific force in the IMU frame, m/s^2 (points up at rest).
        measured: bool (N,), False where the sample was interpolated at a frame's border, or the newest one held for the
            few milliseconds until the next.
        time_offset_ns: added to `stamps_ns` it gives the IMU's own stamps (Kalibr: t_imu = t_cam + shift).
        frame_id: the IMU's frame.
        complete: False if samples were missing, so that the window bridges a gap or begins after the earlier frame.
        camera_rotation: float64 (3, 3), takes vectors of the earlier frame's camera to the later one's, from the
            gyroscope; None if the extrinsics are unknown or the window begins late.
        gravity: float64 (3,), the direction of gravity ("down") in the later frame's camera, unit length; None if
            unknown.
    """

    stamps_ns: NDArray[np.int64]
    gyro: NDArray[np.float64]
    accel: NDArray[np.float64]
    measured: NDArray[np.bool_]
    time_offset_ns: int = 0
    frame_id: str = "imu_link"
    complete: bool = True
    camera_rotation: NDArray[np.float64] | None = None
    gravity: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        """Check the arrays and make them read-only."""
        count = len(check_array("imu stamps", self.stamps_ns, np.int64, (None,)))
        check_array("imu gyro", self.gyro, np.float64, (count, 3))
        check_array("imu accel", self.accel, np.float64, (count, 3))
        check_array("imu measured", self.measured, np.bool_, (count,))
        if not np.all(np.diff(self.stamps_ns) > 0):
            raise ContractError("imu stamps: are not strictly increasing")
        optional = [array for array in (self.camera_rotation, self.gravity) if array is not None]
        for array in (self.stamps_ns, self.gyro, self.accel, self.measured, *optional):
            array.setflags(write=False)
