from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from m2h_runtime.calibration.camera import CameraModel
from m2h_runtime.calibration.fit import Fit
from m2h_runtime.frame import Frame
from m2h_runtime.label_space import generic_label_space
from m2h_runtime.perception import Perception
from m2h_runtime.view import View, enlarged_depth

ENGINE = (12, 16)
CAMERA = (30, 40)
LABELS = generic_label_space(5)


def perception(**outputs: Any) -> Perception:
    """Plain outputs at the engine's size, but for those given."""
    plain: dict[str, Any] = {
        "depth": np.full(ENGINE, 2, np.float32),
        "semantics": np.full(ENGINE, 3, np.uint8),
        "confidence": np.full(ENGINE, 200, np.uint8),
        "normals": np.tile(np.array([0, 0, -1], np.float32), (*ENGINE, 1)),
        "edges": np.full(ENGINE, 10, np.uint8),
    }
    return Perception(**(plain | outputs), label_space=LABELS)


def view(
    fit: Fit | None = None,
    size: tuple[int, int] = CAMERA,
    outputs: dict[str, Any] | None = None,
    **options: Any,
) -> View:
    fit = fit or Fit("stretch", CAMERA, ENGINE)
    image = np.random.default_rng(0).integers(0, 256, (*fit.camera, 3)).astype(np.uint8)
    camera = CameraModel(fit.camera[1], fit.camera[0], 30, 30, 19.5, 14.5)
    return View(Frame(image, 0, 0, camera=camera), perception(**(outputs or {})), fit, size, **options)


@pytest.mark.parametrize("size", [CAMERA, (29, 41), (12, 16), (7, 9), (120, 160), (31, 16)])
def test_every_output_has_the_size_that_was_asked_for(size: tuple[int, int]) -> None:
    made = view(size=size)
    for name in ("depth", "semantics", "confidence", "edges"):
        assert getattr(made, name).shape == size
    for name in ("colors", "normals", "normals_picture", "rgb"):
        assert getattr(made, name).shape == (*size, 3)
    assert made.camera is not None and made.camera.size == size


def test_outputs_are_made_once_and_cannot_be_changed() -> None:
    made = view()
    assert made.depth is made.depth
    with pytest.raises(ValueError, match="read-only"):
        made.semantics[0, 0] = 1


@pytest.mark.parametrize("size", [(30, 40), (31, 43), (24, 32), (97, 111), (9, 13)])
def test_no_surface_is_invented_between_an_object_and_the_wall_behind_it(size: tuple[int, int]) -> None:
    depth = np.full(ENGINE, 4, np.float32)
    depth[3:8, 5:11] = 1
    assert set(np.unique(enlarged_depth(depth, size))) == {1.0, 4.0}


def test_a_hole_in_the_depth_does_not_pull_its_neighbours_nearer() -> None:
    depth = np.full(ENGINE, 3, np.float32)
    depth[5, 5] = 0
    assert set(np.unique(enlarged_depth(depth, (31, 47)))) == {0.0, 3.0}


def test_a_slanted_surface_is_enlarged_smoothly() -> None:
    depth = np.tile(np.linspace(2, 3, 16, dtype=np.float32), (12, 1))
    enlarged = enlarged_depth(depth, (36, 48))
    assert np.array_equal(enlarged, cv2.resize(depth, (48, 36), interpolation=cv2.INTER_LINEAR))
    assert np.abs(np.diff(enlarged, axis=1)).max() < 0.03  # steps of the engine's pixels are 0.067


def test_a_step_stays_where_the_pixels_of_the_engine_have_it() -> None:
    depth = np.ones(ENGINE, np.float32)
    depth[:, 8:] = 5
    enlarged = enlarged_depth(depth, (30, 40))  # 2.5 pixels for one: the step is in the middle
    assert np.all(enlarged[:, :20] == 1)
    assert np.all(enlarged[:, 20:] == 5)


