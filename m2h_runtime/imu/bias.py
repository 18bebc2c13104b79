"""The gyroscope's bias, from the moments in which the robot stands still."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

STILL_S = 1.0
"""Stillness is judged over so long."""
STILL_GYRO = 0.01
"""rad/s: a larger deviation on any axis is motion. MEMS sensors have 0.001 to 0.005."""
STILL_ACCEL = 0.1
"""m/s^2: the same for the accelerometer; sensors have 0.01 to 0.05."""
LARGEST_BIAS = 0.1
"""rad/s away from the calibrated bias: faster is a steady turn. EuRoC's sensor has 0.08."""
GAIN = 0.3
"""Weight of a further second of stillness against what is known."""


def still(gyro: NDArray[np.float64], accel: NDArray[np.float64]) -> bool:
    """Neither (N, 3) angular velocity nor (N, 3) specific force changes beyond a sensor's noise."""
    return bool(gyro.std(axis=0).max() < STILL_GYRO and accel.std(axis=0).max() < STILL_ACCEL)


class GyroBias:
    """The bias as known so far.

    A steady turn on a smooth floor, slower than `LARGEST_BIAS`, cannot be told from a bias by an IMU alone.

    Args:
        calibrated: (3,) rad/s; all zero: unknown.

    Attributes:
        value: float64 (3,), rad/s.
        known: it was calibrated or measured.
    """

    def __init__(self, calibrated: tuple[float, float, float]) -> None:
        self.value = np.array(calibrated, np.float64)
        self.known = bool(self.value.any())
        self._calibrated = self.value
        self._measured = False

    def learn(self, gyro: NDArray[np.float64], accel: NDArray[np.float64]) -> bool:
        """Look at `STILL_S` of samples, (N, 3) each: take their mean in and return True if the sensor stood still."""
        mean = gyro.mean(axis=0)
        if not still(gyro, accel) or np.abs(mean - self._calibrated).max() > LARGEST_BIAS:
            return False
        self.value = self.value + (GAIN if self._measured else 1.0) * (mean - self.value)
        self.known = self._measured = True
        return True
