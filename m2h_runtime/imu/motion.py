"""From samples to the camera's rotation and the direction of gravity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m2h_runtime.imu.bias import STILL_S, GyroBias
from m2h_runtime.imu.gravity import GravityFilter
from m2h_runtime.imu.preintegration import preintegrate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from m2h_runtime.imu.preintegration import Preintegration
    from m2h_runtime.imu.ring import Ring, Segment

SECOND_NS = 1_000_000_000
LEARN_EVERY_NS = SECOND_NS // 2
LEAST_STILL = 20
"""Samples that can show stillness."""
MEMORY_S = 10.0
"""Gravity is averaged over so long if the gyroscope's bias is known,"""
SHORT_MEMORY_S = 2.0
"""and over so long if it is not: meanwhile the direction drifts by the bias."""


class Motion:
    """Integrates the samples of a ring, with the bias that it learns from them.

    Args:
        gyro_bias: (3,) rad/s, see `GyroBias`.

    Attributes:
        bias: as known so far.
    """

    def __init__(self, gyro_bias: tuple[float, float, float]) -> None:
        self.bias = GyroBias(gyro_bias)
        self._gravity = GravityFilter()
        self._gravity_ns: int | None = None
        self._learned_ns: int | None = None

    def restart(self) -> None:
        """The ring was cleared: gravity starts anew, the bias stays."""
        self._gravity.reset()
        self._gravity_ns = self._learned_ns = None

    def follow(self, ring: Ring, segment: Segment) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Go on to the end of `segment`, which was cut from `ring`.

        Returns:
            The rotation (3, 3) that takes vectors of the IMU's frame at the segment's end to the one at its beginning,
            and the unit vector (3,) along gravity in the IMU's frame at the end; None if unknown.
        """
        stop_ns = int(segment.stamps_ns[-1])
        rest = self._learn(ring, stop_ns)
        motion = preintegrate(segment.stamps_ns, segment.gyro, self.bias.value)
        if self._gravity_ns is None or stop_ns > self._gravity_ns:
            self._advance(ring, segment, motion)
            if rest is not None:
                self._gravity.stood_still(rest)
        return motion.rotation, self._gravity.down if self._gravity_ns == stop_ns else None

    def _learn(self, ring: Ring, stop_ns: int) -> NDArray[np.float64] | None:
        """The mean specific force (3,) if the sensor has stood still until `stop_ns`; looks now and then only."""
        start_ns, oldest_ns = stop_ns - round(STILL_S * SECOND_NS), ring.oldest_ns
        early = self._learned_ns is not None and stop_ns - self._learned_ns < LEARN_EVERY_NS
        if early or oldest_ns is None or oldest_ns > start_ns:
            return None
        self._learned_ns = stop_ns
        _, values = ring.measured(start_ns, stop_ns)
        if len(values) < LEAST_STILL or not self.bias.learn(values[:, :3], values[:, 3:]):
            return None
        force: NDArray[np.float64] = values[:, 3:].mean(axis=0)
        return force

    def _advance(self, ring: Ring, segment: Segment, motion: Preintegration) -> None:
        """Bring gravity to the segment's end, over all samples since the last time, also those of replaced frames."""
        begin_ns, stop_ns = self._gravity_ns, int(segment.stamps_ns[-1])
        oldest_ns = ring.oldest_ns
        if begin_ns is None or oldest_ns is None or begin_ns < oldest_ns:
            self._gravity.reset()
            begin_ns = int(segment.stamps_ns[0])
        if begin_ns != segment.stamps_ns[0]:
            segment = ring.segment(begin_ns, stop_ns)
            motion = preintegrate(segment.stamps_ns, segment.gyro, self.bias.value)
        self._gravity.advance(motion, segment.accel, MEMORY_S if self.bias.known else SHORT_MEMORY_S)
        self._gravity_ns = stop_ns
