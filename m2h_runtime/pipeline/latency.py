"""How long each stage took."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np

WINDOW = 36_000
"""Percentiles are over the latest so many samples: 20 minutes at 30 FPS, in 288 kB a stage."""


@dataclass(frozen=True)
class Summary:
    """One stage over the run, milliseconds: percentiles over the window, the others over all samples."""

    count: int
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


class Samples:
    """Durations of one stage, nanoseconds, in bounded memory."""

    def __init__(self, window: int = WINDOW) -> None:
        self.count = 0
        self.total_ns = 0
        self.max_ns = 0
        self._window = window
        self._recent = array("q")

    def add(self, duration_ns: int) -> None:
        """Take one more sample."""
        if len(self._recent) < self._window:
            self._recent.append(duration_ns)
        else:
            self._recent[self.count % self._window] = duration_ns
        self.count += 1
        self.total_ns += duration_ns
        self.max_ns = max(self.max_ns, duration_ns)

    def summary(self) -> Summary | None:
        """Mean, percentiles and maximum; None before the first sample."""
        if not self.count:
            return None
        recent = np.array(self._recent[:], np.int64)  # a copy: others may be adding meanwhile
        p50, p95, p99 = (float(value) / 1e6 for value in np.percentile(recent, (50, 95, 99)))
        return Summary(self.count, self.total_ns / self.count / 1e6, p50, p95, p99, self.max_ns / 1e6)


class Latencies:
    """`Samples` by stage name, in the order in which the stages were first seen."""

    def __init__(self) -> None:
        self._stages: dict[str, Samples] = {}

    def add(self, stage: str, duration_ns: int) -> None:
        """Take one sample of `stage`."""
        if stage not in self._stages:
            self._stages[stage] = Samples()
        self._stages[stage].add(duration_ns)

    def count(self, stage: str) -> int:
        """Number of samples of `stage`."""
        return self._stages[stage].count if stage in self._stages else 0

    def total_ns(self, stage: str) -> int:
        """All time spent in `stage`."""
        return self._stages[stage].total_ns if stage in self._stages else 0

    def summaries(self) -> dict[str, Summary]:
        """The summary of every stage that has samples."""
        made = {stage: samples.summary() for stage, samples in list(self._stages.items())}
        return {stage: summary for stage, summary in made.items() if summary is not None}
