"""The whole loop with a real cross-view engine: what goes in with each frame, and what comes out."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from stand_ins import Clock, Keep, NumpyEngine
from strolls import CAMERA, frames, walking
from tiny_engine import VIEWS, features_of, make_tiny_engine, picture, twin, twin_among

from m2h_runtime import open_engine
from m2h_runtime.calibration.calibration import Calibration
from m2h_runtime.errors import EngineError
from m2h_runtime.pipeline import Health, Level, Pipeline
from m2h_runtime.sources import EndOfStream, Source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from m2h_runtime.engine import Engine
    from m2h_runtime.engine.contract import Neighbours
    from m2h_runtime.frame import Frame
    from m2h_runtime.perception import Perception


@pytest.fixture(scope="module")
def cross_view(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_engine(tmp_path_factory.mktemp("engines") / "cross", views=VIEWS)


@pytest.fixture
def engine(cross_view: Path) -> Iterator[Engine]:
    with open_engine(cross_view, "onnxruntime-cpu", threads=1) as opened:
        yield opened


class Walk(Source):
    """These frames, then the end."""

    live = False

    def __init__(self, walk: list[Frame]) -> None:
        super().__init__()
        self.walk = walk
        self.next = 0

    def read(self, timeout_s: float) -> Frame | None:
        if self.next == len(self.walk):
            raise EndOfStream
        self.next += 1
        return self.walk[self.next - 1]

    def describe(self) -> str:
        return "walk"


class LiveWalk(Walk):
    """So slow that no frame is replaced by the next; 0.1 s each on `clock`."""

    live = True

    def __init__(self, walk: list[Frame], clock: Clock) -> None:
        super().__init__(walk)
        self.clock = clock

    def read(self, timeout_s: float) -> Frame | None:
        time.sleep(0.01)
        self.clock.forward(100)
        frame = super().read(timeout_s)
        return frame and replace(frame, taken_ns=self.clock())


def walk(seconds: float = 3.0) -> list[Frame]:
    return [replace(frame, image=picture(frame.sequence)) for frame in frames(walking(walk_s=seconds))]


def listened(engine: Engine) -> list[Neighbours | None]:
    """From now on, what the engine is given beside the images."""
    heard: list[Neighbours | None] = []
    infer = engine.infer

    def listen(rgb: np.ndarray, views: Neighbours | None = None) -> Perception:
        heard.append(views)
        return infer(rgb, views)

    engine.infer = listen  # type: ignore[method-assign]
    return heard


def source_of(views: Neighbours, walked: list[Frame]) -> Frame:
    """The one frame whose features these are."""
    (source,) = [frame for frame in walked if np.array_equal(features_of(frame.image), views.features)]
    return source


def way_to(source: Frame, frame: Frame) -> np.ndarray:
    """(3, 4), takes points of `frame`'s camera to `source`'s."""
    assert source.world_from_camera is not None and frame.world_from_camera is not None
    return (np.linalg.inv(source.world_from_camera) @ frame.world_from_camera)[:3]


def test_each_frame_is_perceived_with_an_earlier_one_from_where_that_was(engine: Engine) -> None:
    heard, keep, walked = listened(engine), Keep(), walk()
    pipeline = Pipeline(Walk(walked), engine, [keep])
    pipeline.run()
    assert len(keep.seen) == len(walked)
    used = 0
    for seen, views in zip(keep.seen, heard, strict=True):
        frame = seen.frame
        np.testing.assert_allclose(seen.perception.depth, twin_among(frame.image, views).depth, atol=1e-5)
        if views is None:
            continue
        used += 1
        source = source_of(views, walked)
        assert source.sequence < frame.sequence
        np.testing.assert_allclose(views.neighbour_from_camera[0], way_to(source, frame), atol=1e-6)
    assert used > 0.8 * len(walked)
    told = pipeline.views()
    assert told is not None
    assert told["frames"] == {"single view": len(walked) - used, "two views": used}
    assert told["median_baseline_m"] > 0.05
    assert pipeline.health.parts()["views"].text.startswith("two views, baseline ")


def test_intrinsics_are_those_of_the_engines_image(engine: Engine) -> None:
    heard = listened(engine)
    twice = replace(CAMERA, width=192, height=128, fx=140.0, fy=140.0, cx=2 * 47.5 + 0.5, cy=2 * 31.5 + 0.5)
    big = [replace(f, image=picture(f.sequence, (128, 192)), camera=twice) for f in walk(1.5)]
    Pipeline(Walk(big), engine).run()
    assert heard[-1] is not None
    np.testing.assert_allclose(heard[-1].intrinsics, (70.0, 70.0, 47.5, 31.5))


def test_a_depth_scale_shortens_the_translations(engine: Engine) -> None:
    heard, walked = listened(engine), walk(1.5)
    Pipeline(Walk(walked), engine, calibration=Calibration(CAMERA, depth_scale=1.25)).run()
    used = [(f, views) for f, views in zip(walked, heard, strict=True) if views is not None]
    assert len(used) > 10
    for frame, views in used:
        pose = views.neighbour_from_camera[0].copy()
        pose[:, 3] *= 1.25
        np.testing.assert_allclose(pose, way_to(source_of(views, walked), frame), atol=1e-6)


def test_a_recording_that_starts_over_starts_with_a_single_view(engine: Engine) -> None:
    heard, walked = listened(engine), walk(1.5)
    count = len(walked)
    again = [replace(f, sequence=f.sequence + count, stamp_ns=f.stamp_ns - 10**9) for f in walked]
    Pipeline(Walk(walked + again), engine).run()
    assert heard[count - 1] is not None
    assert heard[count] is None
    assert heard[-1] is not None


def test_an_engine_that_was_opened_anew_is_given_nothing_of_the_one_before(cross_view: Path) -> None:
    clock = Clock()
    first, second = (open_engine(cross_view, "onnxruntime-cpu", threads=1) for _ in range(2))
    before, after = listened(first), listened(second)
    infer = first.infer

    def failing(rgb: np.ndarray, views: Neighbours | None = None) -> Perception:
        said = infer(rgb, views)
        if len(before) > 20:
            raise EngineError("device lost")
        return said

    first.infer = failing  # type: ignore[method-assign]
    source = LiveWalk(walk(4.0), clock)
    Pipeline(source, first, health=Health(clock=clock), clock=clock, reopen_engine=lambda: second).run()
    assert len(before) == 23, "three failures, then it is closed"
    assert before[-1] is not None
    assert after[0] is None
    assert after[-1] is not None


def test_a_single_view_engine_is_called_as_ever(tiny_engine: Path) -> None:
    class Plain(NumpyEngine):
        def infer(self, rgb: np.ndarray) -> Perception:  # type: ignore[override]
            return super().infer(rgb)

    keep = Keep()
    pipeline = Pipeline(Walk(walk(1.0)), Plain(tiny_engine), [keep])
    pipeline.run()
    assert pipeline.views() is None
    assert "views" not in pipeline.health.parts()
    for seen in keep.seen:
        np.testing.assert_array_equal(seen.perception.depth, twin(seen.frame.image).depth)


def test_without_poses_the_run_says_so_once(engine: Engine) -> None:
    blind = [replace(frame, world_from_camera=None) for frame in walk(1.5)]
    pipeline = Pipeline(Walk(blind), engine)
    pipeline.run()
    assert [(t.part, t.condition.level) for t in pipeline.health.transitions] == [("views", Level.DEGRADED)]
    assert pipeline.views() == {
        "frames": {"single view": len(blind)},
        "reasons": {
            "single view: no keyframe yet": 1,
            "single view: no pose and no IMU": len(blind) - 1,
        },
        "median_baseline_m": None,
    }
