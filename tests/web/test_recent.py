"""The figures of the last seconds, on a virtual clock."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from stand_ins import Clock

from m2h_runtime.pipeline.latency import Latencies
from m2h_runtime.web.recent import Recent

MS = 1_000_000


class Loop:
    """Perceptions at a rate."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.recent = Recent(self.clock)
        self.latencies = Latencies()
        self.pipeline: Any = SimpleNamespace(latencies=self.latencies)

    def run(self, frames: int, every_ms: float, engine_ms: float = 10.0, age_ms: float | None = 30.0) -> None:
        for index in range(frames):
            self.clock.forward(every_ms)
            self.latencies.add("engine", round(engine_ms * MS))
            if age_ms is not None:
                self.latencies.add("age", round((age_ms + 50 * (index % 50 == 0)) * MS))
            self.recent.note(self.pipeline)


def test_rate_stages_and_ages_are_of_the_last_seconds() -> None:
    loop = Loop()
    loop.run(300, 50.0, engine_ms=40.0)
    loop.run(600, 20.0, engine_ms=15.0)
    said = loop.recent.now()
    assert said.fps == pytest.approx(50)
    assert said.stages_ms is not None
    assert said.stages_ms["engine"] == pytest.approx(15)
    assert said.age_ms == pytest.approx((30, 80))


def test_a_loop_that_stalls_has_no_rate() -> None:
    loop = Loop()
    loop.run(100, 20.0)
    loop.clock.forward(900)
    assert loop.recent.now().fps == pytest.approx(50)
    loop.clock.forward(900)
    said = loop.recent.now()
    assert (said.fps, said.age_ms, said.stages_ms) == (0.0, None, None)


def test_an_engine_slower_than_the_window_has_a_rate() -> None:
    loop = Loop()
    loop.run(5, 4000.0)
    assert loop.recent.now().fps == pytest.approx(0.25)
    loop.clock.forward(9000)
    assert loop.recent.now().fps == 0


def test_before_the_second_perception_there_is_nothing() -> None:
    loop = Loop()
    assert loop.recent.now().fps == 0
    assert loop.recent.chart() == []
    loop.run(1, 20.0)
    assert loop.recent.now().fps == 0


def test_a_recording_has_no_age() -> None:
    loop = Loop()
    loop.run(100, 20.0, age_ms=None)
    assert loop.recent.now().age_ms is None


def test_the_chart_tells_the_last_minute() -> None:
    loop = Loop()
    loop.run(200, 50.0)
    loop.clock.forward(5000)
    loop.run(250, 20.0)
    chart = loop.recent.chart()
    by_age = {round(age): figures.fps for age, figures in chart}
    assert chart[0][0] == pytest.approx(20, abs=0.3)
    assert by_age[15] == pytest.approx(20)
    assert by_age[7] == 0, "the stall"
    assert by_age[2] == pytest.approx(50)
