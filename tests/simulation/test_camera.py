"""Lens and sensor."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from m2h_runtime.simulation.pinhole import Pinhole
from m2h_runtime.simulation.sensor import Sensor

CAMERA = Pinhole.of_view(96, 64, 70.0)
PLAIN = Sensor(
    shutter_s=0.01,
    target=0.25,
    white=(1.0, 1.0, 1.0),
    vignetting=0.0,
    blur_px=0.4,
    read_noise=0.0,
    shot_noise=0.0,
    shoulder=1.0,
)


def expose(radiance: np.ndarray, sensor: Sensor = PLAIN, flow: np.ndarray | None = None) -> np.ndarray:
    return sensor.expose(radiance.astype(np.float32), CAMERA, np.random.default_rng(0), flow)


def gray(value: float) -> np.ndarray:
    return np.full((64, 96, 3), value, np.float32)


def checkers() -> np.ndarray:
    v, u = np.mgrid[0:64, 0:96]
    return np.where(((u // 4 + v // 4) % 2)[..., None] > 0, 0.6, 0.05) * np.ones(3)


def sharpness(image: np.ndarray) -> float:
    return float(cv2.Laplacian(image.astype(np.float32), cv2.CV_32F).var())


def test_field_of_view_reaches_from_edge_to_edge() -> None:
    """Of the outer edges of the outer pixels."""
    assert np.degrees(2 * np.arctan((96 / 2) / CAMERA.fx)) == pytest.approx(70)
    assert (CAMERA.cx, CAMERA.cy) == (47.5, 31.5)
    assert CAMERA.matrix.tolist() == [[CAMERA.fx, 0, 47.5], [0, CAMERA.fx, 31.5], [0, 0, 1]]


def test_rays_of_an_ideal_lens_by_hand() -> None:
    rays = CAMERA.rays.reshape(64, 96, 3)
    assert rays[10, 20] == pytest.approx([(20 - 47.5) / CAMERA.fx, (10 - 31.5) / CAMERA.fy, 1], abs=1e-6)


def test_rays_of_a_distorted_lens_project_to_their_pixels() -> None:
    distortion = (-0.12, 0.03, 0.0008, -0.0012)
    lens = Pinhole.of_view(96, 64, 70.0, distortion)
    assert np.abs(lens.rays - CAMERA.rays).max() > 0.01, "the lens bends"
    pixels, _ = cv2.projectPoints(
        lens.rays.astype(np.float64), np.zeros(3), np.zeros(3), lens.matrix, np.array(distortion)
    )
    v, u = np.mgrid[0:64, 0:96]
    assert np.abs(pixels.reshape(64, 96, 2) - np.stack([u, v], axis=-1)).max() < 0.01


def test_motion_blurs_and_rest_does_not() -> None:
    still = np.zeros((64, 96, 2), np.float32)
    moving = still + np.float32((6.0, 0.0))
    at_rest = expose(checkers())
    assert np.array_equal(expose(checkers(), flow=still), at_rest)
    assert sharpness(expose(checkers(), flow=moving)) < 0.5 * sharpness(at_rest)
    stripes = np.where((np.arange(64)[:, None, None] // 4 % 2) > 0, 0.6, 0.05) * np.ones((64, 96, 3))
    along = sharpness(expose(stripes, flow=moving)) / sharpness(expose(stripes))
    assert along == pytest.approx(1, abs=0.02), "a motion along the stripes leaves them sharp"


def test_exposure_evens_out_the_light() -> None:
    dim, normal, bright = (expose(gray(value)).mean() for value in (0.2, 0.5, 2.0))
    assert dim == pytest.approx(normal, rel=0.06)
    assert bright == pytest.approx(normal, rel=0.06)


def test_a_dark_room_stays_dark() -> None:
    assert expose(gray(0.001)).mean() < 0.6 * expose(gray(0.5)).mean()


def test_a_bright_window_darkens_the_rest() -> None:
    scene = gray(0.3)
    scene[:, 48:] = 3.0
    assert expose(scene)[:, :40].mean() < 0.8 * expose(gray(0.3)).mean()


def test_mean_gray_is_the_target_with_the_usual_gamma() -> None:
    """Its gain has 10 % of play: 0.9 to 1.1 of 0.25, to the power 1 / 2.2."""
    value = expose(gray(0.5)).mean() / 255
    assert (0.9 * 0.25 * 0.5 / 0.52) ** (1 / 2.2) <= value <= (1.1 * 0.25) ** (1 / 2.2)


def test_white_balance_vignetting_and_noise_do_what_they_say() -> None:
    red, _, blue = expose(gray(0.5), replace(PLAIN, white=(1.1, 1.0, 0.9))).mean(axis=(0, 1))
    assert red > blue + 5
    dark_corners = expose(gray(0.5), replace(PLAIN, vignetting=0.3))
    assert dark_corners[32, 48, 1] > dark_corners[0, 0, 1] + 10
    noisy = expose(gray(0.5), replace(PLAIN, shot_noise=0.02))
    assert noisy.std() > 2 * expose(gray(0.5)).std() + 0.5


def test_a_drawn_sensor_is_a_function_of_its_generator() -> None:
    assert Sensor.draw(np.random.default_rng(3)) == Sensor.draw(np.random.default_rng(3))
    assert Sensor.draw(np.random.default_rng(3)) != Sensor.draw(np.random.default_rng(4))
