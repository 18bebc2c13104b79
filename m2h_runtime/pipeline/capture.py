"""The capture thread: source -> slot."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from m2h_runtime.errors import SourceError
from m2h_runtime.pipeline.slot import Slot
from m2h_runtime.sources.base import EndOfStream

if TYPE_CHECKING:
    from collections.abc import Callable

    from m2h_runtime.frame import Frame
    from m2h_runtime.sources.base import Source

POLL_S = 0.1
"""How soon the thread notices that it should stop."""
JOIN_S = 2.0
"""A source that blocks for longer is left behind."""


@dataclass(frozen=True, slots=True)
class Captured:
    """A frame with the times of its capture, on the pipeline's clock.

    Attributes:
        frame: the frame.
        capture_ns: from when it was taken (live) or from the start of reading (recording) until it was ready.
        ready_ns: when it was ready for the engine.
    """

    frame: Frame
    capture_ns: int
    ready_ns: int


class CaptureThread:
    """Reads `source` into a slot: newest wins for a live source, nothing is lost for a recording.

    Attributes:
        slot: where the frames are.
        frames: how many the source delivered.
        error: what broke the source, if anything; set before the slot ends.
    """

    def __init__(self, source: Source, clock: Callable[[], int]) -> None:
        self.slot: Slot[Captured] = Slot(lossless=not source.live)
        self.frames = 0
        self.error: Exception | None = None
        self._source = source
        self._clock = clock
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="capture", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it.

        Raises:
            SourceError: it does not end, so the source cannot be closed safely; `stuck` is true then.
        """
        self._stopping = True
        self._thread.join(JOIN_S)
        if self.stuck:
            raise SourceError(f"{self._source.describe()}: a read has been stuck for {JOIN_S:g} s")

    @property
    def stuck(self) -> bool:
        """Told to stop, and still reading."""
        return self._stopping and self._thread.is_alive()

    def _work(self) -> None:
        try:
            while not self._stopping:
                if (captured := self._read()) is not None:
                    self._put(captured)
        except EndOfStream:
            return
        except Exception as error:  # carried over to the engine's thread, which raises it
            self.error = error
        finally:
            self.slot.end()

    def _read(self) -> Captured | None:
        started_ns = self._clock()
        frame = self._source.read(POLL_S)
        if frame is None:
            return None
        self.frames += 1
        ready_ns = self._clock()
        return Captured(
            frame, ready_ns - (started_ns if frame.taken_ns is None else frame.taken_ns), ready_ns
        )

    def _put(self, captured: Captured) -> None:
        while not self._stopping and not self.slot.put(captured, POLL_S):
            continue
