"""A network camera, played by a real HTTP server of MJPEG on this machine."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from made_bags import jpeg
from mjpeg_server import Camera, served, shade

from m2h_runtime.errors import SourceError
from m2h_runtime.sources import RtspSource
from m2h_runtime.sources import stream as stream_module

if TYPE_CHECKING:
    from m2h_runtime.frame import Frame


def next_frame(source: RtspSource, patience_s: float = 5.0) -> Frame:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if (frame := source.read(0.1)) is not None:
            return frame
    raise AssertionError("no frame came")


def number(frame: Frame) -> int:
    return round(float(frame.image[..., 0].mean())) - 40


def test_a_stream_gives_rgb_frames_stamped_when_they_arrive() -> None:
    with served(Camera()) as url, RtspSource(url) as source:
        assert source.live
        assert source.describe() == f"stream {url}"
        frames = [next_frame(source) for _ in range(5)]
        now_ns = time.monotonic_ns()
    for frame in frames:
        assert frame.image.shape == (48, 64, 3)
        assert frame.image[..., 1:].mean() < 10
        assert frame.taken_ns is not None
        assert 0 < now_ns - frame.taken_ns < 5e9
        assert abs(time.time_ns() - frame.stamp_ns) < 10e9
    assert [frame.sequence for frame in frames] == list(range(5))
    assert np.all(np.diff([frame.stamp_ns for frame in frames]) > 0)
    assert stream_module._OPTIONS not in os.environ, "other videos are opened as ever"


def test_a_slow_reader_gets_the_newest_frame_and_no_old_one() -> None:
    camera = Camera()
    with served(camera) as url, RtspSource(url) as source:
        next_frame(source)
        time.sleep(0.7)
        before = camera.sent
        frame = next_frame(source)
        assert before - number(frame) <= 8, "some frames are underway; all of 0.7 s would be 35"


def test_a_corrupt_picture_does_not_end_the_stream() -> None:
    def send(index: int) -> bytes:
        whole = jpeg(shade(index))
        if index % 10 != 5:
            return whole
        return whole[:20] if index % 20 == 5 else b"no image at all"

    with served(Camera(send)) as url, RtspSource(url) as source:
        seen: list[int] = []
        while len(seen) < 20:
            seen.append(number(next_frame(source)))
    assert seen[-1] >= 20


def test_a_stream_that_stalls_gives_none_and_then_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "READ_S", 1.0)
    camera = Camera()
    with served(camera) as url, RtspSource(url) as source:
        next_frame(source)
        camera.send = lambda _: None
        stalled = time.monotonic()
        waits = 0
        with pytest.raises(SourceError, match="the stream ended, or stalled"):
            while True:
                asked = time.monotonic()
                waits += source.read(0.1) is None
                assert time.monotonic() - asked < 0.5, "no read takes longer than it may"
        assert waits >= 5
        assert time.monotonic() - stalled < 3.0


def test_a_server_that_dies_is_noticed_at_once() -> None:
    def send(index: int) -> bytes:
        if index >= 12:
            raise EOFError
        return jpeg(shade(index))

    with served(Camera(send)) as url, RtspSource(url) as source:
        began = time.monotonic()
        with pytest.raises(SourceError, match="the stream ended"):
            while True:
                source.read(0.1)
        assert time.monotonic() - began < 3.0


def test_a_stream_can_be_closed_while_it_stalls() -> None:
    camera = Camera()
    with served(camera) as url:
        source = RtspSource(url)
        next_frame(source)
        camera.send = lambda _: None
        time.sleep(0.1)
        began = time.monotonic()
        source.close()
        source.close()
        assert time.monotonic() - began < 0.5


def test_a_stream_that_came_back_is_opened_again() -> None:
    camera = Camera()
    with served(camera) as url:
        for _ in range(2):
            with RtspSource(url) as source:
                next_frame(source)


def test_nobody_at_the_address_is_one_line_without_the_password() -> None:
    with pytest.raises(SourceError, match=r"^http://127\.0\.0\.1:9/video: no stream there") as error:
        RtspSource("http://robot:secret@127.0.0.1:9/video")
    assert "\n" not in str(error.value)


def test_a_stream_of_no_pictures_is_an_error() -> None:
    camera = Camera(lambda _: b"<html>hello</html>" * 30)
    said = pytest.raises(SourceError, match=r"no stream there|the stream ended")
    with served(camera) as url, said, RtspSource(url) as source:
        next_frame(source)
