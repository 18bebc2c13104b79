"""A GStreamer pipeline, for cameras that V4L2 alone does not serve: CSI cameras of a Jetson above all."""

from __future__ import annotations

import time
from fractions import Fraction
from typing import TYPE_CHECKING

import cv2

from m2h_runtime.errors import SourceError
from m2h_runtime.sources.opencv import PATIENCE_S, OpenCvSource

if TYPE_CHECKING:
    from collections.abc import Callable

OPEN_S = 5.0
NEWEST_AS_BGR = "videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"


def jetson_csi(sensor_id: int = 0, size: tuple[int, int] = (720, 1280), fps: float = 30.0) -> str:
    """The pipeline of a CSI camera through the Jetson's image processor.

    Args:
        sensor_id: number of the camera.
        size: (height, width); one of the sensor's modes.
        fps: frames a second.
    """
    rate = Fraction(fps).limit_denominator(1001)
    return (
        f"nvarguscamerasrc sensor-id={sensor_id} ! "
        f"video/x-raw(memory:NVMM),width={size[1]},height={size[0]},framerate={rate.numerator}/{rate.denominator} ! "
        "nvvidconv ! video/x-raw,format=BGRx"
    )


def with_sink(pipeline: str) -> str:
    """`pipeline`, ended by a sink that keeps the newest image only, if it has no appsink of its own."""
    return pipeline if "appsink" in pipeline else f"{pipeline.rstrip(' !')} ! {NEWEST_AS_BGR}"


class GStreamerSource(OpenCvSource):
    """Images of a GStreamer pipeline, stamped when they arrive.

    Args:
        pipeline: as for gst-launch-1.0; without an appsink it gets one, see `with_sink`.
        clock: the monotonic clock, integer nanoseconds.

    Raises:
        SourceError: OpenCV was built without GStreamer, or the pipeline does not start.
    """

    def __init__(self, pipeline: str, clock: Callable[[], int] = time.monotonic_ns) -> None:
        super().__init__(clock)
        self.pipeline = with_sink(pipeline)
        if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
            raise SourceError(
                "gstreamer: this OpenCV was built without it, as all wheels from PyPI are; uninstall "
                "opencv-python-headless and use the system's (`sudo apt install python3-opencv`), in a "
                "virtual environment made with --system-site-packages"
            )
        limits = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
            round(1e3 * OPEN_S),
            cv2.CAP_PROP_READ_TIMEOUT_MSEC,
            round(1e3 * PATIENCE_S),
        ]
        self._capture = cv2.VideoCapture(self.pipeline, cv2.CAP_GSTREAMER, limits)
        if not self._capture.isOpened():
            self.close()
            raise SourceError(
                f"gstreamer: the pipeline does not start; try it: gst-launch-1.0 -v {pipeline} ! fakesink"
            )
        self.fps = float(self._capture.get(cv2.CAP_PROP_FPS)) or None
        self._last_ns = self._clock()

    def _gone_text(self, what: str) -> str:
        return f"gstreamer: the pipeline stopped delivering ({what}); it was {self.pipeline}"

    def describe(self) -> str:
        """The pipeline."""
        return f"gstreamer {self.pipeline}"
