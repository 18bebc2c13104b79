from __future__ import annotations

import numpy as np
import pytest
from stand_ins import Clock
from tiny_engine import picture

from m2h_runtime.errors import SourceError
from m2h_runtime.frame import Frame
from m2h_runtime.pipeline.health import Health, Level
from m2h_runtime.pipeline.reconnect import LONGEST_WAIT_S, ReconnectingSource
from m2h_runtime.sources import EndOfStream, Source


class Cable:
    """A camera on a cable: `plugged` or not; every camera opened on it counts from 0."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.plugged = True
        self.opened: list[Camera] = []
        self.tries: list[int] = []

    def open(self) -> Camera:
        self.tries.append(self.clock())
        if not self.plugged:
            raise SourceError("/dev/video0: no such camera")
        self.opened.append(Camera(self))
        return self.opened[-1]


class Camera(Source):
    live = True

    def __init__(self, cable: Cable) -> None:
        super().__init__()
        self.cable = cable
        self.count = 0
        self.closed = False

    def read(self, timeout_s: float) -> Frame | None:
        if not self.cable.plugged:
            raise SourceError("/dev/video0: the camera stopped delivering")
        self.cable.clock.forward(30)
        frame = Frame(picture(0), self.cable.clock(), self.count, taken_ns=self.cable.clock())
        self.count += 1
        return frame

    def describe(self) -> str:
        return "camera /dev/video0"

    def close(self) -> None:
        self.closed = True


def reconnecting(cable: Cable) -> tuple[ReconnectingSource, Health]:
    clock = cable.clock
    health = Health(clock=clock)
    return ReconnectingSource(cable.open, health, clock, lambda s: clock.forward(1000 * s)), health


def test_a_camera_that_comes_back_goes_on_where_it_stopped() -> None:
    cable = Cable(Clock())
    source, health = reconnecting(cable)
    assert [source.read(0.1).sequence for _ in range(3)] == [0, 1, 2]  # type: ignore[union-attr]
    cable.plugged = False
    assert source.read(0.1) is None
    assert health.worst().level == Level.FAILED
    assert "stopped delivering; opening it again" in health.worst().text
    assert cable.opened[0].closed
    for _ in range(20):
        assert source.read(0.1) is None
    cable.plugged = True
    back_ns = cable.clock()
    frame = None
    while frame is None:
        frame = source.read(0.1)
    assert cable.clock() - back_ns <= (LONGEST_WAIT_S + 0.1) * 1e9
    assert frame.sequence == 3
    assert source.reconnects == 1
    assert health.worst().level == Level.OK
    assert health.transitions[-1].condition.text.startswith("back after")


def test_the_wait_between_tries_doubles_up_to_two_seconds() -> None:
    cable = Cable(Clock())
    source, health = reconnecting(cable)
    cable.plugged = False
    for _ in range(300):
        source.read(0.1)
    waits = np.diff(cable.tries[1:]) / 1e9
    assert waits[:3] == pytest.approx([0.5, 1.0, 2.0], abs=0.01)
    assert waits.max() == pytest.approx(LONGEST_WAIT_S, abs=0.01)
    assert len(health.transitions) == 1, "said once, not with every try"


def test_no_read_takes_much_longer_than_it_was_given() -> None:
    cable = Cable(Clock())
    source, _ = reconnecting(cable)
    cable.plugged = False
    for _ in range(50):
        before = cable.clock()
        source.read(0.1)
        assert cable.clock() - before <= 0.1e9


def test_a_stream_that_ends_is_opened_again() -> None:
    cable = Cable(Clock())
    source, health = reconnecting(cable)

    def end(timeout_s: float) -> Frame:
        raise EndOfStream

    cable.opened[0].read = end  # type: ignore[method-assign]
    assert source.read(0.1) is None
    assert "the stream ended" in health.worst().text
    while source.read(0.1) is None:
        pass
    assert len(cable.opened) == 2


def test_a_wrong_name_is_an_error_at_once() -> None:
    cable = Cable(Clock())
    cable.plugged = False
    with pytest.raises(SourceError, match="no such camera"):
        reconnecting(cable)
