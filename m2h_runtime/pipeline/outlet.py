"""One sink's thread and its small queue, so that no sink can hold the engine up unnoticed."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from m2h_runtime.errors import M2HError, SinkError
from m2h_runtime.pipeline.latency import Samples

if TYPE_CHECKING:
    from collections.abc import Callable

    from m2h_runtime.sinks.base import Observation, Sink

STUCK_S = 30.0
"""A recording's sink that takes nothing for so long has failed."""
LIVE_STUCK_S = 1.5
"""So long a live sink may take to finish at the end of the run: nobody waits for a robot's messages then."""
POLL_S = 0.1


class Outlet:
    """A sink at the end of a bounded queue.

    Args:
        sink: written, and in the end closed or aborted, by this outlet's thread alone.
        lossless: True, for recordings: a full queue makes `offer` wait. False, for live sources: it drops the
            oldest and counts it.
        clock: monotonic, integer nanoseconds.

    Attributes:
        written: observations that the sink took.
        dropped: observations that a full queue lost.
        error: what broke the sink, if anything; set before the thread ends.
        durations: how long the sink took for each.
        ages: of live observations, from when the image was taken until the sink had written them.
        busy_since_ns: when the write in progress began; None while there is none.
    """

    def __init__(self, sink: Sink, *, lossless: bool, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.sink = sink
        self.written = 0
        self.dropped = 0
        self.error: Exception | None = None
        self.durations, self.ages = Samples(), Samples()
        self.busy_since_ns: int | None = None
        self._lossless = lossless
        self._clock = clock
        self._queue: deque[Observation] = deque()
        self._ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name=f"sink {sink.name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def offer(self, observation: Observation) -> None:
        """Hand over one observation; a sink that broke takes none, nor does one that nobody looks at.

        Raises:
            SinkError: a recording's sink took nothing for `STUCK_S`.
        """
        if not self.sink.wanted:
            return
        with self._changed:
            if len(self._queue) >= self.sink.queue:
                if self._lossless:
                    self._wait_for_room()
                else:
                    self._queue.popleft()
                    self.dropped += 1
            if self.error is None:
                self._queue.append(observation)
                self._changed.notify_all()

    def _wait_for_room(self) -> None:
        if not self._changed.wait_for(
            lambda: len(self._queue) < self.sink.queue or self.error is not None, STUCK_S
        ):
            raise SinkError(f"{self.sink.name}: has taken no frame for {STUCK_S:g} s, so the run ends")

    def check(self) -> None:
        """Raise what broke the sink, if anything did."""
        if self.error is not None:
            raise self.error

    @property
    def forgivable(self) -> bool:
        """What broke is foreseen, and of a sink that only shows: no run ends for it."""
        return self.sink.lossy and isinstance(self.error, M2HError)

    def end(self) -> None:
        """Nothing more will come: the thread empties the queue, closes the sink and ends."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def join(self) -> None:
        """Wait until the sink is closed, but no longer than its patience; `error` tells how it went.

        A disposable sink that hangs is left behind: nothing of worth is lost.
        """
        patience_s = STUCK_S if self._lossless or not self.sink.disposable else LIVE_STUCK_S
        self._thread.join(patience_s)
        if self._thread.is_alive() and self.error is None and not self.sink.disposable:
            self.error = SinkError(
                f"{self.sink.name}: not finished {patience_s:g} s after the end of the run"
            )

    def _work(self) -> None:
        try:
            while (observation := self._next()) is not None:
                self._write(observation)
            self.sink.close()
        except Exception as error:
            try:
                self.sink.abort()
            finally:  # a sink that cannot even give up has broken all the same
                self._fail(error if isinstance(error, M2HError) else _unforeseen(self.sink.name, error))

    def _write(self, observation: Observation) -> None:
        began_ns = self.busy_since_ns = self._clock()
        try:
            self.sink.write(observation)
        finally:
            self.busy_since_ns = None
        ended_ns = self._clock()
        self.written += 1
        self.durations.add(ended_ns - began_ns)
        if observation.frame.taken_ns is not None:
            self.ages.add(ended_ns - observation.frame.taken_ns)

    def _fail(self, error: Exception) -> None:
        with self._changed:
            self.error = error
            self._queue.clear()
            self._changed.notify_all()

    def _next(self) -> Observation | None:
        """The oldest observation; None when all are taken and no more will come."""
        with self._changed:
            while not self._queue and not self._ended:
                self._changed.wait(POLL_S)
            observation = self._queue.popleft() if self._queue else None
            self._changed.notify_all()
            return observation


def _unforeseen(name: str, error: Exception) -> Exception:
    """A bug keeps its traceback; the note says whose thread it was."""
    if hasattr(error, "add_note"):  # Python 3.11 on
        error.add_note(f"in the thread of sink {name}")
    return error
