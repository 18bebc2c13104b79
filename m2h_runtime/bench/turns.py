"""Two engines in turn, in one run: what disturbs the machine disturbs both."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from m2h_runtime.bench.verdict import compare_turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from m2h_runtime.bench.stopping import Stop
    from m2h_runtime.bench.verdict import Verdict
    from m2h_runtime.engine.base import Engine

TURN_S = 0.25
LEAST_INFERENCES = 2
QUANTILE = 25.0
"""Of a turn's inferences."""


@dataclass(frozen=True)
class Contestant:
    """An open engine with the image that it is given, uint8 (H, W, 3) RGB at its size."""

    engine: Engine
    image: NDArray[np.uint8]


@dataclass(frozen=True)
class Pair:
    """A turn of each, next to each other in time.

    Attributes:
        at_s: when the earlier one began.
        first: which was first, "A" or "B".
        a_ms: the inferences of A.
        b_ms: the inferences of B.
    """

    at_s: float
    first: str
    a_ms: list[float]
    b_ms: list[float]

    @property
    def log_ratio(self) -> float:
        """Logarithm of B/A."""
        return float(np.log(np.percentile(self.b_ms, QUANTILE) / np.percentile(self.a_ms, QUANTILE)))


def take_turns(
    a: Contestant,
    b: Contestant,
    seconds: float,
    stop: Stop,
    *,
    progress: Callable[[float], None] = lambda _: None,
    clock: Callable[[], int] = time.perf_counter_ns,
    seed: int | None = None,
) -> list[Pair]:
    """Turns of `TURN_S` in pairs; who is first in a pair is drawn, so that nothing periodic prefers one.

    Args:
        a: warm.
        b: warm.
        seconds: of the whole, both together.
        stop: ends it early; an unfinished pair is left out.
        progress: told the share that is done.
        clock: monotonic, integer nanoseconds.
        seed: of the drawing; None: another one each time.
    """
    draw = random.Random(seed)  # noqa: S311 (no secret)
    began_ns = clock()
    pairs: list[Pair] = []
    while not stop.requested and (at_s := (clock() - began_ns) / 1e9) < seconds:
        order = draw.choice(("AB", "BA"))
        times = {name: _turn(a if name == "A" else b, clock) for name in order}
        if not stop.requested:
            pairs.append(Pair(at_s, order[0], times["A"], times["B"]))
        progress(at_s / seconds)
    return pairs


def verdict_on(pairs: list[Pair]) -> Verdict:
    """How B compares with A."""
    return compare_turns(np.array([pair.log_ratio for pair in pairs]))


def _turn(who: Contestant, clock: Callable[[], int]) -> list[float]:
    who.engine.infer(who.image)  # not counted: caches and threads are still the other's
    times: list[float] = []
    while sum(times) < 1e3 * TURN_S or len(times) < LEAST_INFERENCES:
        began_ns = clock()
        who.engine.infer(who.image)
        times.append((clock() - began_ns) / 1e6)
    return times
