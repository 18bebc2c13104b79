"""Taking a lens's distortion out of images."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from m2h_runtime.arrays import check_array
from m2h_runtime.calibration.lens import project, unproject
from m2h_runtime.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_runtime.calibration.camera import CameraModel

COARSE = 1.02
"""Step of the search for the zoom; much finer than a lens's shape can hide anything in."""
ZOOMS = (1 / 16, 16.0)
WIDEST = np.tan(np.radians(80))
"""Rays further off the axis than 80 degrees have no useful place in a flat image."""


class Rectifier:
    """From a camera's raw images to those of an ideal pinhole of the same size, principal point and pixel shape.

    The maps are built once, in fixed point; `apply` may be called from one thread at a time.

    Args:
        camera: of the raw images.
        alpha: 0: every pixel of the result is a true one, the corners of the raw image are lost; 1: nothing is lost,
            and what no raw pixel shows is black; in between in proportion.

    Attributes:
        camera: of the rectified images.

    Raises:
        InputError: `alpha` is outside 0..1.
    """

    def __init__(self, camera: CameraModel, alpha: float = 0.0) -> None:
        if not 0 <= alpha <= 1:
            raise InputError(f"rectification: alpha {alpha:g} is outside 0..1")
        self._raw = camera
        self._maps: tuple[NDArray[np.int16], NDArray[np.uint16]] | None = None
        if camera.distortion_model != "equidistant" and camera.ideal:
            self.camera = camera
            return
        inner = _inner_zoom(camera)
        zoom = inner + alpha * (_outer_zoom(camera, inner) - inner)
        self.camera = _ideal(camera, zoom)
        self._maps = _maps(camera, self.camera)

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The raw image (H, W, 3) without distortion; the very same array if the lens has none.

        Raises:
            ContractError: it is not uint8 of the camera's size.
        """
        check_array("raw image", image, np.uint8, (*self._raw.size, 3))
        if self._maps is None:
            return image
        rectified: NDArray[np.uint8] = cv2.remap(image, *self._maps, cv2.INTER_LINEAR)
        return rectified


def _ideal(camera: CameraModel, zoom: float) -> CameraModel:
    return replace(camera, fx=camera.fx * zoom, fy=camera.fy * zoom, distortion_model="none", distortion=())


def _maps(raw: CameraModel, ideal: CameraModel) -> tuple[NDArray[np.int16], NDArray[np.uint16]]:
    build = (
        cv2.fisheye.initUndistortRectifyMap
        if raw.distortion_model == "equidistant"
        else cv2.initUndistortRectifyMap
    )
    maps: tuple[NDArray[np.int16], NDArray[np.uint16]] = build(
        raw.matrix,
        np.array(raw.distortion),
        np.eye(3),
        ideal.matrix,
        (raw.width, raw.height),
        cv2.CV_16SC2,
    )
    return maps


def _inner_zoom(camera: CameraModel) -> float:
    """The smallest focal length, in units of the raw one, at which all of the result is inside the raw image.

    Found by zooming out step by step: far outside its view a lens polynomial folds back into the image, so the first
    zoom that fails ends the search.
    """
    zoom = ZOOMS[1]
    while zoom > ZOOMS[0] and _is_inside(camera, zoom / COARSE):
        zoom /= COARSE
    low, high = zoom / COARSE, zoom
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (low, middle) if _is_inside(camera, middle) else (middle, high)
    return high


def _is_inside(camera: CameraModel, zoom: float) -> bool:
    """Every pixel on the border of the result comes from inside the raw image."""
    ideal = _ideal(camera, zoom)
    border = _border(camera)
    rays = (border - (ideal.cx, ideal.cy)) / (ideal.fx, ideal.fy)
    pixels = project(camera, np.column_stack([rays, np.ones(len(rays))]))
    return bool(np.all((pixels >= 0) & (pixels <= (camera.width - 1, camera.height - 1))))


def _outer_zoom(camera: CameraModel, inner: float) -> float:
    """The zoom at which all of the raw image, but for rays beyond `WIDEST`, is inside the result."""
    rays = unproject(camera, _border(camera))
    reach = np.abs(rays)
    seen = np.where(reach < WIDEST, reach, WIDEST) * (camera.fx, camera.fy)
    room = np.where(
        rays < 0, (camera.cx, camera.cy), (camera.width - 1 - camera.cx, camera.height - 1 - camera.cy)
    )
    return min(inner, float(np.min(room / np.maximum(seen, 1e-9))))


def _border(camera: CameraModel) -> NDArray[np.float64]:
    """The pixels on the border of an image, (N, 2)."""
    u, v = np.arange(camera.width, dtype=np.float64), np.arange(camera.height, dtype=np.float64)
    right, bottom = camera.width - 1.0, camera.height - 1.0
    sides = (
        np.column_stack([u, np.zeros_like(u)]),
        np.column_stack([u, np.full_like(u, bottom)]),
        np.column_stack([np.zeros_like(v), v]),
        np.column_stack([np.full_like(v, right), v]),
    )
    return np.concatenate(sides)
