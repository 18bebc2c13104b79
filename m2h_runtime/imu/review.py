"""What single samples and their latest few hundred say about the sensor and its driver."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING

import numpy as np

from m2h_runtime.imu.gravity import STANDARD

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

MANY = 200
"""So many samples say something about the driver."""
LARGEST_STAMP_NS = 1 << 62
LARGEST_GYRO = 50.0
"""rad/s; no gyroscope on a robot measures so much."""
LARGEST_ACCEL = 200.0
"""m/s^2; likewise."""
TOO_OFTEN, TOO_RARE = 1.5, 0.67
"""Rates, relative to the expected one, from which on something is wrong. Twice is two drivers; drift is far less."""


def checked(
    stamp_ns: int, gyro: Iterable[float], accel: Iterable[float]
) -> tuple[int, tuple[float, ...]] | None:
    """The stamp and the six numbers of a sample, or None if it cannot be one."""
    try:
        stamp_ns = operator.index(stamp_ns)
        x, y, z = map(float, gyro)
        ax, ay, az = map(float, accel)
    except (TypeError, ValueError, OverflowError):
        return None
    possible = math.hypot(x, y, z) <= LARGEST_GYRO and math.hypot(ax, ay, az) <= LARGEST_ACCEL  # NaN is not
    return (stamp_ns, (x, y, z, ax, ay, az)) if possible and abs(stamp_ns) < LARGEST_STAMP_NS else None


def median_period_ns(stamps_ns: NDArray[np.int64]) -> float:
    """The usual time between samples; at least three stamps.

    Over two steps at a time, so that the stamps of two drivers, which alternate between short and long, count right.
    """
    return float(np.median(stamps_ns[2:] - stamps_ns[:-2])) / 2


def rate_fault(period_ns: float, expected_ns: float) -> str | None:
    """What is wrong if samples come every `period_ns`, or None."""
    ratio = expected_ns / period_ns
    rates = f"{1e9 / period_ns:.0f} samples a second instead of {1e9 / expected_ns:.0f}"
    if ratio > TOO_OFTEN:
        return f"{rates}; is the IMU published twice, or do two drivers share the topic?"
    if ratio < TOO_RARE:
        return f"{rates}; is the driver overloaded, or set to another rate?"
    return None


def accelerometer_fault(accel: NDArray[np.float64]) -> str | None:
    """What is wrong with the size of (N, 3) specific force, m/s^2, or None. Motion does not move the median so far."""
    length = float(np.median(np.sqrt((accel * accel).sum(axis=1))))
    if abs(length - 1.0) < 0.2:
        return f"the accelerometer measures {length:.2f} at rest: that is in g; multiply by {STANDARD} in the driver"
    if length < 0.5:
        return f"the accelerometer measures {length:.2f} at rest: the driver removes gravity; have it publish raw data"
    return None
