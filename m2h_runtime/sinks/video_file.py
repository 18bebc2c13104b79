"""An annotated MP4 of the run."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2

from m2h_runtime.errors import InputError, SinkError
from m2h_runtime.files import reason
from m2h_runtime.sinks.base import Sink, check_writable
from m2h_runtime.sinks.render import DepthRange, panel, tiles

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from m2h_runtime.engine.manifest import Manifest
    from m2h_runtime.sinks.base import Observation

DEFAULT_FPS = 30.0
LONGEST_STILL_S = 1.0


class VideoFileSink(Sink):
    """Writes the panel of every observation to `path`, which appears when the run has ended well.

    The video plays at the pace of the frames' stamps: where frames were dropped, the one before stands still.

    Args:
        path: the MP4 file.
        manifest: of the engine, for the annotations.
        backend: the backend's name.
        fps: rate of the video; None takes 30.

    Raises:
        InputError: the file is not called *.mp4.
        SinkError: the folder cannot be written.
    """

    name = "record"

    def __init__(self, path: Path, manifest: Manifest, backend: str, fps: float | None) -> None:
        check_video_path(path)
        self._path = path
        self._manifest = manifest
        self._backend = backend
        self._fps = fps or DEFAULT_FPS
        self._range = DepthRange()
        self._temporary: Path | None = None
        self._writer: Any = None
        self._shown: NDArray[np.uint8] | None = None
        self._written = 0
        self._due = 0.0
        self._stamp_ns = 0

    def write(self, observation: Observation) -> None:
        """Append one panel, after as many repeats of the one before as the stamps ask for."""
        rgb = panel(observation, tiles(observation, self._range), self._manifest, self._backend)
        picture = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
        if self._shown is None:
            self._open(picture)
        else:
            if picture.shape != self._shown.shape:  # images of several sizes: the first one decides
                picture = cv2.resize(picture, self._shown.shape[1::-1], interpolation=cv2.INTER_AREA)
            apart_s = (observation.frame.stamp_ns - self._stamp_ns) / 1e9
            self._due += self._fps * min(max(apart_s, 0.0), LONGEST_STILL_S)
            while self._written < round(self._due):
                self._append(self._shown)
        self._append(picture)
        self._shown, self._stamp_ns = picture, observation.frame.stamp_ns

    def _open(self, picture: NDArray[np.uint8]) -> None:
        try:
            # The name keeps its ending: it tells OpenCV the container.
            handle, name = tempfile.mkstemp(".mp4", f".{self._path.stem}.", self._path.parent)
        except OSError as error:
            raise self._failed(reason(error)) from error
        os.close(handle)
        self._temporary = Path(name)
        height, width = picture.shape[:2]
        codec = cv2.VideoWriter.fourcc(*"mp4v")
        self._writer = cv2.VideoWriter(name, cv2.CAP_FFMPEG, codec, self._fps, (width, height))
        if not self._writer.isOpened():
            raise self._failed("OpenCV has no MPEG-4 encoder here")

    def _append(self, picture: NDArray[np.uint8]) -> None:
        if self._writer.write(picture) is False:  # OpenCV 5 tells; before it, only `close` can find out
            raise self._failed(self._why_full())
        self._written += 1

    def close(self) -> None:
        """Finish the file, read it back for its number of frames, and put it in place."""
        if self._temporary is None:  # not one frame came
            return
        self._writer.release()
        self._writer = None
        if not self._complete():
            raise self._failed(self._why_full())
        try:
            self._temporary.chmod(0o644)  # tempfile makes it private to its owner
            self._temporary.replace(self._path)
        except OSError as error:
            raise self._failed(reason(error)) from error
        self._temporary = None

    def abort(self) -> None:
        """Remove the temporary file."""
        if self._writer is not None:
            self._writer.release()
        if self._temporary is not None:
            with suppress(OSError):  # a disk that has become read-only
                self._temporary.unlink(missing_ok=True)

    def _complete(self) -> bool:
        """The index of an MP4 is written last, so a file that a full disk cut off has none."""
        check = cv2.VideoCapture(str(self._temporary), cv2.CAP_FFMPEG)
        frames = round(check.get(cv2.CAP_PROP_FRAME_COUNT)) if check.isOpened() else 0
        check.release()
        return frames >= self._written

    def _why_full(self) -> str:
        """OpenCV does not say why a write failed; the operating system does when asked for a little more."""
        try:
            with Path(str(self._temporary)).open("ab") as stream:
                stream.write(bytes(1 << 16))
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            return reason(error)
        return "the encoder failed"

    def _failed(self, why: str) -> SinkError:
        return SinkError(
            f"{self._path}: the recording cannot be written ({why}); free some space or choose another"
        )


def check_video_path(path: Path) -> None:
    """Find out before a run whether a recording can be written to `path`.

    Raises:
        InputError: it is not called *.mp4.
        SinkError: it cannot be written.
    """
    if path.suffix.lower() != ".mp4":
        raise InputError(
            f"{path}: recordings are MP4 files, or MCAP; call it {path.with_suffix('.mp4').name} or .mcap"
        )
    check_writable(path)
