"""Transforms as they come in live: bounded, on one clock, and with a reason where there is no pose."""

from __future__ import annotations

import numpy as np
import pytest

from m2h_runtime.scene_graph.transforms import Transforms

MS = 1_000_000
UPRIGHT = (1.0, 0.0, 0.0, 0.0)


def tree(count: int = 11, step_ns: int = 100 * MS) -> Transforms:
    """map <- odom (static) <- base, which drives 0.1 m a step, <- camera (static)."""
    made = Transforms(kept_ns=2000 * MS)
    made.push("map", "odom", 0, (10.0, 0.0, 0.0), UPRIGHT, fixed=True)
    made.push("base", "camera", 0, (0.0, 0.0, 1.0), UPRIGHT, fixed=True)
    for step in range(count):
        made.push("odom", "base", step * step_ns, (0.1 * step, 0.0, 0.0), UPRIGHT)
    return made


@pytest.mark.parametrize(("root", "x"), [("", 10.25), ("map", 10.25), ("odom", 0.25), ("base", 0.0)])
def test_a_pose_is_in_the_frame_that_was_asked_for(root: str, x: float) -> None:
    found = tree().look_up("camera", 250 * MS, root)
    assert found.pose is not None
    np.testing.assert_allclose(found.pose[:3, 3], (x, 0.0, 1.0), atol=1e-12)
    assert found.root == (root or "map")
    assert found.moving == (root != "base")


@pytest.mark.parametrize(
    ("frame", "stamp_ns", "root", "why"),
    [
        ("lens", 0, "", "nobody sends a transform of lens"),
        ("", 0, "", "nobody sends a transform of an image without a frame id"),
        ("camera", 1001 * MS, "", "odom <- base: the newest transform is older than the image"),
        ("camera", -1, "", "odom <- base: the image is older than every transform that is kept"),
        ("camera", 0, "world", "world is not above camera; the uppermost frame is map"),
    ],
)
def test_where_there_is_no_pose_the_reason_says_what_is_wrong(
    frame: str, stamp_ns: int, root: str, why: str
) -> None:
    found = tree().look_up(frame, stamp_ns, root)
    assert found.pose is None
    assert found.why.startswith(why)


def test_no_pose_is_made_up_in_a_gap() -> None:
    found = tree(3, 300 * MS).look_up("camera", 100 * MS)
    assert found.pose is None
    assert "further apart than 0.25 s" in found.why


def test_old_transforms_are_forgotten_and_a_bag_that_starts_again_is_taken_up() -> None:
    made = tree(101)
    assert made.world_from("camera", 8100 * MS) is not None
    assert made.world_from("camera", 7900 * MS) is None
    for step in range(2):
        made.push("odom", "base", step * 100 * MS, (5.0, 0.0, 0.0), UPRIGHT)
    pose = made.world_from("camera", 50 * MS)
    assert pose is not None
    assert pose[0, 3] == 15.0
    assert made.world_from("camera", 8100 * MS) is None


@pytest.mark.parametrize(
    ("position", "quat_wxyz"),
    [((np.nan, 0.0, 0.0), UPRIGHT), ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0))],
)
def test_what_is_no_pose_is_dropped(position: tuple[float, ...], quat_wxyz: tuple[float, ...]) -> None:
    made = tree()
    made.push("odom", "base", 250 * MS, position, quat_wxyz)
    pose = made.world_from("base", 250 * MS)
    assert pose is not None
    assert pose[0, 3] == pytest.approx(10.25)


def test_a_frame_that_moves_to_another_parent_leaves_nothing_behind() -> None:
    made = tree()
    made.push("dock", "base", 500 * MS, (1.0, 0.0, 0.0), UPRIGHT)
    assert made.world_from("base", 400 * MS) is None
    assert made.look_up("base", 500 * MS).root == "dock"
