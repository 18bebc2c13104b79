"""Two engines in turn, in one run: what disturbs the machine disturbs both."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from m2h_runtime.bench.probe import Others
from m2h_runtime.bench.subject import QUANTILE
from m2h_runtime.bench.verdict import AMID_OTHERS, QUIET_CORES, QUIET_SHARE, compare_turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from m2h_runtime.bench.stopping import Stop
    from m2h_runtime.bench.subject import Subject
    from m2h_runtime.bench.verdict import Verdict


@dataclass(frozen=True)
class Pair:
    """A turn of each, next to each other in time.

    Attributes:
        at_s: when the earlier one began.
        first: which was first, "A" or "B".
        a_ms: the inferences of A.
        b_ms: the inferences of B.
        others: cores that other programs took meanwhile on average; None: unknown.
    """

    at_s: float
    first: str
    a_ms: list[float]
    b_ms: list[float]
    others: float | None = None

    @property
    def log_ratio(self) -> float:
        """Logarithm of B/A."""
        return float(np.log(np.percentile(self.b_ms, QUANTILE) / np.percentile(self.a_ms, QUANTILE)))


def take_turns(
    a: Subject,
    b: Subject,
    seconds: float,
    stop: Stop,
    *,
    progress: Callable[[float], None] = lambda _: None,
    clock: Callable[[], int] = time.perf_counter_ns,
    seed: int | None = None,
) -> list[Pair]:
    """Turns in pairs; who is first in a pair is drawn, so that nothing periodic prefers one.

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
    others = Others(clock=clock)
    began_ns = clock()
    pairs: list[Pair] = []
    while not stop.requested and (at_s := (clock() - began_ns) / 1e9) < seconds:
        order = draw.choice(("AB", "BA"))
        others.cores()
        times = {name: (a if name == "A" else b).turn(clock) for name in order}
        if not stop.requested:
            pairs.append(Pair(at_s, order[0], times["A"], times["B"], others.cores()))
        progress(at_s / seconds)
    return pairs


def verdict_on(pairs: list[Pair]) -> Verdict:
    """How B compares with A: by the pairs that nobody disturbed; by all of them if those are fewer than half."""
    quiet = [pair for pair in pairs if pair.others is None or pair.others <= QUIET_CORES]
    if len(quiet) >= QUIET_SHARE * len(pairs):
        return compare_turns(np.array([pair.log_ratio for pair in quiet]))
    return compare_turns(np.array([pair.log_ratio for pair in pairs]), AMID_OTHERS)
