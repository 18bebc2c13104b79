"""How often the views are brought up to date."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

CEILING_HZ = 15.0
"""More is not seen, and costs."""
BUDGET = 0.015
"""Encoding may take this share of all cores. Sending takes a third of that again."""
INERTIA = 0.8


class Pace:
    """Says when the next update is due: at most `CEILING_HZ`, slower when encoding is dear.

    Args:
        cores: that this process may use.
        clock: monotonic, integer nanoseconds.
    """

    def __init__(self, cores: int, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._share = BUDGET * cores
        self._clock = clock
        self._cost_ns = 0.0
        self._due_ns = 0

    @property
    def due(self) -> bool:
        """It is time for an update."""
        return self._clock() >= self._due_ns

    def spent(self, began_ns: int, cpu_ns: int) -> None:
        """An update that began at `began_ns` took `cpu_ns` of processor time."""
        self._cost_ns = INERTIA * self._cost_ns + (1 - INERTIA) * cpu_ns if self._cost_ns else float(cpu_ns)
        self._due_ns = began_ns + round(max(1e9 / CEILING_HZ, self._cost_ns / self._share))
