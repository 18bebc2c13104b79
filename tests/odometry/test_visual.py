from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from room import CAMERA, FPS, SIZE, Walk, pose

from m2h_runtime.calibration.fit import Fit
from m2h_runtime.imu import so3
from m2h_runtime.odometry import Estimate, VisualOdometry
from m2h_runtime.pipeline.health import Health, Level

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = np.arange(36) / FPS
AHEAD = [pose((0.8 * t, 0, 0)) for t in T]
ASIDE_AND_TURNING = [pose((0.4 * t, 0.5 * t, 0.1 * t), (0, 0.1 * t, 0.4 * t)) for t in T]
TURNING = [pose((0.5, 0.3, 0.1), (0, 0, 0.8 * t)) for t in T]


def run(walk: Walk, odometry: VisualOdometry | None = None) -> list[Estimate]:
    odometry = odometry or VisualOdometry(Health())
    told = [odometry.track(walk.frame(i), walk.perception(i), walk.camera) for i in range(len(walk.poses))]
    assert None not in told
    return told  # type: ignore[return-value]


def moved(first: NDArray[np.float64], last: NDArray[np.float64]) -> NDArray[np.float64]:
    """The last pose seen from the first: the world's origin and heading play no part."""
    return np.asarray(np.linalg.inv(first) @ last)


def errors(walk: Walk, told: list[Estimate]) -> tuple[float, float]:
    """Metres and rad at the end, from the second frame on: at the first one gravity is not known yet."""
    true = moved(walk.poses[1], walk.poses[-1])
    said = moved(told[1].world_from_camera, told[-1].world_from_camera)
    turned = so3.log(true[:3, :3].T @ said[:3, :3])
    return float(np.linalg.norm(true[:3, 3] - said[:3, 3])), float(np.linalg.norm(turned))


@pytest.mark.parametrize("gyroscope", [True, False])
@pytest.mark.parametrize("poses", [AHEAD, ASIDE_AND_TURNING, TURNING], ids=["ahead", "both", "turning"])
def test_a_known_motion_is_found(poses: list[NDArray[np.float64]], gyroscope: bool) -> None:
    walk = Walk(poses, gyroscope)
    told = run(walk)
    way_m, turn_rad = errors(walk, told)
    assert way_m < (0.03 if gyroscope else 0.05)
    assert turn_rad < (0.01 if gyroscope else 0.02)
    assert [one.state for one in told] == ["starting"] + ["tracking"] * (len(poses) - 1)
    assert told[-1].segment == 0


def test_z_is_up_if_gravity_is_known() -> None:
    tilted = [pose((0.8 * t, 0, 0), (0.2, 0.3, 0)) for t in T]
    told = run(Walk(tilted))
    up = told[-1].world_from_camera[:3, :3] @ tilted[-1][:3, :3].T @ (0, 0, 1)
    np.testing.assert_allclose(up, (0, 0, 1), atol=0.01)
    assert abs(told[-1].world_from_camera[2, 3]) < 0.03  # it went ahead and not down


def test_the_metres_are_those_of_the_network() -> None:
    told = run(Walk(AHEAD, scale=1.25))
    went = np.linalg.norm(moved(told[0].world_from_camera, told[-1].world_from_camera)[:3, 3])
    assert went == pytest.approx(1.25 * 0.8 * T[-1], rel=0.04)


def test_the_depth_factor_makes_them_the_cameras() -> None:
    walk, odometry = Walk(AHEAD, scale=1.25), VisualOdometry(Health())
    for i in range(len(AHEAD)):
        told = odometry.track(walk.frame(i), walk.perception(i), walk.camera, 1 / 1.25)
    assert told is not None
    assert np.linalg.norm(told.world_from_camera[:3, 3]) == pytest.approx(0.8 * T[-1], rel=0.04)


def test_a_perception_of_a_part_of_the_picture_is_looked_at_where_it_is() -> None:
    camera = Fit("crop", CAMERA.size, (128, 128)).engine_camera(CAMERA)
    walk = Walk(ASIDE_AND_TURNING, camera=camera)
    way_m, turn_rad = errors(walk, run(walk))
    assert way_m < 0.03
    assert turn_rad < 0.01


def test_a_blank_wall_is_told_and_tracking_goes_on_after_it() -> None:
    health = Health(clock=lambda: 0)
    walk = Walk(AHEAD, blank=range(15, 27))
    told = run(walk, VisualOdometry(health, clock=lambda: 0))
    lost = [i for i, one in enumerate(told) if one.state == "lost"]
    assert lost == [*range(15, 28)]  # one more, from which the room is mapped anew
    assert all(told[i].quality == 0 and told[i].why.startswith("too few points") for i in lost[:-1])
    assert told[14].segment == 0
    assert told[-1].segment == 1
    assert told[-1].quality > 0.5
    assert next(change.condition.text for change in health.transitions) == (
        "lost: too few points can be followed; a blank wall, darkness or blur?"
    )
    part = moved(told[30].world_from_camera, told[-1].world_from_camera)
    assert np.linalg.norm(part[:3, 3]) == pytest.approx(0.8 * (T[-1] - T[30]), rel=0.05)
    spread = [float(np.trace(one.covariance[:3, :3])) for one in told]
    assert spread[26] > 10 * spread[14]  # nobody knows where it went meanwhile
    assert spread[-1] > spread[26] / 2


def test_a_hand_before_the_lens_costs_nothing() -> None:
    walk = Walk(AHEAD, blank=range(15, 19))
    told = run(walk)
    assert {one.segment for one in told} == {0}
    assert errors(walk, told)[0] < 0.03


