"""A recording that starts again at its end."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from m2h_runtime.errors import SourceError
from m2h_runtime.sources.base import EndOfStream
from m2h_runtime.sources.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Callable

    from m2h_runtime.frame import Frame

DEFAULT_PERIOD_NS = 100_000_000
"""Of a recording of one frame."""


class LoopedSource(Recording):
    """What `open_recording` opens, opened anew at its end, for ever.

    Stamps go on rising: each lap is shifted by the recording's length and one period. Frames count on. The IMU track is
    one and the same, parted between laps, as nobody knows the motion from the last frame to the first.

    Args:
        open_recording: opens the recording at its beginning.

    Attributes:
        laps: how often it started again.
    """

    def __init__(self, open_recording: Callable[[], Recording]) -> None:
        super().__init__()
        self._open = open_recording
        self._recording = open_recording()
        self.fps, self.imu, self.skipped = (
            self._recording.fps,
            self._recording.imu,
            self._recording.skipped,
        )
        self.laps = 0
        self._lap_shift_ns = 0
        self._stamps_ns: list[int] = []
        self._sequence = 0

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame; see `Source.read`. Never raises EndOfStream.

        Raises:
            SourceError: the recording has no frame to repeat, or broke.
        """
        try:
            frame = self._read(timeout_s)
        except EndOfStream:
            self._start_again()
            frame = self._read(timeout_s)
        if frame is None:
            return None
        frame = replace(frame, sequence=self._sequence)
        self._sequence += 1
        return frame

    def _read(self, timeout_s: float) -> Frame | None:
        shift_ns = self._lap_shift_ns + self.shift_ns
        self._recording.shift_ns = shift_ns
        frame = self._recording.read(timeout_s)
        if frame is not None:
            # The first, the last but one and the last of this lap, as recorded.
            self._stamps_ns = [*self._stamps_ns[:1], *self._stamps_ns[1:][-1:], frame.stamp_ns - shift_ns]
        return frame

    def _start_again(self) -> None:
        stamps_ns, self._stamps_ns = self._stamps_ns, []
        if not stamps_ns:
            raise SourceError(f"{self._recording.describe()}: has no frame to repeat")
        period_ns = stamps_ns[-1] - stamps_ns[-2] if len(stamps_ns) > 1 else 0
        length_ns = max(stamps_ns) - min(stamps_ns)
        self._lap_shift_ns += length_ns + (period_ns if period_ns > 0 else DEFAULT_PERIOD_NS)
        self.laps += 1
        self._recording.close()
        if self.imu is not None:
            self.imu.part()
        self._recording = self._open()
        self._recording.imu, self._recording.skipped = self.imu, self.skipped

    def describe(self) -> str:
        """The recording, and that it is repeated."""
        return f"{self._recording.describe()}, again and again"

    def close(self) -> None:
        """Close the recording."""
        self._recording.close()
