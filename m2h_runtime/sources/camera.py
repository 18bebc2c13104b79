"""A V4L2 camera: USB, MIPI or a loopback device."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from m2h_runtime.errors import SourceError
from m2h_runtime.files import reason
from m2h_runtime.frame import Frame
from m2h_runtime.sources.base import Source

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_S = 2.0
"""A camera that delivers nothing for so long is gone."""


class CameraSource(Source):
    """Frames from a V4L2 device, stamped by the driver where it does so on the monotonic clock.

    A blocking driver cannot be interrupted, so `read` may take up to `PATIENCE_S` whatever its time limit.

    Args:
        device: "/dev/video0", or its index "0".
        size: (height, width) to ask the camera for; None takes its default.
        fps: rate to ask the camera for; None takes its default.
        clock: the monotonic clock, integer nanoseconds.

    Raises:
        SourceError: no such device, no permission, busy, not a camera, or it has no such size.
    """

    live = True

    def __init__(
        self,
        device: str,
        size: tuple[int, int] | None = None,
        fps: float | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.path = f"/dev/video{device}" if device.isdigit() else device
        self._clock = clock
        self._sequence = 0
        _check_device(self.path)
        # OpenCV would wait 10 s for a silent camera; it reads this when the first device is opened.
        os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(round(PATIENCE_S)))
        self._capture = cv2.VideoCapture(self.path, cv2.CAP_V4L2)
        try:
            self._configure(size, fps)
        except BaseException:
            self.close()
            raise
        self._last_ns = self._clock()

    def _configure(self, size: tuple[int, int] | None, fps: float | None) -> None:
        capture = self._capture
        if not capture.isOpened():
            raise SourceError(
                f"{self.path}: not a camera, or another program has it; `fuser -v {self.path}` names it"
            )
        if size is not None:
            # Most USB cameras reach their full rate above VGA in MJPG only; one that has none ignores this.
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[1])
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[0])
        if fps is not None:
            capture.set(cv2.CAP_PROP_FPS, fps)
        width, height = (int(capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if size is not None and (height, width) != size:
            raise SourceError(
                f"{self.path}: asked for {size[1]}x{size[0]}, the camera gives {width}x{height}; "
                f"`v4l2-ctl -d {self.path} --list-formats-ext` lists what it has"
            )
        self.size = (height, width)
        self.fps = float(capture.get(cv2.CAP_PROP_FPS)) or None

    def read(self, timeout_s: float) -> Frame | None:
        """The next image of the camera; see `Source.read`."""
        taken, bgr = self._capture.read()
        now_ns = self._clock()
        if not taken:
            if now_ns - self._last_ns > PATIENCE_S * 1e9:
                raise SourceError(
                    f"{self.path}: the camera stopped delivering (nothing for {PATIENCE_S:g} s); "
                    "check its cable and `dmesg`"
                )
            time.sleep(min(timeout_s, 0.01))  # some drivers fail at once, again and again
            return None
        self._last_ns = now_ns
        frame = Frame(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), self._stamp_ns(now_ns), self._sequence)
        self._sequence += 1
        return frame

    def _stamp_ns(self, now_ns: int) -> int:
        """The driver's own stamp if it is on our clock, else the time of arrival."""
        driver_ns = round(1e6 * float(self._capture.get(cv2.CAP_PROP_POS_MSEC)))
        return driver_ns if 0 <= now_ns - driver_ns < PATIENCE_S * 1e9 else now_ns

    def describe(self) -> str:
        """Device, size and rate."""
        rate = f" at {self.fps:g} FPS" if self.fps else ""
        return f"camera {self.path}, {self.size[1]}x{self.size[0]}{rate}"

    def close(self) -> None:
        """Release the device."""
        self._capture.release()


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
