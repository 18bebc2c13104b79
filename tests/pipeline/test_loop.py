from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from stand_ins import MS, Clock, Keep, LiveScript, NumpyEngine, Script, observation
from tiny_engine import SIZE, picture, twin

from m2h_runtime.calibration.fit import stretched
from m2h_runtime.errors import EngineError, SinkError, SourceError
from m2h_runtime.frame import Frame
from m2h_runtime.pipeline import Pipeline
from m2h_runtime.pipeline import outlet as outlet_module
from m2h_runtime.pipeline.latency import Samples
from m2h_runtime.pipeline.outlet import Outlet
from m2h_runtime.pipeline.slot import Slot

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from m2h_runtime.sinks import Observation


@pytest.fixture(autouse=True)
def no_thread_is_left() -> object:
    before = set(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread not in before]
    assert not left


# The slot


def test_the_newest_wins_and_the_others_are_counted() -> None:
    slot: Slot[int] = Slot(lossless=False)
    assert all(slot.put(value, 0.0) for value in (1, 2, 3))
    assert slot.take(0.0) == 3
    assert slot.take(0.0) is None
    assert slot.replaced == 2


def test_a_lossless_slot_turns_the_newcomer_away_until_there_is_room() -> None:
    slot: Slot[int] = Slot(lossless=True)
    assert slot.put(1, 0.0)
    assert not slot.put(2, 0.01)
    assert slot.take(0.0) == 1
    assert slot.put(2, 0.0)
    assert slot.replaced == 0


def test_what_lies_in_an_ended_slot_can_still_be_taken() -> None:
    slot: Slot[int] = Slot(lossless=True)
    slot.put(1, 0.0)
    slot.end()
    assert not slot.drained
    assert slot.take(5.0) == 1
    assert slot.drained
    assert slot.take(5.0) is None, "and nobody waits for more"


# Fitting


def test_an_image_of_the_right_size_is_not_touched() -> None:
    image = picture(0)
    assert stretched(image, SIZE) is image


def test_shrinking_averages_whole_areas() -> None:
    image = picture(1, (128, 288))
    blocks = image.reshape(64, 2, 96, 3, 3).mean(axis=(1, 3))
    assert np.abs(stretched(image, SIZE) - blocks).max() <= 1  # INTER_LINEAR would be off by far more


def test_growing_interpolates() -> None:
    ramp = np.repeat(np.repeat(np.arange(0, 96, dtype=np.uint8)[None, :, None] * 2, 64, 0), 3, 2)
    grown = stretched(ramp, (128, 192))
    assert grown.shape == (128, 192, 3)
    assert len(np.unique(grown)) > len(np.unique(ramp))  # nearest neighbour would make no new value


# Latencies


def test_percentiles_are_numpys() -> None:
    values = np.random.default_rng(0).integers(0, 10**9, 1000)
    samples = Samples()
    for value in values:
        samples.add(int(value))
    summary = samples.summary()
    assert summary is not None
    p50, p95, p99 = np.percentile(values, (50, 95, 99)) / 1e6
    assert (summary.p50_ms, summary.p95_ms, summary.p99_ms) == pytest.approx((p50, p95, p99))
    assert (summary.max_ms, summary.mean_ms, summary.count) == pytest.approx(
        (values.max() / 1e6, values.mean() / 1e6, 1000)
    )


def test_percentiles_forget_what_left_the_window_but_the_maximum_does_not() -> None:
    samples = Samples(window=10)
    for value in (900 * MS, *[1 * MS] * 10):
        samples.add(value)
    summary = samples.summary()
    assert summary is not None
    assert (summary.p99_ms, summary.max_ms, summary.count) == (1.0, 900.0, 11)


def test_no_samples_no_summary() -> None:
    assert Samples().summary() is None


# The loop


def test_a_recording_loses_nothing_and_answers_are_the_engines(tiny_engine: Path) -> None:
    keep = Keep()
    pipeline = Pipeline(Script(20), NumpyEngine(tiny_engine), [keep])
    pipeline.run()
    assert keep.sequences == list(range(20))
    assert keep.ended == ["closed"]
    for seen in keep.seen:
        right = twin(picture(seen.frame.sequence))
        np.testing.assert_array_equal(seen.perception.depth, right.depth)
        assert seen.perception.stamp_ns == seen.frame.stamp_ns
    counts = pipeline.counts
    assert (counts.captured, counts.perceived, counts.replaced) == (20, 20, 0)
    assert (counts.written, counts.dropped) == ({"keep": 20}, {"keep": 0})


