"""What can be known of cameras that are not here: their pipelines, and what is said where a library is missing."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import cv2
import pytest

from m2h_runtime.errors import InputError, SourceError
from m2h_runtime.sources import GStreamerSource, OakSource, RealSenseSource, jetson_csi
from m2h_runtime.sources.gstreamer import with_sink
from m2h_runtime.sources.oak import _nanoseconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from m2h_runtime.sources import Source


def test_a_csi_camera_is_asked_for_size_and_rate() -> None:
    assert jetson_csi(1, (1080, 1920), 60) == (
        "nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),width=1920,height=1080,framerate=60/1 ! "
        "nvvidconv ! video/x-raw,format=BGRx"
    )
    assert "framerate=2997/100" in jetson_csi(fps=29.97)


def test_a_pipeline_without_a_sink_gets_one_that_keeps_the_newest_image_only() -> None:
    assert with_sink("v4l2src ! image/jpeg ! jpegdec !") == (
        "v4l2src ! image/jpeg ! jpegdec ! videoconvert ! video/x-raw,format=BGR ! "
        "appsink drop=true max-buffers=1 sync=false"
    )
    own = "videotestsrc ! videoconvert ! appsink drop=false"
    assert with_sink(own) == own


@pytest.mark.skipif(cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER), reason="this OpenCV has GStreamer")
def test_an_opencv_without_gstreamer_says_what_to_install() -> None:
    with pytest.raises(SourceError, match=r"built without it.*sudo apt install python3-opencv") as error:
        GStreamerSource("videotestsrc")
    assert "\n" not in str(error.value)


@pytest.mark.skipif(
    not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER),
    reason="needs an OpenCV with GStreamer (Jetson, Ubuntu)",
)
def test_a_gstreamer_pipeline_runs() -> None:
    with GStreamerSource("videotestsrc ! video/x-raw,width=64,height=48") as source:
        frame = source.read(1.0)
    assert frame is not None
    assert frame.image.shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("module", "open_source", "extra"),
    [("pyrealsense2", RealSenseSource, "realsense"), ("depthai", OakSource, "oak")],
)
def test_a_missing_library_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, module: str, open_source: Callable[[], Source], extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        InputError, match=rf"{module}: is not installed.*pip install 'm2h-runtime\[{extra}\]'"
    ):
        open_source()


@pytest.mark.parametrize("open_source", [RealSenseSource, OakSource])
def test_no_such_device_is_one_line(open_source: Callable[..., Source]) -> None:
    pytest.importorskip("pyrealsense2" if open_source is RealSenseSource else "depthai", exc_type=ImportError)
    began = time.monotonic()
    with pytest.raises(SourceError, match="no such camera; cameras here: none") as error:
        open_source("no-such-device")
    assert "\n" not in str(error.value)
    assert time.monotonic() - began < 5, "a camera that is away must not hold the run up"


def test_depthai_times_are_whole_microseconds_of_the_monotonic_clock() -> None:
    assert _nanoseconds(timedelta(days=2, seconds=3, microseconds=7)) == (2 * 86400 + 3) * 10**9 + 7000
