"""Neighbours: are they of the same place, and is their pose the true one."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "training"))  # at the end: for geometry
from geometry import share_that_fits

from m2h_export.data import open_dataset
from m2h_export.data.errors import DatasetError
from m2h_export.data.sample import Sample
from m2h_export.data.views import (
    MixedDataset,
    PosedDataset,
    Views,
    ViewSettings,
    cameras_of,
    filled,
    overlap,
    poses_between,
    relative_pose,
)
from m2h_runtime.cli.sim import main as m2h_sim
from m2h_runtime.errors import InputError

BURST = 3
STILLS = range(6, 15)
"""Two bursts of the walk, then three stills from three places each."""


@pytest.fixture(scope="module")
def apartments(tmp_path_factory: pytest.TempPathFactory) -> PosedDataset:
    out = tmp_path_factory.mktemp("apartments")
    frames = [
        "--apartments",
        "1",
        "--frames",
        "2",
        "--survey",
        "3",
        "--burst",
        str(BURST),
        "--duration",
        "20",
    ]
    assert m2h_sim([*frames, "--size", "64x48", "--workers", "1", "--out", str(out)]) == 0
    dataset = open_dataset("apartments", out)
    assert isinstance(dataset, PosedDataset)
    return dataset


def test_a_burst_shows_the_same_place_and_its_poses_are_true(apartments: PosedDataset) -> None:
    views = Views(apartments, ViewSettings(2, (1, BURST - 1)))
    assert len(apartments) == 15
    fitting, paired = [], 0
    for index in range(len(apartments)):
        first, *neighbours = views.nearest(index)
        for neighbour in neighbours:
            pose = relative_pose(first, neighbour)
            assert overlap(first, pose) >= 0.4
            assert 0.05 <= np.linalg.norm(pose[:3, 3]) <= 1.5
            fitting.append(share_that_fits(first, neighbour, pose))
            paired += index in STILLS
    assert paired >= 7, "most stills have a neighbour"
    assert np.mean(fitting) > 0.8
    assert share_that_fits(*views.nearest(12), np.eye(4)) < 0.3, "this check can fail"


def test_the_nearest_come_first_and_the_drawn_are_drawn_from_all(apartments: PosedDataset) -> None:
    views = Views(apartments, ViewSettings(3, (1, 2), min_overlap=0.3))
    nearest = [s.name[-2:] for s in views.nearest(13)]
    assert nearest == ["13", "12", "14"]
    drawn = {views.drawn(13, np.random.default_rng(i))[1].name[-2:] for i in range(8)}
    assert drawn == {"12", "14"}
    again = [views.drawn(13, np.random.default_rng(3))[1].name for _ in range(2)]
    assert again[0] == again[1]


def test_what_is_too_near_too_far_or_elsewhere_is_no_neighbour(apartments: PosedDataset) -> None:
    for settings in (
        ViewSettings(2, (1, 2), baseline_m=(0.0, 0.01)),
        ViewSettings(2, (1, 2), baseline_m=(5.0, 9.0)),
        ViewSettings(2, (9, 9), min_overlap=0.9),
    ):
        assert len(Views(apartments, settings).nearest(12)) == 1
    assert len(Views(apartments, ViewSettings(1)).nearest(12)) == 1


def test_a_resized_data_set_keeps_poses_and_geometry(apartments: PosedDataset) -> None:
    smaller = open_dataset("apartments", apartments.root, size=(36, 48))
    assert isinstance(smaller, PosedDataset)
    first, second = Views(smaller, ViewSettings(2, (1, 2))).nearest(12)
    assert first.image.shape == (36, 48, 3)
    assert share_that_fits(first, second, relative_pose(first, second)) > 0.7


def test_a_sample_alone_is_its_own_neighbour_with_the_identity(apartments: PosedDataset) -> None:
    alone = apartments[3]
    views = filled([alone], 3)
    assert all(view is alone for view in views)
    np.testing.assert_array_equal(poses_between(views), np.broadcast_to(np.eye(4), (3, 3, 4, 4)))
    bare = Sample("bare", np.zeros((4, 6, 3), np.uint8))
    np.testing.assert_array_equal(poses_between(filled([bare], 2)), np.broadcast_to(np.eye(4), (2, 2, 4, 4)))
    assert cameras_of([bare]).tolist() == [[1, 1, 0, 0]]
    with pytest.raises(DatasetError, match="needs the poses of both"):
        poses_between([alone, bare])


def test_too_few_neighbours_are_repeated(apartments: PosedDataset) -> None:
    a, b = apartments[12], apartments[13]
    views = filled([a, b], 4)
    assert [view.name for view in views] == [a.name, b.name, b.name, b.name]
    poses = poses_between(views)
    np.testing.assert_array_equal(poses[1, 3], np.eye(4))
    np.testing.assert_allclose(poses[0, 1] @ poses[1, 0], np.eye(4), atol=1e-5)
    np.testing.assert_allclose(poses[0, 2], relative_pose(a, b), atol=1e-6)
    camera = cameras_of(views)[0]
    assert a.intrinsics is not None
    np.testing.assert_allclose(camera, [a.intrinsics[i] for i in ((0, 0), (1, 1), (0, 2), (1, 2))], rtol=1e-6)


class Stills:
    """Four labelled pictures without poses."""

    def __init__(self, class_names: tuple[str, ...]) -> None:
        self.class_names = class_names

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Sample:
        return Sample(f"still{index}", np.zeros((48, 64, 3), np.uint8))


class DepthOnly:
    """What has no classes of its own, such as video frames."""

    class_names = ()

    def __init__(self, dataset: PosedDataset) -> None:
        self.dataset = dataset
        self.scene, self.pose = dataset.scene, dataset.pose

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        return replace(self.dataset[index], semantics=None, normals=None, edges=None)


def test_stills_and_video_are_one_data_set(apartments: PosedDataset) -> None:
    mixed = MixedDataset([Stills(("a", "b")), DepthOnly(apartments)])
    assert (len(mixed), mixed.class_names) == (19, ("a", "b"))
    views = Views(mixed, ViewSettings(2, (1, 2)))
    assert [s.name for s in views.nearest(2)] == ["still2"], "no scene: not beside the next still"
    assert [s.name[-2:] for s in views.nearest(4 + 13)] == ["13", "12"]
    with pytest.raises(IndexError):
        mixed[19]
    with pytest.raises(InputError, match="other classes than the first"):
        MixedDataset([Stills(("a", "b")), Stills(("a", "c"))])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 0}, "views.count: 0 views; give 1 to 4"),
        ({"gap": (0, 3)}, r"views.gap: \[0, 3\]"),
        ({"min_overlap": 1.5}, "views.min_overlap: 1.5 must be in 0..1"),
        ({"baseline_m": (1.0, 0.5)}, r"views.baseline_m: \[1.0, 0.5\]"),
    ],
)
def test_wrong_settings_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ViewSettings(**values)  # type: ignore[arg-type]
