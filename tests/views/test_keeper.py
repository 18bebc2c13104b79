"""What the engine is handed, from what is known about the camera, and what is said about it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from strolls import CAMERA, FPS, Stroll, frames, perception, prepared, walking
from tiny_engine import features_of

from m2h_runtime.engine.contract import Views
from m2h_runtime.imu import so3
from m2h_runtime.pipeline.health import Health, Level
from m2h_runtime.views.telling import Teller

if TYPE_CHECKING:
    from m2h_runtime.calibration.camera import CameraModel
    from m2h_runtime.frame import Frame

NO_POSE_NO_IMU = "single view: no pose and no IMU"
GYROSCOPE = "rotation only: no pose at this stamp (gyroscope)"


def walked(**what: bool) -> list[Frame]:
    return list(frames(walking(rest_s=1.5, walk_s=4.5), **what))


def test_with_poses_it_is_two_views_and_says_from_where() -> None:
    stroll = Stroll().over(frames(walking()))
    views = stroll.handed[-1]
    assert views is not None
    np.testing.assert_array_equal(views.intrinsics, np.float32((70, 70, 47.5, 31.5)))
    baseline_m = np.linalg.norm(views.neighbour_from_camera[0, :, 3])
    assert stroll.texts[-1].startswith(f"two views, baseline {baseline_m:.2f} m, 0.")
    assert stroll.texts[-1].endswith(" s ago")
    assert stroll.health.parts()["views"].level == Level.OK
    assert stroll.changes == []
    report = stroll.keeper.report()
    assert report["frames"]["two views"] > 100
    assert sum(report["frames"].values()) == len(stroll.handed)
    assert 0.1 < report["median_baseline_m"] < 0.6


def test_translations_are_in_the_networks_own_metres() -> None:
    """Its depth is multiplied by the factor behind the engine, so its planes must be divided by it before."""
    plain, scaled = Stroll(), Stroll()
    for frame in walked():
        plain.step(frame)
        ready = prepared(frame, 2.0)
        views = scaled.keeper.neighbours(ready)
        half = replace(perception(), depth=perception().depth / 2)  # the same scene, as that network sees it
        scaled.keeper.remember(ready, half, features_of(frame.image))
        if plain.handed[-1] is not None:
            assert views is not None
            here, there = views.neighbour_from_camera, plain.handed[-1].neighbour_from_camera
            np.testing.assert_array_equal(here[..., :3], there[..., :3])
            np.testing.assert_allclose(2 * here[..., 3], there[..., 3], rtol=1e-6)
    assert plain.handed[-1] is not None


def test_without_poses_the_gyroscope_gives_the_rotation() -> None:
    truth = walked()
    blind = walked(poses=False, imu=True)
    stroll = Stroll().over(iter(blind))
    errors, used = [], 0
    for index, views in enumerate(stroll.handed):
        if views is None:
            continue
        used += 1
        pose = views.neighbour_from_camera[0].astype(np.float64)
        assert not pose[:, 3].any()
        here = truth[index].world_from_camera
        # The right keyframe is among those of the last second.
        before = [f.world_from_camera for f in truth[max(0, index - round(FPS) - 1) : index]]
        errors.append(
            min(np.linalg.norm(so3.log(pose[:, :3].T @ b[:3, :3].T @ here[:3, :3])) for b in before)
        )
    assert used == len(blind) - 1, "every frame but the first"
    assert np.degrees(max(errors)) < 0.3
    turned = so3.log(truth[0].world_from_camera[:3, :3].T @ truth[-1].world_from_camera[:3, :3])  # type: ignore[index]
    assert np.degrees(np.linalg.norm(turned)) > 3, "it did turn"
    assert stroll.changes == [GYROSCOPE]
    assert stroll.keeper.report()["frames"] == {"single view": 1, "rotation only": used}
    assert stroll.keeper.report()["reasons"][GYROSCOPE] == used
    assert stroll.keeper.report()["median_baseline_m"] is None


def test_a_frame_that_was_not_perceived_breaks_no_chain() -> None:
    """The next window begins at the last perception, so it covers that frame."""
    trajectory = walking(rest_s=1.5, walk_s=3.0)
    truth = list(frames(trajectory))
    stroll = Stroll()
    blind = list(frames(trajectory, poses=False, imu=True))
    for frame in blind[:30]:
        stroll.step(frame)
    lost, after = blind[30], blind[31]
    stroll.step(lost, perceived=False)
    assert lost.imu is not None and after.imu is not None
    joined = after.imu.camera_rotation @ lost.imu.camera_rotation  # type: ignore[operator]
    views = stroll.step(replace(after, imu=replace(after.imu, camera_rotation=joined)))
    assert views is not None
    pose = views.neighbour_from_camera[0].astype(np.float64)
    here = truth[31].world_from_camera
    errors = [
        np.linalg.norm(so3.log(pose[:, :3].T @ f.world_from_camera[:3, :3].T @ here[:3, :3]))  # type: ignore[index]
        for f in truth[15:30]
    ]
    assert np.degrees(min(errors)) < 0.3


@pytest.mark.parametrize("broken", ["missing", "gap", "no extrinsics"])
def test_a_break_in_the_samples_is_never_bridged(broken: str) -> None:
    stroll = Stroll()
    for index, frame in enumerate(walked(poses=False, imu=True)):
        window = frame.imu
        if index == 40:
            assert window is not None
            spoilt = {
                "missing": None,
                "gap": replace(window, complete=False),
                "no extrinsics": replace(window, camera_rotation=None),
            }[broken]
            assert stroll.step(replace(frame, imu=spoilt)) is None
            assert stroll.texts[-1].startswith("single view: no pose and no ") or stroll.changes == [
                GYROSCOPE
            ]
        else:
            stroll.step(frame)
    assert stroll.handed[41] is not None, "a new chain begins at once"
    assert stroll.keeper.report()["frames"]["single view"] == 2


def test_without_pose_and_imu_it_is_a_single_view_and_says_so_once() -> None:
    stroll = Stroll().over(frames(walking(walk_s=2.0), poses=False))
    assert set(stroll.handed) == {None}
    assert stroll.changes == [NO_POSE_NO_IMU]
    assert stroll.health.parts()["views"].level == Level.DEGRADED


def test_a_pose_that_is_not_finite_is_none() -> None:
    stroll, walk = Stroll(), walked()
    for frame in walk[:-1]:
        stroll.step(frame)
    assert stroll.handed[-1] is not None
    assert stroll.step(replace(walk[-1], world_from_camera=np.full((4, 4), np.nan))) is None
    assert stroll.texts[-1] == NO_POSE_NO_IMU


def test_poses_that_come_and_go_are_one_change_not_many() -> None:
    stroll = Stroll()
    for index, frame in enumerate(walked()):
        stroll.step(frame if index % 3 else replace(frame, world_from_camera=None))
    assert stroll.changes == [NO_POSE_NO_IMU]
    for _ in range(3):
        stroll.over(iter(walked()[-20:]))
    assert len(stroll.changes) == 2, "well again after a second with poses"


@pytest.mark.parametrize(
    ("camera", "why"),
    [
        (None, "the camera's intrinsics are unknown; give --calibration"),
        (
            replace(CAMERA, distortion_model="plumb_bob", distortion=(-0.3, 0.1, 0.0, 0.0)),
            "the lens distorts",
        ),
    ],
    ids=["unknown", "distorted"],
)
def test_without_a_pinholes_intrinsics_it_is_a_single_view(camera: CameraModel | None, why: str) -> None:
    stroll = Stroll()
    for frame in walked():
        stroll.step(replace(frame, camera=camera))
    assert set(stroll.handed) == {None}
    assert len(stroll.changes) == 1
    assert stroll.changes[0].startswith(f"single view: {why}")


def test_another_camera_is_not_compared_with_the_one_before() -> None:
    stroll, walk = Stroll(), walked()
    for frame in walk[:-1]:
        stroll.step(frame)
    assert stroll.handed[-1] is not None
    assert stroll.step(replace(walk[-1], camera=replace(CAMERA, fx=80.0))) is None
    assert stroll.texts[-1] == "single view: no keyframe yet"


def test_nothing_is_left_after_a_clear() -> None:
    stroll, walk = Stroll(), walked(imu=True)
    for frame in walk[:-1]:
        stroll.step(frame)
    stroll.keeper.clear()
    assert stroll.step(walk[-1]) is None
    assert stroll.texts[-1] == "single view: no keyframe yet"


def test_several_neighbours_are_different_keyframes_and_the_frame_itself_fills_the_rest() -> None:
    stroll = Stroll(Views(neighbours=3, channels=3, stride=8))
    identity = np.eye(3, 4, dtype=np.float32)
    counts = []
    for frame in walked():
        views = stroll.step(frame)
        if views is not None:
            assert views.features.shape == (3, 3, 8, 12)
            real = [pose for pose in views.neighbour_from_camera if not np.array_equal(pose, identity)]
            assert len({pose.tobytes() for pose in real}) == len(real)
            counts.append(len(real))
            number = ("two", "three", "four")[len(real) - 1]
            assert stroll.texts[-1].startswith(f"{number} views, baseline")
    assert set(counts) >= {1, 3}


def test_features_that_are_not_finite_become_no_keyframe() -> None:
    stroll = Stroll()
    for frame in walked():
        ready = prepared(frame)
        assert stroll.keeper.neighbours(ready) is None
        broken = features_of(frame.image)
        broken[0, 0, 3, 3] = np.nan
        stroll.keeper.remember(ready, perception(), broken)


def test_a_worse_state_is_told_at_once_and_texts_do_not_flicker() -> None:
    stroll = Stroll()
    clock, health = stroll.clock, Health(clock=stroll.clock)
    teller = Teller(health, "views", clock)
    teller.say(Level.OK, "fine 1")
    for _ in range(20):
        for text in ("bad", "worse"):
            teller.say(Level.DEGRADED, text)
            clock.forward(30)
    assert [change.condition.text for change in health.transitions] == ["bad"]
    teller.say(Level.OK, "fine 2")
    assert health.parts()["views"].text == "bad"
    clock.forward(1001)
    teller.say(Level.OK, "fine 3")
    assert health.parts()["views"].text == "fine 3"
