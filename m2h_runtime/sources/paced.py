"""A recording played at its own pace, as if it were a camera."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from m2h_runtime.clocks import epoch_ns
from m2h_runtime.sources.base import Source

if TYPE_CHECKING:
    from collections.abc import Callable

    from m2h_runtime.frame import Frame
    from m2h_runtime.sources.recording import Recording

LONGEST_GAP_NS = 5_000_000_000
"""A recording whose stamps jump further than this, or back, goes on at once."""
LATEST_NS = 200_000_000
"""A frame that was read later than this after it was due (a slow disk, a new lap that is prepared) is due now."""


class PacedSource(Source):
    """`recording`, each frame released when it is due: `taken_ns` is that time on `clock`.

    Args:
        recording: a source that is not live; it is closed with this one.
        clock: monotonic, integer nanoseconds.
        sleep: waits so many seconds on that clock.
        restamp: True: frames and IMU samples are stamped as if taken now, for recordings whose stamps start at 0;
            False: they keep the stamps that were recorded.
    """

    live = True

    def __init__(
        self,
        recording: Recording,
        clock: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
        *,
        restamp: bool = True,
    ) -> None:
        super().__init__()
        self._recording = recording
        self._clock = clock
        self._sleep = sleep
        self._restamp = restamp
        self._ahead: Frame | None = None
        self._due_minus_stamp_ns = 0
        self._last_ns: int | None = None
        self.fps, self.imu, self.skipped = recording.fps, recording.imu, recording.skipped

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame once it is due; see `Source.read`."""
        frame = self._ahead or self._next(timeout_s)
        if frame is None:
            return None
        due_ns = frame.stamp_ns + self._due_minus_stamp_ns
        wait_s = (due_ns - self._clock()) / 1e9
        if wait_s > timeout_s:
            self._ahead = frame
            self._sleep(timeout_s)
            return None
        self._ahead = None
        if wait_s > 0:
            self._sleep(wait_s)
        return replace(frame, taken_ns=due_ns)

    def _next(self, timeout_s: float) -> Frame | None:
        frame = self._recording.read(timeout_s)
        if frame is None:
            return None
        jumped = self._last_ns is None or not 0 <= frame.stamp_ns - self._last_ns <= LONGEST_GAP_NS
        late_ns = self._clock() - frame.stamp_ns - self._due_minus_stamp_ns
        if jumped or late_ns > LATEST_NS:
            frame = self._due_now(frame)
        self._last_ns = frame.stamp_ns
        return frame

    def _due_now(self, frame: Frame) -> Frame:
        now_ns = self._clock()
        if self._restamp:
            # Rising, even if the system's clock was set back.
            stamp_ns = max(epoch_ns(now_ns), 1 + (self._last_ns or 0))
            shift_ns = stamp_ns - frame.stamp_ns
            self._recording.shift_ns += shift_ns
            if self.imu is not None:
                self.imu.reset()  # its samples are stamped as before; those to come are not
            frame = replace(frame, stamp_ns=stamp_ns)
        self._due_minus_stamp_ns = now_ns - frame.stamp_ns
        return frame

    def describe(self) -> str:
        """The recording, and that it is played at its pace."""
        return f"{self._recording.describe()}, played at its own pace"

    def close(self) -> None:
        """Close the recording."""
        self._recording.close()
