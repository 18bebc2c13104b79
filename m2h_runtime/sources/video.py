"""A video file, every frame of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2

from m2h_runtime.errors import SourceError
from m2h_runtime.frame import Frame
from m2h_runtime.sources.base import EndOfStream
from m2h_runtime.sources.recording import Recording

DEFAULT_FPS = 30.0


class VideoSource(Recording):
    """Frames of a video file with the container's stamps, integer nanoseconds from its start.

    Raises:
        SourceError: the file is missing, is no video, or has no frame that can be decoded.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path)
        if not self.path.is_file():
            raise SourceError(f"{self.path}: no such video file")
        self._capture = cv2.VideoCapture(str(self.path), cv2.CAP_FFMPEG)
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps = rate if 0 < rate <= 1000 else None
        self._sequence = 0
        self._stamp_ns = -1
        try:
            # Decoding one frame is the only proof: a cut-off file opens and promises frames all the same.
            self._ahead = self._decode()
        except BaseException:
            self.close()
            raise
        if self._ahead is None:
            self.close()
            raise SourceError(
                f"{self.path}: no frame in it can be decoded; is it a video? `ffprobe {self.path}` says more"
            )
        self.size = self._ahead.image.shape[:2]

    def read(self, timeout_s: float) -> Frame | None:  # noqa: ARG002  # decoding waits for nothing
        """The next frame of the file; see `Source.read`. Never None."""
        frame, self._ahead = self._ahead or self._decode(), None
        if frame is None:
            raise EndOfStream
        return replace(frame, stamp_ns=frame.stamp_ns + self.shift_ns)

    def _decode(self) -> Frame | None:
        taken, bgr = self._capture.read()
        if not taken:
            return None
        frame = Frame(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), self._next_stamp_ns(), self._sequence)
        self._sequence += 1
        return frame

    def _next_stamp_ns(self) -> int:
        """The container's stamp; one nominal period after the last where it does not increase."""
        stamp_ns = round(1e6 * float(self._capture.get(cv2.CAP_PROP_POS_MSEC)))
        if stamp_ns <= self._stamp_ns:
            stamp_ns = self._stamp_ns + round(1e9 / (self.fps or DEFAULT_FPS))
        self._stamp_ns = stamp_ns
        return stamp_ns

    def describe(self) -> str:
        """File, size and rate."""
        rate = f" at {self.fps:.4g} FPS" if self.fps else ""
        return f"video {self.path}, {self.size[1]}x{self.size[0]}{rate}"

    def close(self) -> None:
        """Close the file."""
        self._capture.release()
