"""Which earlier frames are worth looking at, on exact geometry and on a simulated walk."""

from __future__ import annotations

import numpy as np
import pytest
from strolls import CAMERA, DEPTH_M, Stroll, frames, walking
from tiny_engine import features_of

from m2h_runtime.imu import so3
from m2h_runtime.simulation.trajectory import Trajectory
from m2h_runtime.views.keyframes import CAPACITY, baseline_worth, freshness
from m2h_runtime.views.overlap import overlap


def moved(x: float = 0.0, y: float = 0.0, z: float = 0.0, yaw: float = 0.0) -> np.ndarray:
    """(3, 4), camera to neighbour."""
    return np.column_stack((so3.exp(np.array((0.0, yaw, 0.0))), (x, y, z)))


def test_the_overlap_is_the_share_of_the_picture_that_both_see() -> None:
    width_m = CAMERA.width / CAMERA.fx * 2.0  # of the picture at 2 m
    assert overlap(moved(), CAMERA, 2.0) == 1.0
    assert overlap(moved(x=width_m / 2), CAMERA, 2.0) == 0.5
    assert overlap(moved(x=width_m / 2), CAMERA, 4.0) == 0.75, "from farther away it is less of a change"
    assert overlap(moved(x=2 * width_m), CAMERA, 2.0) == 0.0
    assert overlap(moved(yaw=np.pi), CAMERA, 2.0) == 0.0, "what lies behind is not seen"
    assert overlap(moved(z=2.0), CAMERA, 2.0) == 1.0, "from twice as far all of it is in the middle"


def test_baselines_are_best_from_a_twentieth_to_a_seventh_of_the_depth() -> None:
    assert [baseline_worth(part) for part in (0.0, 0.01, 0.05, 0.1, 0.15)] == [0, 0, 1, 1, 1]
    assert 0 < baseline_worth(0.02) < baseline_worth(0.04) < 1
    assert 1 > baseline_worth(0.2) > baseline_worth(0.5) > 0


def test_older_is_worth_less_and_too_old_nothing() -> None:
    assert [freshness(age, 3.0) for age in (0.0, 3.0, 3.1, -0.1)] == [1.0, 0.5, 0.0, 0.0]


def test_a_walking_camera_nearly_always_has_a_neighbour_at_a_good_distance() -> None:
    stroll = Stroll().over(frames(walking()))
    handed = [views for views in stroll.handed[15:] if views is not None]
    assert len(handed) > 0.95 * len(stroll.handed[15:])
    baselines = np.array([np.linalg.norm(views.neighbour_from_camera[0, :, 3]) for views in handed]) / DEPTH_M
    assert baselines.min() > 0.01
    assert ((baselines > 0.04) & (baselines < 0.2)).mean() > 0.9
    for views in handed:
        assert overlap(views.neighbour_from_camera[0].astype(np.float64), CAMERA, DEPTH_M) >= 0.4


def test_the_pose_takes_points_to_the_neighbour_whose_features_are_handed_over() -> None:
    trajectory, stroll = walking(), Stroll()
    walked = list(frames(trajectory))
    stroll.over(iter(walked))
    checked = 0
    for index, views in enumerate(stroll.handed):
        if views is None:
            continue
        here = walked[index].world_from_camera
        assert here is not None
        point = np.array((0.3, -0.2, 2.5, 1.0))
        near = views.neighbour_from_camera[0].astype(np.float64) @ point
        # Among all frames before, it is the one from whose pose the point looks like this.
        apart = [np.abs(np.linalg.inv(f.world_from_camera) @ here @ point)[:3] for f in walked[:index]]  # type: ignore[arg-type]
        source = int(np.argmin([np.abs(a - np.abs(near)).max() for a in apart]))
        assert np.abs(apart[source] - np.abs(near)).max() < 1e-5
        np.testing.assert_array_equal(views.features, features_of(walked[source].image))
        checked += 1
    assert checked > 60


def test_a_camera_that_stands_has_no_neighbour() -> None:
    stroll = Stroll().over(frames(walking(rest_s=4.0, walk_s=0.5)))
    assert stroll.handed[:55] == [None] * 55
    assert stroll.texts[0] == "single view: no keyframe yet"
    assert set(stroll.texts[1:55]) == {"single view: the camera has hardly moved"}
    assert stroll.changes == [], "which is no fault"


def test_keyframes_from_the_way_are_used_until_they_are_too_old() -> None:
    stroll = Stroll().over(frames(walking(walk_s=4.0, after_s=5.0)))
    rest = [views is not None for views in stroll.handed[60:]]  # stands from frame 60 on
    assert all(rest[:30]), "two seconds on, it still looks back to where it came from"
    assert not any(rest[-20:]), "and not for ever"


def test_the_ring_is_bounded() -> None:
    stroll = Stroll().over(frames(walking(walk_s=10.0)))
    assert len(stroll.keeper._keyframes) == CAPACITY


@pytest.mark.parametrize("yaw_s", [2.0, 8.0])
def test_in_a_turn_only_what_still_shows_the_same_is_used(yaw_s: float) -> None:
    times = np.linspace(0.0, 6.0, 601)
    positions = np.column_stack((0.5 * times, 0 * times, 1.4 + 0 * times))
    turning = Trajectory(times, positions, 2 * np.pi / yaw_s * times, 0 * times, 0 * times)
    stroll = Stroll().over(frames(turning))
    for views in stroll.handed:
        if views is not None:
            assert overlap(views.neighbour_from_camera[0].astype(np.float64), CAMERA, DEPTH_M) >= 0.4
    assert sum(views is not None for views in stroll.handed[15:]) > 60
