from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from stand_ins import Clock, NumpyEngine
from tiny_engine import picture, twin

from m2h_runtime.errors import EngineError
from m2h_runtime.pipeline.guard import AWAY, FAILED, NONSENSE, EngineGuard, FrameLost
from m2h_runtime.pipeline.health import Health, Level
from m2h_runtime.pipeline.sanity import nonsense

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from m2h_runtime.perception import Perception

RANGE = (1.0, 5.0)


def changed(**outputs: np.ndarray) -> Perception:
    return replace(twin(picture(0)), **outputs)


def with_pixel(name: str, value: float) -> Perception:
    array = getattr(twin(picture(0)), name).copy()
    array[3, 5] = value
    return changed(**{name: array})


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        (with_pixel("depth", np.nan), "the depth is not finite"),
        (with_pixel("depth", np.inf), "the depth is not finite"),
        (with_pixel("depth", -0.1), "the depth is not positive"),
        (with_pixel("depth", 0.5), "the depth leaves the engine's range of 1 to 5 m"),
        (with_pixel("depth", 7.0), "the depth leaves the engine's range of 1 to 5 m"),
        (changed(depth=np.full((64, 96), 2.0, np.float32)), "the depth is the same everywhere"),
        (with_pixel("normals", np.nan), "the normals are not finite"),
        (with_pixel("semantics", 2), "a class id is outside of the label space"),
    ],
    ids=["nan", "inf", "negative", "near", "far", "flat", "normals", "label"],
)
def test_nonsense_is_named(said: Perception, complaint: str) -> None:
    assert (nonsense(said, picture(0), RANGE) or "").startswith(complaint)


def test_sense_is_no_nonsense() -> None:
    for seed in range(5):
        assert nonsense(twin(picture(seed)), picture(seed), RANGE) is None
    assert nonsense(with_pixel("depth", 5.02), picture(0), RANGE) is None, (
        "half precision may leave the range a little"
    )
    blank = np.full((64, 96, 3), 8, np.uint8)
    assert nonsense(twin(blank), blank, RANGE) is None, "a covered lens has no depth to tell apart"
    assert nonsense(with_pixel("depth", 70.0), picture(0), (1.0, None)) is None, "no upper bound"


class Moods(NumpyEngine):
    """Works, raises or lies as `mood` says."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.mood = "well"
        self.closed = False

    def infer(self, rgb: np.ndarray) -> Perception:
        assert not self.closed
        if self.mood == "raises":
            raise EngineError("device lost")
        return with_pixel("depth", np.nan) if self.mood == "lies" else super().infer(rgb)

    def close(self) -> None:
        self.closed = True


def fate(guard: EngineGuard) -> str:
    try:
        guard.infer(picture(0))
    except FrameLost as lost:
        return str(lost)
    return "perceived"


@pytest.mark.parametrize(("mood", "reason"), [("raises", FAILED), ("lies", NONSENSE)])
def test_a_failing_engine_costs_frames_and_is_well_again(tiny_engine: Path, mood: str, reason: str) -> None:
    clock, engine = Clock(), Moods(tiny_engine)
    health = Health(clock=clock)
    guard = EngineGuard(engine, health, clock=clock)
    assert fate(guard) == "perceived"
    engine.mood = mood
    assert [fate(guard) for _ in range(9)] == [reason] * 9
    assert health.worst().level == Level.FAILED
    engine.mood = "well"
    assert fate(guard) == "perceived"
    clock.forward(1001)
    assert fate(guard) == "perceived"
    assert health.worst().level == Level.OK
    assert not engine.closed


def test_after_three_failures_in_a_row_the_engine_is_opened_anew(tiny_engine: Path) -> None:
    clock, first, second = Clock(), Moods(tiny_engine), Moods(tiny_engine)
    first.mood = "raises"
    guard = EngineGuard(first, Health(clock=clock), lambda: second, clock=clock)
    assert [fate(guard) for _ in range(4)] == [FAILED, FAILED, FAILED, AWAY]
    assert first.closed
    clock.forward(1001)
    assert fate(guard) == "perceived"
    assert guard.engine is second


def test_an_engine_that_cannot_be_opened_is_tried_again_with_growing_patience(tiny_engine: Path) -> None:
    clock, engine, tries = Clock(), Moods(tiny_engine), []
    engine.mood = "raises"

    def reopen() -> Moods:
        tries.append(clock())
        if len(tries) < 4:
            raise EngineError("no device")
        return Moods(tiny_engine)

    health = Health(clock=clock)
    guard = EngineGuard(engine, health, reopen, clock=clock)
    fates = []
    while "perceived" not in fates and len(fates) < 1000:
        fates.append(fate(guard))
        clock.forward(100)
    waits = np.diff(tries) / 1e9
    assert waits == pytest.approx([2, 4, 8], abs=0.11)
    assert any("no device" in t.condition.text for t in health.transitions)


def test_a_recordings_guard_raises_failures_and_still_stops_nonsense(tiny_engine: Path) -> None:
    engine = Moods(tiny_engine)
    guard = EngineGuard(engine, Health(), forgiving=False)
    engine.mood = "lies"
    assert fate(guard) == NONSENSE
    engine.mood = "raises"
    with pytest.raises(EngineError, match="device lost"):
        guard.infer(picture(0))


def test_the_guard_knows_since_when_the_engine_is_busy(tiny_engine: Path) -> None:
    clock = Clock()
    seen: list[int | None] = []
    look: list[Callable[[], None]] = []
    guard = EngineGuard(NumpyEngine(tiny_engine, lambda: look[0]()), Health(), clock=clock)
    look.append(lambda: seen.append(guard.busy_since_ns))
    guard.infer(picture(0))
    assert seen == [clock()]
    assert guard.busy_since_ns is None
