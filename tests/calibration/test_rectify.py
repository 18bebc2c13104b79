"""Rectification: points land where the ideal camera says, and no pixel is made up."""

from __future__ import annotations

import itertools
from dataclasses import replace

import cv2
import numpy as np
import pytest

from m2h_runtime.calibration.camera import CameraModel
from m2h_runtime.calibration.rectify import Rectifier
from m2h_runtime.errors import ContractError, InputError

CAMERAS = {
    "euroc": CameraModel(
        752,
        480,
        458.654,
        457.296,
        367.215,
        248.375,
        "plumb_bob",
        (-0.28340811, 0.07395907, 0.00019359, 1.8e-05),
    ),
    "pincushion": CameraModel(640, 480, 615, 612, 310, 250, "plumb_bob", (0.1, -0.1, 0.001, 0.0, 0.0)),
    "rational": CameraModel(
        640, 360, 400, 402, 330, 170, "rational_polynomial", (0.3, 0.1, 1e-4, -1e-4, 0.01, 0.5, 0.2, 0.02)
    ),
    "fisheye": CameraModel(640, 480, 300, 301, 312, 244, "equidistant", (0.02, -0.01, 0.004, -0.001)),
}


def distorted(camera: CameraModel, points: np.ndarray) -> np.ndarray:
    """Pixels of points (N, 3) by the lens formulas themselves, written down here once more."""
    x, y = points[:, 0] / points[:, 2], points[:, 1] / points[:, 2]
    r2 = x * x + y * y
    if camera.distortion_model == "equidistant":
        theta = np.arctan(np.sqrt(r2))
        k1, k2, k3, k4 = camera.distortion
        bent = theta * (1 + k1 * theta**2 + k2 * theta**4 + k3 * theta**6 + k4 * theta**8)
        scale = bent / np.maximum(np.sqrt(r2), 1e-12)
        x, y = x * scale, y * scale
    else:
        k1, k2, p1, p2, k3, k4, k5, k6 = (*camera.distortion, 0, 0, 0, 0)[:8]
        radial = (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
        x, y = (
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        )
    return np.column_stack([camera.fx * x + camera.cx, camera.fy * y + camera.cy])


def spot(size: tuple[int, int], at: np.ndarray) -> np.ndarray:
    """A round bright spot around a pixel that need not be whole, RGB."""
    v, u = np.mgrid[0 : size[0], 0 : size[1]]
    gray = 250 * np.exp(-((u - at[0]) ** 2 + (v - at[1]) ** 2) / (2 * 2.5**2))
    return np.repeat(np.round(gray).astype(np.uint8)[..., None], 3, axis=2)


def centre(image: np.ndarray) -> np.ndarray:
    weight = image[..., 0].astype(np.float64)
    v, u = np.mgrid[0 : image.shape[0], 0 : image.shape[1]]
    return np.array([(u * weight).sum(), (v * weight).sum()]) / weight.sum()


@pytest.mark.parametrize("name", CAMERAS)
def test_known_points_land_where_the_ideal_camera_says(name: str) -> None:
    camera = CAMERAS[name]
    rectifier = Rectifier(camera)
    ideal = rectifier.camera
    assert ideal.ideal
    assert ideal.size == camera.size
    for u, v in [(0.5, 0.5), (0.2, 0.25), (0.8, 0.3), (0.3, 0.75), (0.7, 0.7)]:
        wanted = np.array([u * ideal.width, v * ideal.height])
        ray = np.linalg.inv(ideal.matrix) @ [*wanted, 1]
        taken = spot(camera.size, distorted(camera, 3 * ray[None])[0])
        found = centre(rectifier.apply(taken))
        assert found == pytest.approx(wanted, abs=0.1)


@pytest.mark.parametrize("name", CAMERAS)
def test_every_pixel_of_the_result_is_a_true_one_and_the_next_zoom_would_have_false_ones(name: str) -> None:
    camera = CAMERAS[name]
    white = np.full((*camera.size, 3), 255, np.uint8)
    rectifier = Rectifier(camera)
    assert rectifier.apply(white).min() == 255
    ideal = rectifier.camera
    wider = replace(ideal, fx=0.98 * ideal.fx, fy=0.98 * ideal.fy)
    v, u = np.mgrid[0 : ideal.height, 0 : ideal.width].reshape(2, -1)
    rays = np.column_stack([u, v, np.ones(u.size)]) @ np.linalg.inv(wider.matrix).T
    pixels = distorted(camera, rays)
    assert np.any((pixels < -0.01) | (pixels > np.array([camera.width, camera.height]) - 0.99))


@pytest.mark.parametrize("name", ["euroc", "pincushion"])
def test_with_alpha_1_the_corners_of_the_raw_image_are_still_there(name: str) -> None:
    camera = CAMERAS[name]
    rectifier = Rectifier(camera, alpha=1.0)
    for u, v in itertools.product((3, camera.width - 4), (3, camera.height - 4)):
        assert rectifier.apply(spot(camera.size, np.array([u, v]))).max() > 200
    assert rectifier.camera.fx < Rectifier(camera, 0.5).camera.fx < Rectifier(camera).camera.fx


def test_an_ideal_lens_costs_nothing() -> None:
    camera = CameraModel(64, 48, 50, 50, 31.5, 23.5, "plumb_bob", (0.0,) * 5)
    image = np.zeros((48, 64, 3), np.uint8)
    rectifier = Rectifier(camera)
    assert rectifier.apply(image) is image
    assert rectifier.camera is camera


def test_a_fisheye_without_coefficients_still_bends() -> None:
    """Its formula is r = f theta even then."""
    camera = CameraModel(320, 240, 150, 150, 160, 120, "equidistant", (0.0,) * 4)
    rectifier = Rectifier(camera)
    ray = np.linalg.inv(rectifier.camera.matrix) @ [110.0, 90.0, 1]
    found = centre(rectifier.apply(spot(camera.size, distorted(camera, ray[None])[0])))
    assert found == pytest.approx([110, 90], abs=0.1)


def test_the_fixed_point_maps_give_what_floating_point_ones_do() -> None:
    camera = CAMERAS["euroc"]
    rectifier = Rectifier(camera)
    image = cv2.GaussianBlur(
        np.random.default_rng(0).integers(0, 256, (*camera.size, 3), np.uint8), (0, 0), 2
    )
    exact = cv2.undistort(image, camera.matrix, np.array(camera.distortion), None, rectifier.camera.matrix)
    assert np.abs(rectifier.apply(image).astype(int) - exact).max() <= 2


def test_images_of_another_size_and_senseless_options_are_refused() -> None:
    with pytest.raises(ContractError, match=r"expected \(480, 752, 3\)"):
        Rectifier(CAMERAS["euroc"]).apply(np.zeros((480, 640, 3), np.uint8))
    with pytest.raises(InputError, match=r"alpha 1\.5 is outside"):
        Rectifier(CAMERAS["euroc"], alpha=1.5)
