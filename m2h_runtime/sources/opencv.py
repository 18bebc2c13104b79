"""What the live sources that block in OpenCV have in common."""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import cv2

from m2h_runtime.clocks import epoch_ns
from m2h_runtime.errors import SourceError
from m2h_runtime.frame import Frame
from m2h_runtime.sources.base import Source

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_S = 2.0
"""A camera that delivers nothing for so long is gone."""


class OpenCvSource(Source):
    """Frames of a `cv2.VideoCapture` that waits for its camera.

    A blocking driver cannot be interrupted, so `read` may take up to `PATIENCE_S` whatever its time limit.

    Args:
        clock: the monotonic clock, integer nanoseconds.
    """

    live = True
    _capture: Any
    """Set by the subclass; released by `close`."""

    def __init__(self, clock: Callable[[], int]) -> None:
        super().__init__()
        self._clock = clock
        self._sequence = 0
        self._last_ns = clock()

    def read(self, timeout_s: float) -> Frame | None:
        """The next image of the camera; see `Source.read`."""
        taken, bgr = self._capture.read()
        now_ns = self._clock()
        if not taken:
            silent = now_ns - self._last_ns > PATIENCE_S * 1e9
            if silent or self._is_gone():
                raise SourceError(
                    self._gone_text(f"nothing for {PATIENCE_S:g} s" if silent else "it is gone")
                )
            time.sleep(min(timeout_s, 0.01))  # some drivers fail at once, again and again
            return None
        self._last_ns = now_ns
        taken_ns = self._taken_ns(now_ns)
        rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        frame = Frame(rgb, epoch_ns(taken_ns), self._sequence, taken_ns=taken_ns)
        self._sequence += 1
        return frame

    def _taken_ns(self, now_ns: int) -> int:
        """When the image that arrived at `now_ns` was taken."""
        return now_ns

    def _is_gone(self) -> bool:
        """Whether a failed read is the end, without waiting any longer."""
        return False

    @abstractmethod
    def _gone_text(self, what: str) -> str:
        """The error for a camera that stopped delivering."""

    def close(self) -> None:
        """Release the device."""
        self._capture.release()
