from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from m2h_export.data.errors import DatasetError
from m2h_export.data.nyuv2_video import NyuV2Video
from m2h_export.data.sample import Sample
from m2h_export.data.views import relative_pose
from m2h_runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

H, W = 4, 6


def write_frames(scene: Path, names: Sequence[str]) -> None:
    (scene / "rgb").mkdir(parents=True)
    (scene / "depth").mkdir()
    (scene / "intrinsics.txt").write_text("5.0 6.0 2.5 1.5\n")
    for number, name in enumerate(names):
        cv2.imwrite(str(scene / "rgb" / f"{name}.png"), np.full((H, W, 3), number, np.uint8))
        cv2.imwrite(str(scene / "depth" / f"{name}.png"), np.full((H, W), 1000 + number, np.uint16))


def pose_line(x: float) -> str:
    return f"1 0 0 {x} 0 1 0 0 0 0 1 0"


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Scenes a (3 frames) and b (2 frames); the camera moves to the right, 0.1 m a frame."""
    for scene, count in (("a", 3), ("b", 2)):
        write_frames(tmp_path / scene, [f"{i:05d}" for i in range(count)])
        lines = [pose_line(0.1 * i) for i in range(count)]
        (tmp_path / scene / "poses.txt").write_text("\n".join(lines))
    return tmp_path


def test_frames_carry_depth_pose_and_camera(scenes: Path) -> None:
    dataset = NyuV2Video(scenes)
    assert [dataset[i].name for i in range(len(dataset))] == [
        "a/00000",
        "a/00001",
        "a/00002",
        "b/00000",
        "b/00001",
    ]
    sample = dataset[2]
    assert sample.depth is not None
    assert sample.depth[0, 0] == np.float32(1.002)
    assert sample.world_from_camera is not None
    assert sample.world_from_camera[:3, 3] == pytest.approx([0.2, 0, 0])
    assert sample.intrinsics is not None
    assert sample.intrinsics.tolist() == [[5, 0, 2.5], [0, 6, 1.5], [0, 0, 1]]


def test_pairs_stay_within_a_scene(scenes: Path) -> None:
    dataset = NyuV2Video(scenes)
    pairs = [dataset.pair(i) for i in range(len(dataset))]
    assert [f"{a.name} {b.name}" for a, b in pairs] == [
        "a/00000 a/00001",
        "a/00001 a/00002",
        "a/00002 a/00001",
        "b/00000 b/00001",
        "b/00001 b/00000",
    ]
    assert dataset.pair(-1)[1].name == "b/00000"


def test_every_frame_has_a_partner_at_the_widest_gap(scenes: Path) -> None:
    (scenes / "train.txt").write_text("a\n")
    dataset = NyuV2Video(scenes, gap=2)
    with pytest.raises(IndexError):
        dataset.pair(3)
    assert [dataset.pair(i)[1].name for i in (0, 2)] == ["a/00002", "a/00000"]


def test_the_relative_pose_takes_a_point_to_the_other_camera(scenes: Path) -> None:
    first, second = NyuV2Video(scenes).pair(0)
    # The camera moved right, so the point moves left.
    assert relative_pose(first, second) @ (0, 0, 2, 1) == pytest.approx([-0.1, 0, 2, 1])
    with pytest.raises(DatasetError, match="needs the poses of both"):
        relative_pose(first, Sample("bare", np.zeros((1, 1, 3), np.uint8)))


def test_a_tum_trajectory_is_matched_by_stamp(tmp_path: Path) -> None:
    write_frames(tmp_path, ["10.00", "10.10", "10.20"])
    quarter = np.sqrt(0.5)
    (tmp_path / "trajectory.txt").write_text(
        "# stamp tx ty tz qx qy qz qw\n"
        "10.001 0 0 0 0 0 0 1\n"
        f"10.099 1 2 3 0 {quarter} 0 {quarter}\n"  # a quarter turn about y
        "10.30 0 0 0 0 0 0 1\n"
    )
    dataset = NyuV2Video(tmp_path)
    assert len(dataset) == 2  # the third frame is 0.1 s from the next pose
    pose = dataset[1].world_from_camera
    assert pose is not None
    assert pose @ (0, 0, 1, 1) == pytest.approx([2, 2, 3, 1])


def test_splits_name_scenes(scenes: Path) -> None:
    (scenes / "val.txt").write_text("b\n")
    assert len(NyuV2Video(scenes, "val")) == 2
    with pytest.raises(DatasetError, match=r"test\.txt: no such file"):
        NyuV2Video(scenes, "test")
    (scenes / "val.txt").write_text("c\n")
    with pytest.raises(DatasetError, match=r"c: no such folder; .*val\.txt lists it"):
        NyuV2Video(scenes, "val")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (pose_line(0), r"poses\.txt: 1 poses for 2 frames"),
        ("1 2 3\n4 5 6", r"poses\.txt, line 1: expected 12 or 16 finite numbers, got 3"),
        (pose_line(0) + "\n" + pose_line(0).replace("1", "x", 1), r"poses\.txt, line 2: could not convert"),
        (pose_line(0) + "\n2 0 0 0 0 1 0 0 0 0 1 0", r"poses\.txt, line 2: the left 3 x 3 is not a rotation"),
    ],
)
def test_faulty_poses_are_named(scenes: Path, text: str, message: str) -> None:
    (scenes / "b" / "poses.txt").write_text(text)
    with pytest.raises(DatasetError, match=message):
        NyuV2Video(scenes)


def test_other_faults_are_named(scenes: Path) -> None:
    with pytest.raises(DatasetError, match="b: 2 frames with poses are too few for a gap of 2"):
        NyuV2Video(scenes, gap=2)
    with pytest.raises(InputError, match="gap 0"):
        NyuV2Video(scenes, gap=0)
    dataset = NyuV2Video(scenes)
    (scenes / "a" / "depth" / "00001.png").unlink()
    with pytest.raises(DatasetError, match=r"00001\.png: no such file"):
        dataset[1]
    (scenes / "a" / "intrinsics.txt").unlink()
    with pytest.raises(DatasetError, match=r"intrinsics\.txt: needed, as the frames are not 480 x 640"):
        NyuV2Video(scenes)[0]
    (scenes / "a" / "poses.txt").unlink()
    with pytest.raises(
        DatasetError, match=r"poses\.txt: no such file, nor trajectory\.txt or groundtruth\.txt"
    ):
        NyuV2Video(scenes)


def test_a_folder_without_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="neither rgb/ nor SCENE/rgb/"):
        NyuV2Video(tmp_path)
    write_frames(tmp_path, ["1.0", "2.0"])
    (tmp_path / "groundtruth.txt").write_text("1.0 0 0 0 0 0 0 2\n")
    with pytest.raises(DatasetError, match=r"line 1: the quaternion has length 2\.000"):
        NyuV2Video(tmp_path)
