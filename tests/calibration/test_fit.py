from __future__ import annotations

import numpy as np
import pytest
from tiny_engine import picture

from m2h_runtime.calibration.camera import CameraModel
from m2h_runtime.calibration.fit import PADDING, POLICIES, Fit, stretched
from m2h_runtime.errors import InputError

SIZES = [((480, 640), (192, 256)), ((480, 848), (224, 224)), ((97, 131), (64, 96)), ((64, 96), (64, 96))]


def test_letterbox_keeps_the_aspect_and_pads_with_gray() -> None:
    fit = Fit("letterbox", (100, 200), (100, 100))
    assert fit.covered == (25, 0, 50, 100)
    image = fit.apply(np.full((100, 200, 3), 200, np.uint8))
    assert np.all(image[:25] == PADDING)
    assert np.all(image[75:] == PADDING)
    assert np.all(image[25:75] == 200)
    assert fit.inner(image).shape == (50, 100, 3)


def test_crop_keeps_the_aspect_and_the_middle() -> None:
    fit = Fit("crop", (100, 200), (50, 50))
    assert fit.used == (0, 50, 100, 100)
    image = picture(0, (100, 200))
    assert np.abs(fit.apply(image).astype(int) - stretched(image[:, 50:150], (50, 50))).max() == 0


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("camera", "engine"), SIZES)
def test_intrinsics_follow_the_pixels(policy: str, camera: tuple[int, int], engine: tuple[int, int]) -> None:
    """A bright spot of the camera's image is found where the engine's intrinsics project its ray."""
    fit = Fit(policy, camera, engine)  # type: ignore[arg-type]
    model = CameraModel(camera[1], camera[0], 500.0, 510.0, camera[1] / 2 - 3, camera[0] / 2 + 2)
    ray = np.array([(0.55 * camera[1] - model.cx) / model.fx, (0.45 * camera[0] - model.cy) / model.fy, 1])
    v, u = np.mgrid[: camera[0], : camera[1]]
    centre = model.matrix @ ray
    radius = 3 * max(camera[0] / engine[0], camera[1] / engine[1])
    spot = np.exp(-((u - centre[0]) ** 2 + (v - centre[1]) ** 2) / 2 / radius**2)
    image = np.repeat((255 * spot)[..., None], 3, axis=2).astype(np.uint8)
    seen = fit.apply(image)[..., 0].astype(float)
    seen[fit.apply(np.zeros_like(image))[..., 0] == PADDING] = 0
    rows, columns = np.mgrid[: engine[0], : engine[1]]
    found = np.array([(columns * seen).sum(), (rows * seen).sum()]) / seen.sum()
    expected = (fit.engine_camera(model).matrix @ ray)[:2]
    assert np.abs(found - expected).max() < 0.1


def test_halving_first_hardly_changes_what_is_averaged() -> None:
    image = picture(3, (480, 640))
    import cv2

    exact = cv2.resize(image, (256, 192), interpolation=cv2.INTER_AREA)
    assert np.abs(stretched(image, (192, 256)).astype(int) - exact).max() <= 3


def test_what_has_the_size_already_is_not_copied() -> None:
    image = picture(0)
    assert Fit("stretch", (64, 96), (64, 96)).apply(image) is image


def test_a_wrong_policy_is_named() -> None:
    with pytest.raises(InputError, match="fit 'zoom': there are stretch, letterbox, crop"):
        Fit("zoom", (1, 1), (1, 1))  # type: ignore[arg-type]