def test_the_frame_limit_is_exact(tiny_engine: Path) -> None:
    keep = Keep()
    Pipeline(Script(20), NumpyEngine(tiny_engine), [keep], frame_limit=7).run()
    assert keep.sequences == list(range(7))


def test_a_live_source_skips_to_the_newest_frame(tiny_engine: Path) -> None:
    """While the engine works on frame 0, frames 1..4 come; it goes on with 4."""
    source = LiveScript(5)
    source.gates = {1: threading.Event()}
    pipeline: list[Pipeline] = []

    def while_the_engine_works() -> None:
        source.gates[1].set()
        deadline = time.monotonic() + 10
        while pipeline[0].counts.captured < 5 or pipeline[0].counts.replaced < 3:
            if pipeline[0].counts.perceived:
                return
            assert time.monotonic() < deadline
            time.sleep(0.001)

    keep = Keep()
    pipeline.append(Pipeline(source, NumpyEngine(tiny_engine, while_the_engine_works), [keep]))
    pipeline[0].run()
    assert keep.sequences == [0, 4]
    assert pipeline[0].counts.replaced == 3


def test_stage_times_are_exact_on_a_virtual_clock(tiny_engine: Path) -> None:
    """Reading takes 3 ms and the engine 20; each frame is read only after the one before is handed out."""
    clock = Clock()
    source = LiveScript(4, clock)
    source.gates = {index: threading.Event() for index in range(1, 5)}

    def release_next(pipeline: Pipeline) -> None:
        source.gates[pipeline.counts.perceived].set()

    source.read_cost_ms = 3.0
    engine = NumpyEngine(tiny_engine, lambda: clock.forward(20))
    pipeline = Pipeline(source, engine, [Keep()], clock=clock, on_perception=release_next)
    pipeline.run()
    stages = pipeline.latencies.summaries()
    assert {name: summary.p50_ms for name, summary in stages.items()} == {
        "capture": 0.0,  # of a live source: from its stamp on
        "queue": 0.0,
        "preprocess": 0.0,
        "engine": 20.0,
        "hand-out": 0.0,
        "age": 20.0,
    }
    assert pipeline.busy_s == pytest.approx(4 * 0.020 + 3 * 0.003)
    assert pipeline.fps == pytest.approx(4 / 0.089)
    assert pipeline.engine_share == pytest.approx(0.080 / 0.089)
    assert pipeline.recent_fps == pytest.approx(1 / 0.023)


def test_a_recording_has_no_age_and_its_reading_is_timed(tiny_engine: Path) -> None:
    clock = Clock()
    source = Script(3, clock)
    source.read_cost_ms = 3.0
    pipeline = Pipeline(source, NumpyEngine(tiny_engine), clock=clock)
    pipeline.run()
    stages = pipeline.latencies.summaries()
    assert "age" not in stages
    assert stages["capture"].p50_ms == 3.0


def test_perceptions_carry_their_latencies(tiny_engine: Path) -> None:
    keep = Keep()
    Pipeline(Script(1), NumpyEngine(tiny_engine), [keep]).run()
    assert list(keep.seen[0].perception.latencies_ns) == ["capture", "queue", "preprocess", "engine"]
    assert keep.seen[0].perception.latencies_ns["engine"] > 0


def test_stop_ends_the_run_and_closes_the_sinks(tiny_engine: Path) -> None:
    source = LiveScript(3)
    source.gates = {2: threading.Event()}  # the third frame never comes
    keep = Keep()
    pipeline = Pipeline(source, NumpyEngine(tiny_engine), [keep])
    timer = threading.Timer(0.3, pipeline.stop)
    timer.start()
    pipeline.run()
    timer.join()
    assert keep.seen
    assert keep.ended == ["closed"]


def test_a_source_that_breaks_ends_the_run_after_the_frames_before(tiny_engine: Path) -> None:
    keep = Keep()
    pipeline = Pipeline(Script(3, error=SourceError("cable pulled")), NumpyEngine(tiny_engine), [keep])
    with pytest.raises(SourceError, match="cable pulled"):
        pipeline.run()
    assert keep.sequences == [0, 1, 2]
    assert keep.ended == ["closed"]


