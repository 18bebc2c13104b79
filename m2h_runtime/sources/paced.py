"""A recording played at its own pace, as if it were a camera."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from m2h_runtime.sources.base import Source

if TYPE_CHECKING:
    from collections.abc import Callable

    from m2h_runtime.frame import Frame


class PacedSource(Source):
    """`recording`, each frame released when it is due and stamped with that time on `clock`.

    Args:
        recording: a source that is not live; it is closed with this one.
        clock: monotonic, integer nanoseconds.
        sleep: waits so many seconds on that clock.
    """

    live = True

    def __init__(
        self,
        recording: Source,
        clock: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._recording = recording
        self._clock = clock
        self._sleep = sleep
        self._ahead: Frame | None = None
        self._offset_ns: int | None = None
        self.fps = recording.fps

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame once it is due; see `Source.read`."""
        frame = self._ahead or self._recording.read(timeout_s)
        if frame is None:
            return None
        if self._offset_ns is None:  # the first frame is due now
            self._offset_ns = self._clock() - frame.stamp_ns
        due_ns = frame.stamp_ns + self._offset_ns
        wait_s = (due_ns - self._clock()) / 1e9
        if wait_s > timeout_s:
            self._ahead = frame
            self._sleep(timeout_s)
            return None
        self._ahead = None
        if wait_s > 0:
            self._sleep(wait_s)
        return replace(frame, stamp_ns=due_ns)

    def describe(self) -> str:
        """The recording, and that it is played at its pace."""
        return f"{self._recording.describe()}, played at its own pace"

    def close(self) -> None:
        """Close the recording."""
        self._recording.close()
