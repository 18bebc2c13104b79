"""The loop. A frame's journey: capture thread -> slot -> fit -> engine -> the sinks' queues."""

from __future__ import annotations

import time
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from m2h_runtime.pipeline.capture import CaptureThread
from m2h_runtime.pipeline.fit import fit
from m2h_runtime.pipeline.latency import Latencies
from m2h_runtime.pipeline.outlet import Outlet
from m2h_runtime.sinks.base import Observation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from m2h_runtime.engine.base import Engine
    from m2h_runtime.pipeline.capture import Captured
    from m2h_runtime.sinks.base import Sink
    from m2h_runtime.sources.base import Source

POLL_S = 0.1
"""How soon a stop or a failed sink is noticed while no frame comes."""
RATE_WINDOW_S = 1.0


@dataclass(frozen=True)
class Counts:
    """How many frames went where.

    Attributes:
        captured: frames that the source delivered.
        perceived: frames that the engine answered.
        replaced: frames that a newer one replaced before the engine was free (live sources only).
        written: by sink, observations written.
        dropped: by sink, observations that its full queue lost (live sources only).
    """

    captured: int
    perceived: int
    replaced: int
    written: dict[str, int]
    dropped: dict[str, int]


class Pipeline:
    """One run of a source through an engine into sinks. `run` once; the figures stand during and after it.

    The pipeline ends the sinks; the source and the engine stay the caller's to close.

    Args:
        source: live: the newest frame wins; recording: every frame counts, and full sinks slow the loop down.
        engine: an opened engine, used from the thread that calls `run`.
        sinks: each gets its own thread.
        frame_limit: stop after so many perceptions; None goes on until the source ends.
        on_perception: called after each one in the engine's thread; must be quick.
        clock: monotonic, integer nanoseconds; for live sources the clock of their stamps.

    Attributes:
        latencies: by stage: capture, queue, preprocess, engine, hand-out; and age, from a live source's stamp
            until the sinks have the perception.
        first_ns: when the first perception was there, on `clock`; None before.
    """

    def __init__(
        self,
        source: Source,
        engine: Engine,
        sinks: Sequence[Sink] = (),
        *,
        frame_limit: int | None = None,
        on_perception: Callable[[Pipeline], None] | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.latencies = Latencies()
        self.first_ns: int | None = None
        self._live = source.live
        self._engine = engine
        self._size = engine.manifest.size
        self._limit = frame_limit
        self._on_perception = on_perception
        self._clock = clock
        self._capture = CaptureThread(source, clock)
        self._outlets = [Outlet(sink, lossless=not source.live) for sink in sinks]
        self._perceived = 0
        self._started_ns = 0
        self._last_ns = 0
        self._recent_ns: deque[int] = deque()
        self._stopping = False

    def run(self) -> None:
        """Run until the source ends, the frame limit is reached or `stop` is called; then finish the sinks.

        Raises:
            M2HError: the source, the engine or a sink failed. All threads have ended then, and the other
                sinks hold whatever came before.
        """
        with ExitStack() as finish:
            finish.callback(self._finish_sinks)
            for outlet in self._outlets:
                outlet.start()
            finish.callback(self._capture.stop)
            self._capture.start()
            while (captured := self._next()) is not None:
                self._perceive(captured)

    def stop(self) -> None:
        """End the run soon. Safe in a signal handler and from any thread: it takes no lock."""
        self._stopping = True

    def _next(self) -> Captured | None:
        """The frame to work on; None when the run is over."""
        while not self._stopping and self._perceived != self._limit:
            for outlet in self._outlets:
                outlet.check()
            if (captured := self._capture.slot.take(POLL_S)) is not None:
                return captured
            if self._capture.slot.drained:
                if self._capture.error is not None:
                    raise self._capture.error
                return None
        return None

    def _perceive(self, captured: Captured) -> None:
        frame = captured.frame
        taken_ns = self._clock()
        image = fit(frame.image, self._size)
        fitted_ns = self._clock()
        perception = self._engine.infer(image)
        perceived_ns = self._clock()
        self._count(taken_ns, perceived_ns)
        stages = {
            "capture": captured.capture_ns,
            "queue": taken_ns - captured.ready_ns,
            "preprocess": fitted_ns - taken_ns,
            "engine": perceived_ns - fitted_ns,
        }
        observation = Observation(frame, perception.stamped(frame, stages), self.recent_fps)
        for outlet in self._outlets:
            outlet.offer(observation)
        self._last_ns = self._clock()
        stages["hand-out"] = self._last_ns - perceived_ns
        if self._live:
            stages["age"] = self._last_ns - frame.stamp_ns
        for stage, duration_ns in stages.items():
            self.latencies.add(stage, duration_ns)
        if self._on_perception is not None:
            self._on_perception(self)

    def _count(self, taken_ns: int, perceived_ns: int) -> None:
        if self.first_ns is None:
            self.first_ns = perceived_ns
            self._started_ns = taken_ns
        self._perceived += 1
        self._recent_ns.append(perceived_ns)
        while perceived_ns - self._recent_ns[0] > RATE_WINDOW_S * 1e9 and len(self._recent_ns) > 2:
            self._recent_ns.popleft()

    def _finish_sinks(self) -> None:
        """Let every sink finish, then raise the first error of theirs."""
        for outlet in self._outlets:
            outlet.end()
        for outlet in self._outlets:
            outlet.join()
        for outlet in self._outlets:
            outlet.check()

    @property
    def counts(self) -> Counts:
        """How many frames went where, so far."""
        return Counts(
            captured=self._capture.frames,
            perceived=self._perceived,
            replaced=self._capture.slot.replaced,
            written={outlet.sink.name: outlet.written for outlet in self._outlets},
            dropped={outlet.sink.name: outlet.dropped for outlet in self._outlets},
        )

    @property
    def recent_fps(self) -> float:
        """Perceptions per second over the last second; 0 before the second perception."""
        span_ns = self._recent_ns[-1] - self._recent_ns[0] if self._recent_ns else 0
        return 1e9 * (len(self._recent_ns) - 1) / span_ns if span_ns else 0.0

    @property
    def busy_s(self) -> float:
        """Seconds from taking the first frame until the last perception was handed out."""
        return max(0, self._last_ns - self._started_ns) / 1e9

    @property
    def fps(self) -> float:
        """Perceptions per second over `busy_s`; 0 before the first."""
        return self.latencies.count("engine") / self.busy_s if self.busy_s else 0.0

    @property
    def engine_share(self) -> float:
        """How much of `busy_s` the engine was at work, 0..1."""
        return self.latencies.total_ns("engine") / 1e9 / self.busy_s if self.busy_s else 0.0