def test_an_engine_that_breaks_ends_the_run(tiny_engine: Path) -> None:
    def broken() -> None:
        raise EngineError("device lost")

    keep = Keep()
    with pytest.raises(EngineError, match="device lost"):
        Pipeline(Script(3), NumpyEngine(tiny_engine, broken), [keep]).run()
    assert keep.ended == ["closed"]


def test_a_sink_that_breaks_ends_a_recordings_run_and_is_aborted(tiny_engine: Path) -> None:
    bad, good = Keep(fail_at=2), Keep()
    good.name = "good"
    source = Script(500)
    with pytest.raises(SinkError, match="keep: full"):
        Pipeline(source, NumpyEngine(tiny_engine, lambda: time.sleep(0.002)), [bad, good]).run()
    assert bad.ended == ["aborted"]
    assert good.ended == ["closed"]
    assert source.next < 500


def test_a_live_run_goes_on_while_one_sink_works_and_fails_in_the_end(tiny_engine: Path) -> None:
    bad, good = Keep(fail_at=2), Keep()
    good.name = "good"
    engine = NumpyEngine(tiny_engine, lambda: time.sleep(0.002))
    pipeline = Pipeline(LiveScript(10**9), engine, [bad, good], frame_limit=50)
    with pytest.raises(SinkError, match="keep: full"):
        pipeline.run()
    assert bad.ended == ["aborted"]
    assert good.ended == ["closed"]
    assert pipeline.counts.perceived == 50
    assert pipeline.health.worst().text == "sink keep: keep: full; the others go on"


def test_a_live_run_ends_when_its_last_sink_breaks(tiny_engine: Path) -> None:
    engine = NumpyEngine(tiny_engine, lambda: time.sleep(0.002))
    pipeline = Pipeline(LiveScript(10**9), engine, [Keep(fail_at=2)], frame_limit=500)
    with pytest.raises(SinkError, match="keep: full"):
        pipeline.run()
    assert pipeline.counts.perceived < 500


def test_a_sink_that_breaks_on_the_last_frame_is_reported(tiny_engine: Path) -> None:
    with pytest.raises(SinkError, match="keep: full"):
        Pipeline(Script(1), NumpyEngine(tiny_engine), [Keep(fail_at=0)]).run()


# Sinks that are slow


def numbered(sequence: int) -> Observation:
    return observation(Frame(picture(0), 0, sequence))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_live_sink_that_is_slow_loses_the_oldest_and_counts() -> None:
    gate = threading.Event()
    keep = Keep(gate)
    outlet = Outlet(keep, lossless=False)
    outlet.start()
    outlet.offer(numbered(0))
    wait_until(lambda: not outlet._queue)  # the sink is busy with number 0
    for sequence in range(1, Keep.queue + 4):
        outlet.offer(numbered(sequence))
    gate.set()
    outlet.end()
    outlet.join()
    assert outlet.dropped == 3
    assert keep.sequences == [0, *range(4, Keep.queue + 4)]


def test_a_recordings_sink_that_is_slow_holds_the_loop_up_and_loses_nothing() -> None:
    keep = Keep(threading.Event())
    outlet = Outlet(keep, lossless=True)
    outlet.start()
    offered: list[int] = []

    def offer_all() -> None:
        for sequence in range(Keep.queue + 10):
            outlet.offer(numbered(sequence))
            offered.append(sequence)

    producer = threading.Thread(target=offer_all)
    producer.start()
    wait_until(lambda: len(offered) == Keep.queue + 1)  # one in the sink's hand, the queue full
    time.sleep(0.05)
    assert len(offered) == Keep.queue + 1
    assert keep.gate is not None
    keep.gate.set()
    producer.join(10)
    outlet.end()
    outlet.join()
    assert keep.sequences == list(range(Keep.queue + 10))
    assert outlet.dropped == 0


def test_a_sink_that_is_stuck_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlet_module, "STUCK_S", 0.1)
    gate = threading.Event()
    outlet = Outlet(Keep(gate), lossless=True)
    outlet.start()
    with pytest.raises(SinkError, match="keep: has taken no frame"):
        for sequence in range(Keep.queue + 2):
            outlet.offer(numbered(sequence))
    outlet.end()
    gate.set()
    outlet._thread.join(10)


def test_figures_can_be_asked_for_while_they_are_made() -> None:
    samples = Samples(window=1000)
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            samples.summary()

    asking = threading.Thread(target=ask)
    asking.start()
    for value in range(100_000):
        samples.add(value)
    ended.set()
    asking.join()
    assert samples.count == 100_000
