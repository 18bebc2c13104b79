"""An engine that is measured, alone or in turn with another."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from m2h_runtime.engine.selftest import read_golden

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from m2h_runtime.bench.stopping import Stop
    from m2h_runtime.engine.base import Engine

WARM_UP_S, WARM_UP_FRAMES = 1.0, 10
"""Both have to be over; the first frames allocate, and clocks need a moment to rise."""
TURN_S, TURN_INFERENCES = 0.25, 2
QUANTILE = 25.0
"""Of a turn's few inferences: disturbances only prolong."""


@dataclass(frozen=True)
class Subject:
    """An open engine with the image that it is given.

    Attributes:
        engine: open; closed by whoever opened it.
        image: uint8 (H, W, 3) RGB at the engine's size.
    """

    engine: Engine
    image: NDArray[np.uint8]

    @classmethod
    def of(cls, engine: Engine, folder: Path) -> Subject:
        """The engine of `folder` with its golden frame."""
        return cls(engine, read_golden(folder, engine.manifest).image)

    def infer_ms(self, clock: Callable[[], int] = time.perf_counter_ns) -> float:
        """One inference; how long it took."""
        began_ns = clock()
        self.engine.infer(self.image)
        return (clock() - began_ns) / 1e6

    def warm_up(self, stop: Stop) -> list[float]:
        """Run until allocation is over and clocks are up; ms of each inference."""
        times: list[float] = []
        while not stop.requested and (len(times) < WARM_UP_FRAMES or sum(times) < 1e3 * WARM_UP_S):
            times.append(self.infer_ms())
        return times

    def turn(self, clock: Callable[[], int] = time.perf_counter_ns, seconds: float = TURN_S) -> list[float]:
        """At least so many seconds of inferences beside another engine's, in ms."""
        self.engine.infer(self.image)  # not counted: caches and threads are still the other's
        times: list[float] = []
        while sum(times) < 1e3 * seconds or len(times) < TURN_INFERENCES:
            times.append(self.infer_ms(clock))
        return times
