"""The direction of gravity in the IMU frame: a complementary filter.

The gyroscope turns the last direction along, which is exact at once but drifts with the bias. The accelerometer shows
gravity plus the robot's own acceleration, which has no mean over seconds. So each frame's mean specific force, brought
to the later frame by the gyroscope, corrects the direction with a weight of its duration over `memory_s`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_runtime.imu.preintegration import Preintegration

STANDARD = 9.80665
"""m/s^2."""
TOLERANCE = 2.0
"""m/s^2: a mean specific force that differs more in length from gravity is a blow or a fall, and does not correct.

Not less: a step of somebody who walks is 2 m/s^2 up and down, and leaving those out would leave out most of a walk."""


class GravityFilter:
    """Follows "up", the direction of the specific force at rest."""

    def __init__(self) -> None:
        self._up: NDArray[np.float64] | None = None
        self._seen_s = 0.0

    def reset(self) -> None:
        """Forget the direction; the next samples start anew."""
        self._up = None
        self._seen_s = 0.0

    def stood_still(self, force: NDArray[np.float64]) -> None:
        """The mean specific force (3,) of a standstill that lasts is gravity's alone: it counts as a full memory."""
        length = float(np.linalg.norm(force))
        if abs(length - STANDARD) < TOLERANCE:
            self._up = force / length
            self._seen_s = math.inf

    @property
    def down(self) -> NDArray[np.float64] | None:
        """Unit vector (3,) along gravity in the IMU frame of the last sample; None before a usable one."""
        return None if self._up is None else -self._up

    def advance(self, motion: Preintegration, accel: NDArray[np.float64], memory_s: float) -> None:
        """Go from the first sample to the last.

        Args:
            motion: the rotation over the samples, bias removed.
            accel: float64 (N, 3), their specific force, m/s^2.
            memory_s: over how long the accelerometer is averaged; at the start, a plain mean over the time so far.
        """
        to_last = motion.rotation.T
        if self._up is not None:
            self._up = to_last @ self._up
        force = to_last @ np.einsum("nij,nj->i", motion.rotations, accel) / len(accel)
        length = float(np.linalg.norm(force))
        if abs(length - STANDARD) < TOLERANCE:
            self._correct(force / length, motion.duration_s, memory_s)

    def _correct(self, measured: NDArray[np.float64], duration_s: float, memory_s: float) -> None:
        self._seen_s = min(self._seen_s + duration_s, memory_s)
        share = min(1.0, duration_s / self._seen_s)
        up = measured if self._up is None else self._up + share * (measured - self._up)
        self._up = up / np.linalg.norm(up)
