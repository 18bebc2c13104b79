from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from tiny_engine import picture

from m2h_runtime.calibration.calibration import Calibration
from m2h_runtime.calibration.camera import CameraModel
from m2h_runtime.engine.manifest import read_manifest
from m2h_runtime.errors import CalibrationError
from m2h_runtime.frame import Frame
from m2h_runtime.pipeline.prepare import Preparation

if TYPE_CHECKING:
    from pathlib import Path

    from m2h_runtime.engine.manifest import Manifest

PINHOLE = CameraModel(160, 120, 140.0, 140.0, 79.5, 59.5)
BARREL = replace(PINHOLE, distortion_model="plumb_bob", distortion=(-0.3, 0.1, 0.0, 0.0, 0.0))


@pytest.fixture
def manifest(tiny_engine: Path) -> Manifest:
    return read_manifest(tiny_engine)


def frame(camera: CameraModel | None = None, size: tuple[int, int] = (120, 160)) -> Frame:
    return Frame(picture(1, size), 1, 0, "cam", camera=camera)


def test_a_frame_without_anything_known_is_only_resized(manifest: Manifest) -> None:
    given = frame()
    ready = Preparation(manifest)(given)
    assert ready.frame is given
    assert ready.image.shape == (64, 96, 3)
    assert ready.depth_factor == 1.0
    assert ready.fit.policy == "stretch"


def test_a_calibration_rectifies_and_names_the_camera(manifest: Manifest) -> None:
    calibration = Calibration(BARREL, frame_id="front_optical", depth_scale=0.5)
    ready = Preparation(manifest, calibration=calibration)(frame())
    assert ready.frame.frame_id == "front_optical"
    assert ready.frame.camera is not None
    assert ready.frame.camera.ideal
    maps = cv2.initUndistortRectifyMap(
        BARREL.matrix, np.array(BARREL.distortion), None, ready.frame.camera.matrix, (160, 120), cv2.CV_32FC1
    )
    right = cv2.remap(frame().image, *maps, cv2.INTER_LINEAR)
    inner = np.s_[4:-4, 4:-4]
    assert np.abs(ready.frame.image[inner].astype(int) - right[inner]).max() <= 3
    assert ready.depth_factor == 0.5


def test_what_a_source_says_is_passed_on_and_rectified_only_if_asked(manifest: Manifest) -> None:
    left = Preparation(manifest)(frame(BARREL)).frame
    assert left.camera == BARREL
    np.testing.assert_array_equal(left.image, frame().image)
    done = Preparation(manifest, rectify=True)(frame(BARREL)).frame
    assert done.camera is not None
    assert done.camera.ideal


def test_depth_is_corrected_for_another_lens(manifest: Manifest) -> None:
    """Through twice the focal length things look twice as large, and a network says half the distance."""
    trained = replace(manifest, focal_px=42.0)
    assert PINHOLE.resized((64, 96)).fx == 84.0
    assert Preparation(trained)(frame(PINHOLE)).depth_factor == pytest.approx(2.0)
    assert Preparation(trained)(frame()).depth_factor == 1.0, "unknown lens: nothing to correct by"
    assert Preparation(manifest)(frame(PINHOLE)).depth_factor == 1.0, "unknown training: neither"


def test_a_crop_sees_less_and_so_its_focal_length_in_pixels_grows(manifest: Manifest) -> None:
    trained = replace(manifest, focal_px=84.0)
    wide = CameraModel(320, 120, 140.0, 140.0, 159.5, 59.5)
    crop = Preparation(trained, "crop")(frame(wide, (120, 320)))
    assert crop.fit.used.width == 180
    assert crop.depth_factor == pytest.approx(140 * 96 / 180 / 84)


def test_a_calibration_for_another_shape_is_refused(manifest: Manifest) -> None:
    prepare = Preparation(manifest, calibration=Calibration(PINHOLE))
    with pytest.raises(CalibrationError, match="160x120"):
        prepare(frame(size=(100, 160)))


def test_a_camera_that_changes_its_size_is_followed(manifest: Manifest) -> None:
    prepare = Preparation(manifest)
    assert prepare(frame()).fit.camera == (120, 160)
    assert prepare(frame(size=(240, 320))).fit.camera == (240, 320)
