"""The whole loop: a camera at a fixed rate, or as fast as it goes."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from m2h_runtime.bench.camera import CAMERA_SIZE, ArrivalSink, PictureRecording, pictures
from m2h_runtime.bench.statistics import histogram, summarize
from m2h_runtime.bench.threads import ThreadShares
from m2h_runtime.cli.run_report import drops
from m2h_runtime.errors import EngineError
from m2h_runtime.pipeline import Pipeline
from m2h_runtime.sources.paced import PacedSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from m2h_runtime.bench.camera import Arrivals
    from m2h_runtime.bench.stopping import Stop
    from m2h_runtime.engine.base import Engine
    from m2h_runtime.sources.base import Source

SETTLE_S = 0.5
"""What arrives earlier is not counted: maps are made, threads start."""
MAX_AGE_S = 1.0
"""As m2h-run has it."""
LATE_S = 30.0
"""A live loop survives an engine that fails at every frame; the benchmark ends so long after its time."""
POINTS = 2000
"""At most so many points of a curve are kept."""


class LoopRun:
    """One pipeline from a camera of pictures into a sink that notes what comes.

    Args:
        engine: warm.
        image: uint8 (H, W, 3) RGB that the camera pans over.
        seconds: ends after this.
        input_hz: the camera's rate, live: the newest frame wins. None: a recording, every frame counts.

    Attributes:
        pipeline: its counts.
        began_ns: when `run` began.
    """

    def __init__(
        self, engine: Engine, image: NDArray[np.uint8], seconds: float, input_hz: float | None
    ) -> None:
        self.input_hz = input_hz
        self.seconds = seconds
        recording = PictureRecording(pictures(image), input_hz or 1.0)
        self.source: Source = PacedSource(recording) if input_hz else recording
        self._sink = ArrivalSink()
        max_age_s = MAX_AGE_S if input_hz else None
        self.pipeline = Pipeline(
            self.source, engine, [self._sink], max_age_s=max_age_s, on_perception=self._perceived
        )
        self.shares = ThreadShares()
        self._progress: Callable[[float], None] = lambda _: None
        self.began_ns = 0

    @property
    def arrivals(self) -> Arrivals:
        """What came to the sink."""
        return self._sink.arrivals

    def run(self, stop: Stop, progress: Callable[[float], None] = lambda _: None) -> LoopRun:
        """Run to the end, or until a stop.

        Raises:
            M2HError: the engine failed, or nothing came.
        """
        self._progress = progress
        self.began_ns = time.monotonic_ns()
        late = threading.Timer(self.seconds + LATE_S, self.pipeline.stop)
        late.name, late.daemon = "bench late", True
        late.start()
        try:
            with self.shares, stop.calling(self.pipeline.stop):
                self.pipeline.run()
        finally:
            late.cancel()
        if not self.pipeline.counts.perceived and not stop.requested:
            raise EngineError(
                f"no perception came: {self.pipeline.health.worst().text or 'the loop stalled'}"
            )
        return self

    def _perceived(self, pipeline: Pipeline) -> None:
        spent_s = (time.monotonic_ns() - self.began_ns) / 1e9
        self._progress(spent_s / self.seconds)
        if spent_s >= self.seconds:
            pipeline.stop()

    def result(self) -> dict[str, Any]:
        """The figures, in plain JSON types; see docs/m2h-bench.md."""
        arrivals = self.arrivals
        settled = arrivals.at_ns - self.began_ns > 1e9 * min(SETTLE_S, self.seconds / 4)
        at_s = ((arrivals.at_ns[settled] - self.began_ns) / 1e9).tolist()
        ages = np.empty(0) if arrivals.age_ns is None else arrivals.age_ns[settled] / 1e6
        periods = np.diff(arrivals.at_ns[settled]) / 1e6
        jitter = np.abs(periods - np.median(periods)) if periods.size else periods
        stages = arrivals.stages_ns if at_s else {}
        counts = self.pipeline.counts
        live = {"age_ms": summarize(ages), "age_histogram": histogram(ages)} if self.input_hz else {}
        return {
            "input_hz": self.input_hz,
            "camera": list(CAMERA_SIZE),
            "seconds": round(at_s[-1], 3) if at_s else 0.0,
            "fps": round((len(at_s) - 1) / (at_s[-1] - at_s[0]), 3) if len(at_s) > 1 else None,
            "captured": counts.captured,
            "perceived": counts.perceived,
            "drops": drops(counts, self.source.skipped),
            **live,
            "period_ms": summarize(periods),
            "period_histogram": histogram(periods),
            "jitter_ms": summarize(jitter),
            "stages_ms": {stage: summarize(spent[settled] / 1e6) for stage, spent in stages.items()},
            "cores_by_thread": self.shares.shares(),
            "curve": thinned(at_s, (ages if ages.size else periods).tolist()),
        }


def thinned(at_s: list[float], values: list[float]) -> dict[str, list[float]]:
    """At most `POINTS` points of a curve: of each stretch the largest value, as that is what one looks for."""
    count = min(len(at_s), len(values))
    stride = max(1, -(-count // POINTS))
    parts = [slice(begin, min(begin + stride, count)) for begin in range(0, count, stride)]
    return {
        "at_s": [round(at_s[part.start], 3) for part in parts],
        "ms": [round(max(values[part]), 3) for part in parts],
    }
