"""What can go wrong while a live run goes on, on a virtual clock."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from stand_ins import Clock, Keep, NumpyEngine, Script
from tiny_engine import picture

from m2h_runtime.calibration.calibration import Calibration
from m2h_runtime.calibration.camera import CameraModel
from m2h_runtime.errors import EngineError
from m2h_runtime.frame import Frame
from m2h_runtime.pipeline import Health, Level, Pipeline
from m2h_runtime.pipeline.guard import FAILED
from m2h_runtime.pipeline.loop import HANG_S, LATE, MISFIT, OUT_OF_ORDER, SILENCE_S, STALE, START_S
from m2h_runtime.sources import EndOfStream, Source

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from m2h_runtime.pipeline import Transition

S = 10**9


class Stamps(Source):
    """A live source of frames with these stamps, each `age_s` old when it comes; one is read as one is perceived."""

    live = True

    def __init__(self, clock: Clock, stamps_s: Sequence[float], ages_s: Sequence[float] = ()) -> None:
        super().__init__()
        self.clock = clock
        self.left = list(enumerate(zip(stamps_s, ages_s or [0.0] * len(stamps_s), strict=True)))
        self.pipeline: Pipeline | None = None

    def read(self, timeout_s: float) -> Frame | None:
        assert self.pipeline is not None
        if not self.left:
            raise EndOfStream
        index, (stamp_s, age_s) = self.left[0]
        counts = self.pipeline.counts
        if counts.perceived + sum(counts.lost.values()) < index:
            return None  # so that none is replaced
        self.left.pop(0)
        self.clock.forward(100)
        taken_ns = self.clock() - round(age_s * S)
        return Frame(picture(index), round(stamp_s * S), index, taken_ns=taken_ns)

    def describe(self) -> str:
        return "stamps"


def run(
    tiny_engine: Path,
    stamps_s: Sequence[float],
    ages_s: Sequence[float] = (),
    max_age_s: float | None = None,
    engine: NumpyEngine | None = None,
) -> tuple[list[int], Pipeline]:
    clock = Clock()
    source, keep = Stamps(clock, stamps_s, ages_s), Keep()
    pipeline = Pipeline(source, engine or NumpyEngine(tiny_engine), [keep], clock=clock, max_age_s=max_age_s)
    source.pipeline = pipeline
    Keep.queue, before = 1000, Keep.queue  # type: ignore[misc]  # the sink is not what is tested here
    try:
        pipeline.run()
    finally:
        Keep.queue = before  # type: ignore[misc]
    return keep.sequences, pipeline


def levels(transitions: Sequence[Transition], part: str) -> list[Level]:
    return [t.condition.level for t in transitions if t.part == part]


def test_a_frame_that_is_too_old_is_dropped_and_counted(tiny_engine: Path) -> None:
    stamps = [0.1 * i for i in range(1, 20)]
    ages = [0.0, 0.0, 0.3, 0.31, 0.29] + [0.0] * 14
    seen, pipeline = run(tiny_engine, stamps, ages, max_age_s=0.295)
    assert seen == [0, 1, *range(4, 19)]
    assert pipeline.counts.lost == {LATE: 2}
    assert levels(list(pipeline.health.transitions), "deadline") == [Level.DEGRADED, Level.OK]


def test_without_a_deadline_age_costs_nothing(tiny_engine: Path) -> None:
    seen, pipeline = run(tiny_engine, [1, 2, 3], [5.0, 50.0, 500.0])
    assert seen == [0, 1, 2]
    assert not pipeline.counts.lost


def test_stamps_that_do_not_rise_are_dropped_and_counted(tiny_engine: Path) -> None:
    seen, pipeline = run(tiny_engine, [1.0, 1.1, 1.05, 1.1, 1.2, 1.3])
    assert seen == [0, 1, 4, 5]
    assert pipeline.counts.lost == {OUT_OF_ORDER: 2}
    assert pipeline.health.worst().text.startswith("frames: frames come with stamps that are not after")


def test_a_bag_that_starts_over_is_a_new_beginning(tiny_engine: Path) -> None:
    stamps = [10 + 0.1 * i for i in range(8)] + [10 + 0.1 * i for i in range(15)]
    seen, pipeline = run(tiny_engine, stamps)
    assert len(seen) == 23, "nothing is lost"
    said = [t.condition for t in pipeline.health.transitions if t.part == "frames"]
    assert said[0].text == "stamps jumped back by 0.7 s: taken for a recording that starts over"
    assert levels(list(pipeline.health.transitions), "frames")[-1] == Level.OK


def test_a_live_engine_that_fails_costs_frames_only(tiny_engine: Path) -> None:
    calls: list[int] = []

    def fail_twice() -> None:
        calls.append(1)
        if len(calls) in (3, 4):
            raise EngineError("device lost")

    engine = NumpyEngine(tiny_engine, fail_twice)
    seen, pipeline = run(tiny_engine, [float(i) for i in range(1, 20)], engine=engine)
    assert seen == [0, 1, *range(4, 19)]
    assert pipeline.counts.lost == {FAILED: 2}
    assert levels(list(pipeline.health.transitions), "engine") == [Level.FAILED, Level.OK]


def test_a_frame_that_grew_old_in_a_stalled_engine_is_not_published(tiny_engine: Path) -> None:
    clock = Clock()
    calls: list[int] = []

    def work() -> None:
        calls.append(1)
        clock.forward(1500 if len(calls) == 3 else 20)

    source, keep = Stamps(clock, [1.0, 2.0, 3.0, 4.0, 5.0]), Keep()
    pipeline = Pipeline(source, NumpyEngine(tiny_engine, work), [keep], clock=clock, max_age_s=0.3)
    source.pipeline = pipeline
    pipeline.run()
    assert keep.sequences == [0, 1, 3, 4]
    assert pipeline.counts.lost == {STALE: 1}
    assert "one frame took 1.5 s" in str(list(pipeline.health.transitions))


def test_frames_of_a_shape_that_was_not_calibrated_are_lost_and_told(tiny_engine: Path) -> None:
    class Sizes(Stamps):
        def read(self, timeout_s: float) -> Frame | None:
            frame = super().read(timeout_s)
            odd = frame is not None and frame.sequence == 1
            return replace(frame, image=picture(0, (64, 90))) if odd and frame else frame

    clock = Clock()
    source, keep = Sizes(clock, [1.0, 2.0, 3.0]), Keep()
    calibration = Calibration(CameraModel(96, 64, 80.0, 80.0, 47.5, 31.5))
    pipeline = Pipeline(source, NumpyEngine(tiny_engine), [keep], clock=clock, calibration=calibration)
    source.pipeline = pipeline
    pipeline.run()
    assert keep.sequences == [0, 2]
    assert pipeline.counts.lost == {MISFIT: 1}
    assert pipeline.health.worst().level == Level.FAILED


class Silent(Source):
    live = True

    def read(self, timeout_s: float) -> Frame | None:
        return None

    def describe(self) -> str:
        return "camera /dev/video7"


def test_silence_is_reported_by_name_and_taken_back(tiny_engine: Path) -> None:
    clock = Clock()
    pipeline = Pipeline(Silent(), NumpyEngine(tiny_engine), clock=clock, health=Health(clock=clock))
    clock.forward(1000 * START_S)
    pipeline.look()
    assert pipeline.health.worst().level == Level.OK, "the first frame has more time"
    clock.forward(1)
    pipeline.look()
    assert pipeline.health.worst().text == f"pace: no frame for {START_S:g} s: camera /dev/video7"
    pipeline._capture.frames = 1  # it had begun
    pipeline._heard_ns = clock()
    pipeline.look()
    assert pipeline.health.worst().level == Level.OK
    clock.forward(1000 * SILENCE_S + 1)
    pipeline.look()
    assert pipeline.health.worst().text == f"pace: no frame for {SILENCE_S:g} s: camera /dev/video7"


def test_an_engine_that_hangs_is_reported_while_it_hangs(tiny_engine: Path) -> None:
    clock = Clock()
    said: list[Level] = []
    pipelines: list[Pipeline] = []

    def hang() -> None:
        for _ in range(2):
            pipelines[0].look()
            said.append(pipelines[0].health.worst().level)
            clock.forward(1000 * HANG_S + 1)

    source = Stamps(clock, [1.0])
    pipelines.append(Pipeline(source, NumpyEngine(tiny_engine, hang), clock=clock))
    source.pipeline = pipelines[0]
    pipelines[0].run()
    assert said == [Level.OK, Level.FAILED]


@pytest.mark.parametrize("engine_ms", [1, 40])
def test_what_reaches_the_engine_is_never_older_than_one_engine_time(
    tiny_engine: Path, engine_ms: int
) -> None:
    """A real clock: frames come every 5 ms, whatever the engine needs."""

    class Ticker(Source):
        live = True
        count = 0

        def read(self, timeout_s: float) -> Frame | None:
            if self.count == 200:
                raise EndOfStream
            time.sleep(0.005)
            self.count += 1
            now_ns = time.monotonic_ns()
            return Frame(picture(0), now_ns, self.count, taken_ns=now_ns)

        def describe(self) -> str:
            return "ticker"

    pipeline = Pipeline(Ticker(), NumpyEngine(tiny_engine, lambda: time.sleep(engine_ms / 1000)))
    pipeline.run()
    ages, engine = (pipeline.latencies.summaries()[name] for name in ("age", "engine"))
    assert ages.p50_ms <= engine.p50_ms + 15
    assert pipeline.counts.perceived + pipeline.counts.replaced == 200


class Shown(Keep):
    """A sink that only shows."""

    lossy = True
    looked_at = True

    @property
    def wanted(self) -> bool:
        return self.looked_at


def test_a_sink_that_only_shows_neither_holds_a_recording_up_nor_ends_it(tiny_engine: Path) -> None:
    gate = threading.Event()
    shown, broken, kept = Shown(gate), Shown(fail_at=0), Keep()
    shown.name, broken.name = "shown", "broken"
    pipeline = Pipeline(Script(20), NumpyEngine(tiny_engine), [shown, broken, kept])
    done = threading.Thread(target=pipeline.run)
    done.start()
    until = time.monotonic() + 20
    while len(kept.seen) < 20 and time.monotonic() < until:
        time.sleep(0.01)
    assert len(kept.seen) == 20  # all of them, while `shown` is stuck with its first
    gate.set()
    done.join(20)
    assert not done.is_alive()
    assert 1 <= len(shown.seen) < 20
    assert pipeline.counts.dropped == {"keep": 0}  # what only shows loses nothing
    assert levels(pipeline.health.transitions, "sink broken") == [Level.FAILED]
    assert (shown.ended, broken.ended, kept.ended) == (["closed"], ["aborted"], ["closed"])


def test_a_sink_that_nobody_looks_at_is_handed_nothing(tiny_engine: Path) -> None:
    shown, kept = Shown(), Keep()
    shown.looked_at = False
    Pipeline(Script(5), NumpyEngine(tiny_engine), [shown, kept]).run()
    assert (len(shown.seen), len(kept.seen)) == (0, 5)
    assert shown.ended == ["closed"]
