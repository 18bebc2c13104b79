"""A network camera: RTSP, or MJPEG over HTTP."""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import cv2

from m2h_runtime.clocks import epoch_ns
from m2h_runtime.errors import SourceError
from m2h_runtime.frame import Frame
from m2h_runtime.sources.base import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray

OPEN_S = 5.0
READ_S = 5.0
"""A camera that sends nothing for so long is gone."""
CLOSE_S = 0.2
"""`close` waits so long for a stream that flows; one that stalls is left to itself."""
LOW_LATENCY = "rtsp_transport;tcp|fflags;nobuffer|flags;low_delay|analyzeduration;1000000"
"""For FFmpeg, as OpenCV wants it. UDP would lose packets, and with them parts of images, without a word."""
MANY = 10
"""A damaged image fails to be read, and so does a stream that has ended; so many in a row are its end."""
BROKEN_IMAGE = "undecodable image"
_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"


class RtspSource(Source):
    """The newest image of a network camera, stamped when it arrived; what it was underway is not known.

    A thread receives all images, so that none grows old in a buffer, and outlives `close` by at most `READ_S`.

    Args:
        url: rtsp://..., or http://... of an MJPEG stream.
        clock: the monotonic clock, integer nanoseconds.

    Raises:
        SourceError: nobody answers there within `OPEN_S`, or it is no video.
    """

    live = True

    def __init__(self, url: str, clock: Callable[[], int] = time.monotonic_ns) -> None:
        super().__init__()
        self.url = url
        self._clock = clock
        self._sequence = 0
        capture = _opened(url)
        self.fps = float(capture.get(cv2.CAP_PROP_FPS)) or None
        self._news = threading.Condition()
        self._newest: tuple[NDArray[np.uint8], int] | None = None
        self._ended = self._closed = False
        self._thread = threading.Thread(target=self._receive, args=(capture,), name="stream", daemon=True)
        self._thread.start()

    def _receive(self, capture: Any) -> None:
        """Keep the newest image until the stream ends; the capture is this thread's alone."""
        failures, last_ns = 0, self._clock()
        while not self._closed and failures < MANY and self._clock() - last_ns < READ_S * 1e9:
            taken, bgr = capture.read()
            if not taken:
                failures += 1
                continue
            if failures:
                self.skipped[BROKEN_IMAGE] = self.skipped.get(BROKEN_IMAGE, 0) + failures
            failures, last_ns = 0, self._clock()
            with self._news:
                self._newest = bgr, last_ns
                self._news.notify()
        capture.release()
        with self._news:
            self._ended = True
            self._news.notify()

    def read(self, timeout_s: float) -> Frame | None:
        """The newest image that was not read yet; see `Source.read`."""
        with self._news:
            self._news.wait_for(lambda: self._newest is not None or self._ended, timeout_s)
            newest, self._newest = self._newest, None
        if newest is None:
            if self._ended:
                raise SourceError(
                    f"{_public(self.url)}: the stream ended, or stalled for {READ_S:g} s; is the camera up?"
                )
            return None
        bgr, taken_ns = newest
        rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        frame = Frame(rgb, epoch_ns(taken_ns), self._sequence, taken_ns=taken_ns)
        self._sequence += 1
        return frame

    def describe(self) -> str:
        """The address, without a password."""
        return f"stream {_public(self.url)}"

    def close(self) -> None:
        """Stop receiving."""
        self._closed = True
        self._thread.join(CLOSE_S)


def _opened(url: str) -> Any:
    limits = [
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
        round(1e3 * OPEN_S),
        cv2.CAP_PROP_READ_TIMEOUT_MSEC,
        round(1e3 * READ_S),
    ]
    with _low_latency():
        capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, limits)
    if not capture.isOpened():
        capture.release()
        raise SourceError(
            f"{_public(url)}: no stream there within {OPEN_S:g} s; `ffprobe` with the same address says more"
        )
    return capture


@contextmanager
def _low_latency() -> Iterator[None]:
    """FFmpeg's options, which OpenCV takes from the environment as it opens; the user's own go first."""
    own = os.environ.get(_OPTIONS)
    os.environ.setdefault(_OPTIONS, LOW_LATENCY)
    try:
        yield
    finally:
        if own is None:
            del os.environ[_OPTIONS]


def _public(url: str) -> str:
    """`url` without user name and password."""
    scheme, mark, rest = url.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2] if '@' in rest.partition('/')[0] else rest}"
