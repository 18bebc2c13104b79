"""From the clock that measures to the clock that ROS stamps with."""

from __future__ import annotations

import time


def epoch_ns(monotonic_ns: int) -> int:
    """The instant `monotonic_ns` of `time.monotonic_ns` in nanoseconds since the Unix epoch.

    Computed with the present offset of the two clocks, so it follows when NTP or PTP sets the system's clock.
    """
    return monotonic_ns + time.time_ns() - time.monotonic_ns()
