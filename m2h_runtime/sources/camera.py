"""A V4L2 camera: USB, MIPI or a loopback device."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from m2h_runtime.errors import InputError, SourceError
from m2h_runtime.files import reason
from m2h_runtime.sources.opencv import PATIENCE_S, OpenCvSource

if TYPE_CHECKING:
    from collections.abc import Callable


class CameraSource(OpenCvSource):
    """Frames from a V4L2 device, stamped by the driver where it does so on the monotonic clock.

    Args:
        device: "/dev/video0", or its index "0".
        size: (height, width) to ask the camera for; None takes its default.
        fps: rate to ask the camera for; None takes its default.
        pixel_format: four letters as V4L2 has them: "MJPG", "YUYV"; None takes MJPG where a size is asked for, as most
            USB cameras reach their full rate above VGA in MJPG only, and the camera's default otherwise.
        clock: the monotonic clock, integer nanoseconds.

    Raises:
        SourceError: no such device, no permission, busy, not a camera, or it has no such size or format.
        InputError: `pixel_format` is not four letters.
    """

    def __init__(
        self,
        device: str,
        size: tuple[int, int] | None = None,
        fps: float | None = None,
        pixel_format: str | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        super().__init__(clock)
        self.path = f"/dev/video{device}" if device.isdigit() else device
        if pixel_format is not None and len(pixel_format.encode()) != 4:
            raise InputError(f"pixel format {pixel_format!r}: give four letters, as in MJPG or YUYV")
        _check_device(self.path)
        # OpenCV would wait 10 s for a silent camera; it reads this when the first device is opened.
        os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(round(PATIENCE_S)))
        self._capture = cv2.VideoCapture(self.path, cv2.CAP_V4L2)
        try:
            self._configure(size, fps, pixel_format)
        except BaseException:
            self.close()
            raise
        self._last_ns = self._clock()

    def _configure(self, size: tuple[int, int] | None, fps: float | None, pixel_format: str | None) -> None:
        capture = self._capture
        if not capture.isOpened():
            raise SourceError(
                f"{self.path}: not a camera, or another program has it; `fuser -v {self.path}` names it"
            )
        if pixel_format is not None or size is not None:  # first: sizes belong to formats
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*(pixel_format or "MJPG")))
        if size is not None:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[1])
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[0])
        if fps is not None:
            capture.set(cv2.CAP_PROP_FPS, fps)
        width, height = (int(capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if size is not None and (height, width) != size:
            self._refuse(f"asked for {size[1]}x{size[0]}, the camera gives {width}x{height}")
        given = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode("ascii", "replace")
        if pixel_format is not None and given != pixel_format:
            self._refuse(f"asked for the pixel format {pixel_format}, the camera gives {given}")
        self.size = (height, width)
        self.fps = float(capture.get(cv2.CAP_PROP_FPS)) or None

    def _refuse(self, why: str) -> None:
        raise SourceError(
            f"{self.path}: {why}; `v4l2-ctl -d {self.path} --list-formats-ext` lists what it has"
        )

    def _taken_ns(self, now_ns: int) -> int:
        """The driver's own stamp if it is on our clock, else the time of arrival."""
        driver_ns = round(1e6 * float(self._capture.get(cv2.CAP_PROP_POS_MSEC)))
        return driver_ns if 0 <= now_ns - driver_ns < PATIENCE_S * 1e9 else now_ns

    def _is_gone(self) -> bool:
        return not Path(self.path).exists()

    def _gone_text(self, what: str) -> str:
        return f"{self.path}: the camera stopped delivering ({what}); check its cable and `dmesg`"

    def describe(self) -> str:
        """Device, size and rate."""
        rate = f" at {self.fps:g} FPS" if self.fps else ""
        return f"camera {self.path}, {self.size[1]}x{self.size[0]}{rate}"


def _check_device(path: str) -> None:
    """Say precisely what OpenCV only calls "not opened"."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
    except FileNotFoundError as error:
        there = ", ".join(sorted(str(p) for p in Path("/dev").glob("video*"))) or "none"
        raise SourceError(f"{path}: no such camera; cameras here: {there}") from error
    except PermissionError as error:
        raise SourceError(
            f"{path}: no permission; `sudo usermod -aG video $USER`, then log in again"
        ) from error
    except OSError as error:
        raise SourceError(f"{path}: the camera cannot be opened ({reason(error)})") from error
