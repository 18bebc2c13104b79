"""When alignment believes a pose, when it makes do with the gyroscope, and when it is off."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from rooms import CAMERA, FPS, Stream, noisy, perception, pose, room, walk, window

from m2h_runtime.imu import so3
from m2h_runtime.pipeline.health import Level
from m2h_runtime.temporal.gate import ABOVE_ALL, WIDEST, Gate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_runtime.calibration.camera import CameraModel

WAY = walk(40)
FIRST = "off: this is the first frame"


def go(stream: Stream, way: list[NDArray], start: int = 0, seed: int = 0, **more: float) -> Stream:
    """Frames with true depth and noise, and poses."""
    rng = np.random.default_rng(seed)
    for where in way[start:]:
        depth, labels = room(where)
        stream.step(perception(noisy(depth, rng, 0.02), labels), where, **more)
    return stream


def turned(way: list[NDArray], index: int) -> NDArray:
    return way[index][:3, :3].T @ way[index - 1][:3, :3]


def shifted(way: list[NDArray], first: int, by: NDArray) -> list[NDArray]:
    """The map jumped at frame `first`: everything after is moved by `by`."""
    return [by @ where if index >= first else where for index, where in enumerate(way)]


def test_a_walk_is_fine() -> None:
    stream = go(Stream(), WAY)
    assert stream.frames == {"off": 1, "poses": 39}
    assert stream.said[0] == FIRST
    assert stream.said[-1] == "poses"
    assert stream.changes == []


@pytest.mark.parametrize(
    "by",
    [pose(x=0.5), pose(x=0.12), pose(turn=(0, 1.2, 0)), pose(30.0, -2.0, 0.4)],
    ids=["half a metre", "12 cm", "turned", "another map"],
)
def test_a_jump_switches_it_off_for_one_frame_and_it_recovers(by: NDArray) -> None:
    stream, rng = Stream(), np.random.default_rng(0)
    for index, where in enumerate(shifted(WAY, 20, by)):
        depth, labels = room(WAY[index])
        seen = perception(noisy(depth, rng, 0.02), labels)
        out = stream.step(seen, where)
        if index == 20:
            np.testing.assert_array_equal(out.depth, seen.depth)
            np.testing.assert_array_equal(out.semantics, seen.semantics)
            assert stream.said[-1] == "off: the pose jumped"
            assert stream.health.parts()["alignment"].level == Level.DEGRADED
    assert stream.frames == {"off": 2, "poses": 38}
    assert stream.said[-1] == "poses", "told when it has been well for a second"
    assert stream.changes == ["off: the pose jumped", "poses"]


def test_at_a_jump_the_gyroscope_steps_in() -> None:
    stream = Stream()
    for index, where in enumerate(shifted(WAY, 20, pose(x=2.0))):
        imu = window(turned(WAY, index)) if index else None
        stream.step(perception(*room(WAY[index])), where, imu)
    assert stream.frames == {"off": 1, "poses": 38, "rotation only": 1}
    assert stream.alignment.report()["reasons"]["the pose jumped"] == 1


def test_odometry_that_stands_while_the_camera_turns_is_not_believed() -> None:
    stream, turns = Stream(), [pose(turn=(0.0, 0.03 * i, 0.0)) for i in range(20)]
    for index, where in enumerate(turns):
        imu = window(turned(turns, index)) if index else None
        stream.step(perception(*room(where)), turns[0], imu)
    assert stream.frames == {"off": 1, "rotation only": 19}
    assert stream.said[-1] == "rotation only: the pose disagrees with the gyroscope"


@pytest.mark.parametrize("moves", [True, False], ids=["the picture moves", "only a thing in it does"])
def test_a_pose_that_stays_the_same_is_believed_if_the_picture_stands(moves: bool) -> None:
    rng, stream = np.random.default_rng(0), Stream()
    blurred = cv2.GaussianBlur(rng.random((64, 160, 3)), (0, 0), 2)
    texture = cv2.normalize(blurred, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    for index in range(20):
        left = 2 * index if moves else 0
        image = texture[:, left : left + 96].copy()
        image[20:50, 2 * index : 2 * index + 25] = 90
        noise = rng.normal(0, 3, image.shape)
        stream.step(perception(*room(pose())), pose(), image=np.clip(image + noise, 0, 255).astype(np.uint8))
    assert stream.frames == ({"off": 20} if moves else {"off": 1, "poses": 19})
    if moves:
        assert stream.said[-1] == "off: the pose stands still and the picture does not"


def test_a_pose_that_differs_a_little_from_the_gyroscope_counts_less() -> None:
    spreads = []
    for error_rad in (0.0, 0.007):
        rng, stream = np.random.default_rng(1), Stream()
        wrong = so3.exp(np.array((0.0, error_rad, 0.0)))
        for index in range(12):
            out = stream.step(
                perception(noisy(np.full(CAMERA.size, 2.0), rng, 0.01)),
                pose(),
                window(wrong) if index else None,
            )
        spreads.append(float(out.depth.std()))
    assert stream.frames == {"off": 1, "poses": 11}
    assert spreads[1] > 1.2 * spreads[0]


def test_motion_that_contradicts_the_pictures_switches_it_off() -> None:
    """Smooth and slow enough for a robot, but the depths say otherwise."""
    stream, z = Stream(), 0.0
    for index in range(30):
        z += min(0.25, 0.04 * max(0, index - 10))
        stream.step(perception(*room(pose())), pose(z=z))
    assert stream.alignment.report()["reasons"]["what is seen does not fit the pose"] > 0
    assert stream.changes[0] == "off: what is seen does not fit the pose"


def test_trust_is_weighed_and_below_a_fifth_the_pose_is_not_used() -> None:
    spreads = []
    for trust in (1.0, 0.3):
        rng, stream = np.random.default_rng(1), Stream()
        for _ in range(12):
            seen = perception(noisy(np.full(CAMERA.size, 2.0), rng, 0.01))
            out = stream.step(seen, pose(), trust=trust)
        spreads.append(float(out.depth.std()))
    assert spreads[1] > 1.5 * spreads[0]
    for trust in (0.1, np.nan):
        assert go(Stream(), WAY[:5], trust=trust).said[-1] == "off: who gave the pose does not trust it"


def test_without_pose_and_imu_it_is_off_and_says_so_once() -> None:
    stream = Stream()
    for where in WAY:
        seen = perception(*room(where))
        out = stream.step(seen, None)
        np.testing.assert_array_equal(out.depth, seen.depth)
    assert stream.frames == {"off": 40}
    assert stream.changes == ["off: no pose at this stamp, and no IMU"]


def test_a_pose_that_is_not_finite_is_none() -> None:
    stream = go(Stream(), WAY[:10])
    out = stream.step(perception(*room(WAY[10])), np.full((4, 4), np.nan))
    assert np.isfinite(out.depth).all()
    assert stream.said[-1] == "off: no pose at this stamp, and no IMU"


def test_samples_with_a_gap_are_no_rotation() -> None:
    stream = Stream()
    for index in range(5):
        stream.step(perception(*room(pose())), None, window(np.eye(3), complete=False) if index else None)
    assert stream.frames == {"off": 5}
    assert "missing samples" in stream.said[-1]


def test_frames_that_are_far_apart_in_time_are_not_joined() -> None:
    stream = go(Stream(), WAY[:10])
    stream.step(perception(*room(WAY[10])), WAY[10], after_s=1.2)
    assert stream.said[-1] == "off: no perception for more than 1 s"
    blind = Stream()
    for index in range(3):
        blind.step(perception(*room(pose())), None, window(np.eye(3)) if index else None, after_s=0.4)
    assert blind.said[-1] == "off: no pose at this stamp, and frames more than 0.25 s apart"


def test_a_slow_engine_is_aligned_by_poses() -> None:
    assert go(Stream(), walk(30)[::8], after_s=8 / FPS).frames == {"off": 1, "poses": 3}


def test_stamps_that_jump_back_start_it_over() -> None:
    stream = go(Stream(), WAY[:10])
    seen = perception(np.full(CAMERA.size, 1.8, np.float32))
    out = stream.step(seen, WAY[0], after_s=-0.5)
    np.testing.assert_array_equal(out.depth, seen.depth)
    assert stream.said[-1] == "off: the stamps jumped back"


def test_nothing_is_left_after_a_reset() -> None:
    stream = go(Stream(), WAY[:10])
    stream.alignment.reset()
    seen = perception(noisy(room(WAY[10])[0], np.random.default_rng(9), 0.02))
    np.testing.assert_array_equal(stream.step(seen, WAY[10]).depth, seen.depth)


def test_another_camera_is_another_history() -> None:
    stream = go(Stream(), WAY[:10])
    stream.camera = replace(CAMERA, fx=80.0)
    seen = perception(noisy(room(WAY[10])[0], np.random.default_rng(9), 0.02))
    np.testing.assert_array_equal(stream.step(seen, WAY[10]).depth, seen.depth)


@pytest.mark.parametrize(
    ("camera", "why"),
    [
        (None, "off: the camera's intrinsics are unknown; give --calibration"),
        (
            replace(CAMERA, distortion_model="plumb_bob", distortion=(-0.3, 0.1, 0.0, 0.0)),
            "off: the lens distorts",
        ),
    ],
    ids=["unknown", "distorted"],
)
def test_without_a_pinholes_intrinsics_it_is_off(camera: CameraModel | None, why: str) -> None:
    stream = go(Stream(camera=camera), WAY[:20])
    assert stream.frames == {"off": 20}
    assert len(stream.changes) == 1
    assert stream.changes[0].startswith(why)


def test_the_gate_learns_how_steady_the_network_is() -> None:
    steady, shaky = Gate(), Gate()
    for _ in range(60):
        assert steady.fits(0.002)
        assert shaky.fits(0.06)
    assert steady.width(metric=True) == pytest.approx(0.03)
    assert shaky.width(metric=True) == pytest.approx(0.24, rel=0.01)
    assert shaky.width(metric=False) < shaky.width(metric=True)


def test_the_gate_stays_bounded_and_forgives_a_network_that_got_worse() -> None:
    gate = Gate()
    for _ in range(60):
        gate.fits(0.01)
    verdicts = [gate.fits(0.1) for _ in range(15)]
    assert verdicts[0] is False
    assert verdicts[-1] is True, "learned within a second"
    assert not any(gate.fits(2 * ABOVE_ALL) for _ in range(60))
    assert gate.width(metric=True) == WIDEST
    assert gate.fits(None)
