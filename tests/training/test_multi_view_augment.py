"""Several views are changed together, and their geometry stays true."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from geometry import share_that_fits
from toy import sample

from m2h_export.data.sample import IGNORE
from m2h_export.data.views import filled, relative_pose
from m2h_export.training import augment as module
from m2h_export.training.augment import augment, augment_views, crop_and_resize, flip
from m2h_export.training.batches import MicroBatches, collate, collate_views, thinned
from m2h_export.training.distributed import World
from m2h_export.training.experiment import AugmentSettings, parse_experiment

if TYPE_CHECKING:
    from m2h_export.data.sample import Sample

SIZE = (48, 60)
COLOURS = AugmentSettings(flip=0, jitter=1)


@pytest.mark.parametrize("flips", [0, 1])
@pytest.mark.parametrize("zoom", [1.0, 1.4])
def test_points_still_meet_after_flip_crop_zoom_and_resize(
    room_views: list[Sample], flips: int, zoom: float
) -> None:
    before = share_that_fits(*room_views, relative_pose(*room_views))
    size = (40, 62)
    views = [crop_and_resize(view, size, zoom, (0.2, 0.9)) for view in room_views]
    views = [flip(view) if flips else view for view in views]
    pose = relative_pose(*views)
    assert views[0].image.shape[:2] == size
    assert share_that_fits(*views, pose) > before - 0.12  # of nearest depths fewer lie within 2 %
    mirrored = np.diag([-1.0, 1, 1, 1])
    wrong = {"unmirrored": mirrored @ pose @ mirrored, "unzoomed": pose * np.r_[1, 1, 1, 2.0]}
    for name, other in wrong.items():
        assert share_that_fits(*views, other) < before - 0.2, name


def test_a_flip_mirrors_camera_and_pose(room_views: list[Sample]) -> None:
    first, second = room_views
    width = first.image.shape[1]
    assert first.intrinsics is not None
    first = replace(first, intrinsics=first.intrinsics + np.array([[0, 0, 3.0], [0, 0, 0], [0, 0, 0]]))
    mirrored = flip(first)
    assert mirrored.intrinsics is not None and first.intrinsics is not None
    assert mirrored.intrinsics[0, 2] == width - 1 - first.intrinsics[0, 2]
    signs = np.diag([-1.0, 1, 1])
    pose, turned = relative_pose(first, second), relative_pose(mirrored, flip(second))
    np.testing.assert_allclose(turned[:3, :3], signs @ pose[:3, :3] @ signs, atol=1e-12)
    np.testing.assert_allclose(turned[:3, 3], signs @ pose[:3, 3], atol=1e-12)
    np.testing.assert_allclose(flip(mirrored).world_from_camera, first.world_from_camera, atol=1e-12)


def test_the_first_view_is_changed_as_it_would_be_alone(room_views: list[Sample]) -> None:
    settings = AugmentSettings(max_zoom=1.5)
    alone = augment(room_views[0], SIZE, settings, np.random.default_rng(5))
    first, _ = augment_views(room_views, SIZE, settings, np.random.default_rng(5))
    for name in ("image", "depth", "semantics", "normals", "edges", "intrinsics", "world_from_camera"):
        np.testing.assert_array_equal(getattr(first, name), getattr(alone, name))


def test_views_share_their_colours_unless_one_draws_its_own() -> None:
    one = sample(0)
    different = 0
    for seed in range(60):
        first, second = augment_views([one, one], (64, 64), COLOURS, np.random.default_rng(seed))
        different += bool((first.image != second.image).any())
    assert module.OWN_COLOURS == 0.2
    assert 5 <= different <= 20


def test_a_duplicate_is_the_same_picture_with_the_identity(room_views: list[Sample]) -> None:
    views = filled(augment_views(room_views[:1], SIZE, AugmentSettings(), np.random.default_rng(1)), 3)
    batch = collate_views([views])
    assert batch["poses"].shape == (1, 3, 3, 4, 4)
    np.testing.assert_array_equal(batch["poses"][0], np.broadcast_to(np.eye(4), (3, 3, 4, 4)))
    np.testing.assert_array_equal(batch["image"][0], batch["image"][2])


def test_maps_of_parts_and_saliency_follow_the_picture() -> None:
    one = sample(0)
    assert one.semantics is not None
    one = replace(one, extra={"human_parts": one.semantics, "saliency": one.semantics % 2})
    two = augment(one, (32, 48), AugmentSettings(flip=1, max_zoom=1.5), np.random.default_rng(0))
    assert two.semantics is not None
    np.testing.assert_array_equal(two.extra["human_parts"], two.semantics)
    batch = collate([two, replace(two, extra={})], ("human_parts", "saliency"))
    assert batch["saliency"].shape == (2, 32, 48)
    assert (batch["human_parts"][1] == IGNORE).all() and (batch["human_parts"][0] < 3).all()
    assert "saliency" not in collate([two], ("edges",))


class Room:
    """Two views of one scene, then a picture that has neither pose nor depth."""

    class_names = ("a", "b")

    def __init__(self, views: list[Sample]) -> None:
        bare = replace(views[0], name="bare", depth=None, intrinsics=None, world_from_camera=None)
        self.samples = [*views, bare]

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def scene(self, index: int) -> range:
        return range(2) if index < 2 else range(2, 3)

    def pose(self, index: int) -> np.ndarray | None:
        return self.samples[index].world_from_camera


def batches(room_views: list[Sample], *changes: str) -> MicroBatches:
    import torch

    text = "{name: e, model: {name: m2h-nano}, data: {kind: apartments, size: [32, 48], cap_m: 10}, steps: 4, batch: 3}"
    settings = parse_experiment(text, "here", ["augment.jitter=0", *changes])
    return MicroBatches(Room(room_views), settings, World(torch.device("cpu")))


def test_a_batch_mixes_pairs_and_pictures_alone(room_views: list[Sample]) -> None:
    """Three samples are an epoch: each step has both views of the room and the one that is alone."""
    batch = batches(room_views, "data.views.count=2", "data.views.gap=[1,1]")[0]
    assert batch["image"].shape == (6, 3, 32, 48)
    assert batch["poses"].shape == (3, 2, 2, 4, 4) and batch["cameras"].shape == (3, 2, 4)
    moved = [bool((poses[0, 1] != np.eye(4)).any()) for poses in batch["poses"].numpy()]
    assert sorted(moved) == [False, True, True]
    alone = moved.index(False)
    assert not batch["depth"][2 * alone : 2 * alone + 2].any()
    assert (batch["image"][2 * alone] == batch["image"][2 * alone + 1]).all()


def test_single_frames_are_the_first_of_the_views(room_views: list[Sample]) -> None:
    """So variants of a seed see the same order."""
    single, pairs = batches(room_views), batches(room_views, "data.views.count=2", "data.views.gap=[1,1]")
    for number in range(3):
        np.testing.assert_array_equal(single[number]["image"], pairs[number]["image"][::2])
    assert "poses" not in single[0]


def test_thinning_leaves_the_geometry_alone(room_views: list[Sample]) -> None:
    batch = batches(room_views, "data.views.count=2", "data.views.gap=[1,1]")[0]
    thin = thinned(batch, (16, 24), 3)
    assert thin["depth"].shape == (6, 1, 16, 24)
    assert thin["poses"] is batch["poses"] and thin["cameras"] is batch["cameras"]
