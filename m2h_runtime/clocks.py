"""From the clock that measures to the clock that ROS stamps with."""

from __future__ import annotations

import time

UNDISTURBED_NS = 100_000


def epoch_ns(monotonic_ns: int) -> int:
    """The instant `monotonic_ns` of `time.monotonic_ns` in nanoseconds since the Unix epoch.

    Computed with the present offset of the two clocks, so it follows when NTP or PTP sets the system's clock.
    """
    while True:
        before_ns = time.monotonic_ns()
        now_ns = time.time_ns()
        after_ns = time.monotonic_ns()
        if after_ns - before_ns < UNDISTURBED_NS:  # else this thread was put aside between the two clocks
            return monotonic_ns + now_ns - (before_ns + after_ns) // 2
