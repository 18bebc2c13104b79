"""A live source that goes away and comes back."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from m2h_runtime.errors import M2HError, SourceError
from m2h_runtime.pipeline.health import Level
from m2h_runtime.sources.base import EndOfStream, Source

if TYPE_CHECKING:
    from collections.abc import Callable

    from m2h_runtime.frame import Frame
    from m2h_runtime.pipeline.health import Health

FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 2.0
"""Doubling from the first to the longest: a camera that is plugged in again is found within 2 s, and the log of one
that is not stays short."""
PART = "source"


class ReconnectingSource(Source):
    """What `open` opens, opened again whenever it breaks. Frames count on across that.

    The first opening happens here and may fail: a wrong name is an error, not a reason to wait.

    Args:
        open_source: opens the source; raises SourceError while it is away.
        health: told when the source goes and comes, as part "source".
        clock: monotonic, integer nanoseconds.
        sleep: waits so many seconds on that clock.

    Attributes:
        reconnects: how many times the source came back.
    """

    live = True

    def __init__(
        self,
        open_source: Callable[[], Source],
        health: Health,
        clock: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__()
        self.reconnects = 0
        self._open = open_source
        self._health = health
        self._clock = clock
        self._sleep = sleep
        self._source: Source | None = None
        self._wait_s = FIRST_WAIT_S
        self._retry_ns = self._gone_ns = 0
        self._sequence = 0
        self._described = self._take(open_source()).describe()

    def _take(self, source: Source) -> Source:
        self._source = source
        self.fps, self.imu, self.skipped = source.fps, source.imu, source.skipped
        return source

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame; None while the source is away. Never raises for that."""
        source = self._source or self._opened_again(timeout_s)
        if source is None:
            return None
        try:
            frame = source.read(timeout_s)
        except (SourceError, EndOfStream) as error:
            self._lose(source, str(error) or "the stream ended")
            return None
        if frame is None:
            return None
        self._wait_s = FIRST_WAIT_S  # one frame proves that it is back
        frame = replace(frame, sequence=self._sequence)
        self._sequence += 1
        return frame

    def _lose(self, source: Source, why: str) -> None:
        self._health.report(PART, Level.FAILED, f"{why}; opening it again until it is back")
        with suppress(M2HError):
            source.close()
        self._source = None
        self._gone_ns = self._clock()
        self._retry_ns = self._gone_ns + round(1e9 * self._wait_s)

    def _opened_again(self, timeout_s: float) -> Source | None:
        left_s = (self._retry_ns - self._clock()) / 1e9
        if left_s > 0:
            self._sleep(min(left_s, timeout_s))
            if left_s > timeout_s:
                return None
        try:
            source = self._take(self._open())
        except SourceError:  # its reason was told when it went; the driver's words change while it comes back
            self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)
            self._retry_ns = self._clock() + round(1e9 * self._wait_s)
            return None
        self.reconnects += 1
        self._health.ok(PART, f"back after {(self._clock() - self._gone_ns) / 1e9:.1f} s")
        return source

    def describe(self) -> str:
        """The source as it was first opened."""
        return self._described

    def close(self) -> None:
        """Close the source if it is there."""
        if self._source is not None:
            self._source.close()