def test_a_wall_at_the_start_is_told() -> None:
    health = Health()
    told = run(Walk(AHEAD[:8], blank=range(8)), VisualOdometry(health))
    assert {one.state for one in told} == {"starting"}
    assert health.parts()["visual odometry"].level == Level.DEGRADED


def test_somebody_who_walks_by_does_not_move_the_camera() -> None:
    still = [pose((0.5, 0, 0))] * 40
    walk = Walk(still, visitor=[2 * i for i in range(40)], gyroscope=False)
    seen, unseen = run(walk), run(replace(walk, labelled=False))
    assert np.linalg.norm(seen[-1].world_from_camera[:3, 3]) < 0.01
    assert np.mean([one.inliers for one in unseen]) > np.mean([one.inliers for one in seen])


def test_the_gyroscope_rescues_a_fast_turn() -> None:
    poses = [pose((0.2 * t, 0, 0), (0, 0, 0.25 * max(0, i - 10))) for i, t in enumerate(T[:20])]
    slow, fast = slice(1, 10), slice(12, 20)
    told = run(Walk(poses))
    assert all(one.tracking for one in told[1:])
    assert errors(Walk(poses), told)[1] < 0.02
    assert np.mean([one.quality for one in told[fast]]) < 0.8 * np.mean([one.quality for one in told[slow]])
    without = run(Walk(poses, gyroscope=False))
    assert not all(one.tracking for one in without[1:])


def test_a_gyroscope_that_contradicts_the_pictures_is_told() -> None:
    walk, health = Walk(TURNING), Health()
    odometry = VisualOdometry(health)
    for i in range(len(TURNING)):
        frame = walk.frame(i)
        if frame.imu is not None and frame.imu.camera_rotation is not None:
            frame = replace(frame, imu=replace(frame.imu, camera_rotation=frame.imu.camera_rotation.T.copy()))
        told = odometry.track(frame, walk.perception(i), walk.camera)
    assert told is not None
    assert not told.tracking
    assert "otherwise than the gyroscope" in health.parts()["visual odometry"].text


def test_frames_that_the_engine_loses_do_no_harm() -> None:
    walk, odometry = Walk(ASIDE_AND_TURNING), VisualOdometry(Health())
    told, before = [], 0
    for i in range(len(T)):
        estimate = odometry.locate(walk.frame(i, before))
        assert estimate is not None
        told.append(estimate)
        if i % 3 != 1:
            odometry.learn(walk.perception(i), walk.camera)
            before = i
    assert all(one.tracking for one in told[1:])
    assert all(one.disagreement_rad is not None for one in told[1:])
    assert errors(walk, told)[0] < 0.03


def test_stamps_that_jump_back_start_over() -> None:
    odometry = VisualOdometry(Health())
    run(Walk(AHEAD[:20]), odometry)
    again = run(Walk(AHEAD[:20], first_ns=0), odometry)
    assert again[0].state == "starting"
    assert again[0].segment == 1
    np.testing.assert_allclose(again[0].world_from_camera[:3, 3], 0)
    assert again[-1].tracking


def test_it_is_never_used_when_the_source_has_poses() -> None:
    health, walk = Health(), Walk(AHEAD[:6])
    odometry = VisualOdometry(health)
    for i in range(6):
        own = walk.poses[i] if i == 2 else None  # later it is lost, but its world is another one than ours
        told = odometry.track(replace(walk.frame(i), world_from_camera=own), walk.perception(i), walk.camera)
        assert (told is None) == (i >= 2)
    assert health.parts()["visual odometry"].text == "off: the source has poses of its own"
    odometry.reset()
    assert odometry.track(walk.frame(0), walk.perception(0), walk.camera) is not None


def test_without_a_pinhole_it_says_why_there_is_nothing() -> None:
    walk = Walk(AHEAD[:1])
    bent = replace(CAMERA, distortion_model="plumb_bob", distortion=(0.1, 0.0, 0.0, 0.0))
    for camera, why in ((None, "intrinsics are unknown"), (bent, "--rectify")):
        health = Health()
        frame = replace(walk.frame(0), camera=camera)
        assert VisualOdometry(health).track(frame, walk.perception(0), None) is None
        assert why in health.parts()["visual odometry"].text


def test_the_covariance_grows_with_the_way_and_holds_the_error() -> None:
    walk = Walk(ASIDE_AND_TURNING)
    told = run(walk)
    sizes = [float(np.trace(one.covariance[:3, :3])) for one in told]
    assert sizes[5] < sizes[20] < sizes[-1]
    way_m, _ = errors(walk, told)
    assert way_m < 3 * np.sqrt(sizes[-1])
    np.testing.assert_allclose(told[-1].covariance, told[-1].covariance.T, atol=1e-12)
    assert np.linalg.eigvalsh(told[-1].covariance).min() > 0


def test_a_large_picture_is_made_small() -> None:
    walk, odometry = Walk(AHEAD[:10]), VisualOdometry(Health())
    large = CAMERA.resized((480, 640))
    for i in range(10):
        frame = walk.frame(i)
        image = np.repeat(np.repeat(frame.image, 2, axis=0), 2, axis=1)
        told = odometry.track(replace(frame, image=image, camera=large), walk.perception(i), walk.camera)
    assert told is not None
    assert told.tracking
    assert np.linalg.norm(told.world_from_camera[:3, 3]) == pytest.approx(0.8 * T[9], rel=0.05)
    assert walk.perception(0).size == SIZE


def test_a_small_picture_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("m2h_runtime.odometry.visual.WIDTH", 160)
    walk = Walk(ASIDE_AND_TURNING)
    told = run(walk)
    assert all(one.tracking for one in told[1:])
    assert errors(walk, told)[0] < 0.05
