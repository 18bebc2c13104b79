"""How fast this machine is at the moment, and how much of it others take."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

SIDE, REPEATS = 64, 200
"""A product of matrices this small runs on one thread in every BLAS, and in the first-level cache."""


class Probe:
    """Small matrix products on one core, about a millisecond: its best times follow the clock, and nothing else.

    Args:
        clock: monotonic, integer nanoseconds.
    """

    def __init__(self, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        self._clock = clock
        self._matrix = np.random.default_rng(0).uniform(0, 1, (SIDE, SIDE)).astype(np.float32)
        self._out = np.empty_like(self._matrix)
        self.run()

    def run(self) -> int:
        """Do the work; nanoseconds that it took."""
        began_ns = self._clock()
        for _ in range(REPEATS):
            np.dot(self._matrix, self._matrix, out=self._out)
        return self._clock() - began_ns


class Others:
    """How many cores other programs, and the hypervisor, took since it was last asked.

    Args:
        stat: /proc/stat, or a file like it.
        own_s: CPU seconds of this process.
        clock: monotonic, integer nanoseconds.
    """

    def __init__(
        self,
        stat: Path = Path("/proc/stat"),
        own_s: Callable[[], float] | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        ticks_per_s: float | None = None,
    ) -> None:
        self._stat = stat
        self._own_s = own_s or time.process_time
        self._clock = clock
        self._ticks_per_s = ticks_per_s or _ticks_per_s()
        self._before = self._now()

    def cores(self) -> float | None:
        """Cores in use by others on average since the last call; None where the system does not tell."""
        before, self._before = self._before, self._now()
        if before is None or self._before is None:
            return None
        busy_s, own_s, wall_ns = (now - then for now, then in zip(self._before, before, strict=True))
        return max(0.0, (busy_s - own_s) / (wall_ns / 1e9)) if wall_ns > 0 else None

    def _now(self) -> tuple[float, float, float] | None:
        try:
            fields = self._stat.read_text().split(maxsplit=9)
        except OSError:
            return None
        user, nice, system, _, _, irq, soft_irq, steal = (int(field) for field in fields[1:9])
        busy_s = (user + nice + system + irq + soft_irq + steal) / self._ticks_per_s
        return busy_s, self._own_s(), float(self._clock())


def _ticks_per_s() -> float:
    return float(os.sysconf("SC_CLK_TCK")) if hasattr(os, "sysconf") else 100.0
