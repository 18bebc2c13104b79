"""The focal length correction, on a network that measures depth by the size of things in pixels."""

from __future__ import annotations

import pytest

from m2h_runtime.calibration.camera import CameraModel
from m2h_runtime.calibration.depth import depth_factor
from m2h_runtime.calibration.fit import Fit

TRAINED = CameraModel(640, 480, 518.0, 519.0, 325.6, 253.7)  # as the training set's camera
ENGINE = (224, 224)


def network_says(depth_m: float, engine_camera: CameraModel) -> float:
    """It knows a thing of 1 m x 1 m, and how many pixels that covers at which depth through its training camera."""
    pixels = (engine_camera.fx / depth_m) * (engine_camera.fy / depth_m)
    learned = TRAINED.resized(ENGINE)
    return float((learned.fx * learned.fy / pixels) ** 0.5)


@pytest.mark.parametrize("policy", ["stretch", "letterbox", "crop"])
@pytest.mark.parametrize("focal", [300.0, 518.0, 1400.0])
def test_depth_is_right_through_any_camera_and_fit(policy: str, focal: float) -> None:
    camera = CameraModel(1280, 720, focal, focal, 639.5, 359.5)
    engine_camera = Fit(policy, camera.size, ENGINE).engine_camera(camera)  # type: ignore[arg-type]
    said = network_says(4.0, engine_camera)
    assert depth_factor(1.0, TRAINED, engine_camera) * said == pytest.approx(4.0)


def test_a_longer_lens_makes_depth_longer() -> None:
    """Twice the focal length makes everything twice as large, which looks half as far."""
    engine_camera = CameraModel(224, 224, 400, 600, 111.5, 111.5)
    assert depth_factor(1.0, 200.0, engine_camera) == pytest.approx(2.0)
    assert depth_factor(0.967, 200.0, engine_camera) == pytest.approx(2 * 0.967)


def test_without_a_training_camera_only_the_measured_scale_counts() -> None:
    assert depth_factor(0.967, None, CameraModel(224, 224, 400, 400, 111.5, 111.5)) == 0.967


def test_the_training_camera_itself_needs_no_correction() -> None:
    fit = Fit("stretch", TRAINED.size, ENGINE)
    assert depth_factor(1.0, TRAINED, fit.engine_camera(TRAINED)) == pytest.approx(1.0)
