"""One line about the run so far."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

    from m2h_runtime.pipeline import Pipeline

TERMINAL_PERIOD_S = 0.25
FILE_PERIOD_S = 5.0


class StatusLine:
    """A line that is rewritten in place on a terminal, and a line every few seconds anywhere else.

    Args:
        stream: where to write.
        clock: monotonic, integer nanoseconds.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._stream = stream
        self._clock = clock
        self._terminal = stream.isatty()
        self._period_ns = round(1e9 * (TERMINAL_PERIOD_S if self._terminal else FILE_PERIOD_S))
        self._next_ns = clock() + (0 if self._terminal else self._period_ns)
        self._shown = False

    def update(self, pipeline: Pipeline) -> None:
        """Write the line if it is time to."""
        now_ns = self._clock()
        if now_ns < self._next_ns:
            return
        self._next_ns = now_ns + self._period_ns
        counts = pipeline.counts
        dropped = counts.replaced + sum(counts.lost.values()) + sum(counts.dropped.values())
        text = f"{counts.perceived} frames   {pipeline.recent_fps:.1f} FPS   {dropped} dropped"
        self._stream.write(f"\r{text}\x1b[K" if self._terminal else f"{text}\n")
        self._stream.flush()
        self._shown = True

    def say(self, text: str) -> None:
        """Write a line of its own; the status line goes on below it. Safe in every thread."""
        self._stream.write(f"\r\x1b[K{text}\n" if self._terminal else f"{text}\n")
        self._stream.flush()

    def end(self) -> None:
        """Leave the cursor on a line of its own."""
        if self._terminal and self._shown:
            self._stream.write("\n")
            self._stream.flush()
