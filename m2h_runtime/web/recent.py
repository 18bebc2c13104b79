"""The last minute, perception by perception, for rates, quantiles and charts."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from m2h_runtime.pipeline.loop import Pipeline

STAGES = ("capture", "queue", "preprocess", "engine", "hand-out")
KEPT = 4096
"""So many perceptions are remembered: a minute at 68 FPS, in half a megabyte."""
RATE_S, AGE_S, CHART_S, TICK_S = 1.0, 5.0, 60.0, 0.25
"""Rates and stages are means over `RATE_S`, quantiles are of `AGE_S`; charts begin `CHART_S` ago, every `TICK_S`."""


class Mark(NamedTuple):
    """The time and the pipeline's totals after one perception, nanoseconds."""

    at_ns: int
    age_ns: int
    stages_ns: tuple[int, ...]


@dataclass(frozen=True)
class Figures:
    """How the loop did around one instant. None: there was nothing to measure.

    Attributes:
        fps: perceptions per second.
        age_ms: p50 and p99 of the age of live images when their perception was handed out.
        stages_ms: mean by stage.
    """

    fps: float
    age_ms: tuple[float, float] | None
    stages_ms: dict[str, float] | None


class Recent:
    """Remembers the latest perceptions. `note` is called by the engine's thread, all else by any.

    Args:
        clock: monotonic, integer nanoseconds.
    """

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._marks: deque[Mark] = deque(maxlen=KEPT)

    def note(self, pipeline: Pipeline) -> None:
        """There is one more perception."""
        total = pipeline.latencies.total_ns
        self._marks.append(Mark(self._clock(), total("age"), tuple(total(stage) for stage in STAGES)))

    def now(self) -> Figures:
        """The present figures."""
        return _figures(list(self._marks), self._clock())

    def chart(self) -> list[tuple[float, Figures]]:
        """Figures of the last minute: seconds before now, oldest first."""
        marks, now_ns = list(self._marks), self._clock()
        first_s = (now_ns - marks[0].at_ns) / 1e9 if marks else 0.0
        ages = np.arange(min(CHART_S, first_s), 0.0, -TICK_S).tolist()
        stamps = [mark.at_ns for mark in marks]
        ends = [bisect_left(stamps, now_ns - round(1e9 * age)) for age in ages]
        return [
            (age, _figures(marks[:end], now_ns - round(1e9 * age)))
            for age, end in zip(ages, ends, strict=True)
        ]


def _figures(marks: Sequence[Mark], now_ns: int) -> Figures:
    """The figures at `now_ns`, of which `marks` are the past."""
    latest = _since(marks, now_ns, RATE_S)
    if len(latest) < 2:
        latest = marks[-2:]  # a slow engine
    frames = len(latest) - 1
    span_ns = latest[-1].at_ns - latest[0].at_ns if latest else 0
    silent_ns = now_ns - latest[-1].at_ns if latest else 0
    if frames < 1 or not span_ns or silent_ns > max(RATE_S * 1e9, 2 * span_ns / frames):
        return Figures(0.0, None, None)
    spent = zip(STAGES, latest[0].stages_ns, latest[-1].stages_ns, strict=True)
    stages_ms = {stage: (after - before) / frames / 1e6 for stage, before, after in spent}
    return Figures(1e9 * frames / span_ns, _ages(_since(marks, now_ns, AGE_S)), stages_ms)


def _ages(marks: Sequence[Mark]) -> tuple[float, float] | None:
    """p50 and p99, milliseconds; None for a recording, which has no age."""
    if len(marks) < 2 or not marks[-1].age_ns:
        return None
    ages = np.diff(np.array([mark.age_ns for mark in marks], np.int64))
    p50, p99 = np.percentile(ages, (50, 99)) / 1e6
    return float(p50), float(p99)


def _since(marks: Sequence[Mark], now_ns: int, seconds: float) -> Sequence[Mark]:
    first = bisect_left(marks, (now_ns - round(1e9 * seconds),))
    return marks[first:]