def test_depth_without_meaning_becomes_0_and_the_rest_is_scaled() -> None:
    depth = np.full(ENGINE, 2, np.float32)
    bad = [np.nan, np.inf, -np.inf, -1, 0, 0.2, 30]
    depth[0, : len(bad)] = bad
    made = view(size=ENGINE, outputs={"depth": depth}, depth_factor=1.5, depth_range_m=(0.5, 20.0))
    assert not np.any(made.depth[0, : len(bad)])
    assert np.all(made.depth[1:] == 3)
    unlimited = view(size=ENGINE, outputs={"depth": depth})
    assert list(unlimited.depth[0, : len(bad)]) == [0, 0, 0, 0, 0, np.float32(0.2), 30]


def test_the_borders_of_the_depth_range_belong_to_it() -> None:
    depth = np.full(ENGINE, 0.1, np.float32)
    depth[0] = 20
    made = view(size=ENGINE, outputs={"depth": depth}, depth_range_m=(0.1, 20.0))
    assert np.array_equal(made.depth, depth)


def test_class_ids_are_never_mixed() -> None:
    ids = np.zeros(ENGINE, np.uint8)
    ids[:, 8:] = 4
    made = view(size=(31, 45), outputs={"semantics": ids})
    assert set(np.unique(made.semantics)) == {0, 4}
    assert np.array_equal(made.colors, LABELS.palette[made.semantics])


def test_labels_and_colours_follow_the_table() -> None:
    lut = np.arange(256, dtype=np.uint8)[::-1].copy()
    palette = np.random.default_rng(1).integers(0, 256, (256, 3)).astype(np.uint8)
    made = view(label_lut=lut, palette=palette)
    assert np.all(made.semantics == 255 - 3)
    assert np.all(made.colors == palette[255 - 3])


def test_normals_stay_unit_vectors_and_their_picture_is_blue_towards_the_camera() -> None:
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(*ENGINE, 3)).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    assert np.allclose(np.linalg.norm(view(outputs={"normals": normals}).normals, axis=-1), 1, atol=1e-6)
    assert np.all(view().normals_picture == (128, 128, 255))


def test_crop_marks_what_the_engine_did_not_see() -> None:
    fit = Fit("crop", (30, 60), ENGINE)
    left, right = fit.used.left, fit.used.left + fit.used.width
    assert left > 5
    made = view(fit, (30, 60), unknown=4)
    for unseen in (np.s_[:, :left], np.s_[:, right:]):
        assert not made.depth[unseen].any() and not made.confidence[unseen].any()
        assert not made.normals[unseen].any() and not made.edges[unseen].any()
        assert np.all(made.semantics[unseen] == 4)
        assert np.all(made.colors[unseen] == LABELS.palette[4])
    assert np.all(made.depth[:, left:right] == 2) and np.all(made.semantics[:, left:right] == 3)


def test_letterbox_bars_are_cut_off_and_edges_land_where_they_were() -> None:
    fit = Fit("letterbox", (32, 80), (16, 16))
    top, height = fit.covered.top, fit.covered.height
    ids = np.full((16, 16), 1, np.uint8)
    ids[top : top + height] = 2
    ids[top : top + height, 8:] = 3
    made = View(
        Frame(np.zeros((32, 80, 3), np.uint8), 0, 0),
        Perception(
            np.ones((16, 16), np.float32),
            ids,
            ids,
            np.tile(np.array([0, 0, -1], np.float32), (16, 16, 1)),
            ids,
            LABELS,
        ),
        fit,
        (32, 80),
    )
    assert np.all(made.semantics[:, :40] == 2)
    assert np.all(made.semantics[:, 40:] == 3)


def test_the_image_is_passed_on_untouched_at_its_own_size_and_averaged_when_it_shrinks() -> None:
    made = view()
    assert made.rgb is made.frame.image
    small = view(size=(15, 20))
    blocks = small.frame.image.reshape(15, 2, 20, 2, 3).mean(axis=(1, 3))
    assert np.abs(small.rgb - blocks).max() <= 1
    assert small.camera is not None and small.camera.fx == 15
