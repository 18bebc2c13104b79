"""The pictures that parity is measured on."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from m2h_runtime.calibration.fit import stretched
from m2h_runtime.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# scikit-image carries these in its wheel; the grey ones are used as grey RGB.
_SHIPPED = (
    "motorcycle_left.png",
    "motorcycle_right.png",
    "coffee.png",
    "chelsea.png",
    "astronaut.png",
    "rocket.jpg",
    "camera.png",
    "coins.png",
)


def photographs(size: tuple[int, int], pattern: str | None) -> list[NDArray[np.uint8]]:
    """Photographs as uint8 (H, W, 3) RGB at `size`: those matching `pattern`, else eight from scikit-image.

    Raises:
        InputError: nothing matches, a file is not a picture, or scikit-image is missing.
    """
    if pattern is None:
        paths = _shipped()
    else:
        paths = [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207 (absolute patterns)
        if not paths:
            raise InputError(
                f"{pattern}: no file matches; --images takes a quoted pattern such as 'photos/*.jpg'"
            )
    return [stretched(_read(path), size) for path in paths]


def _shipped() -> list[Path]:
    try:
        import skimage
    except ImportError as error:
        raise InputError(
            "no photographs for the parity check: pip install scikit-image, or name your own with --images"
        ) from error
    folder = Path(skimage.__file__).parent / "data"
    return [folder / name for name in _SHIPPED]


def _read(path: Path) -> NDArray[np.uint8]:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise InputError(f"{path}: not a picture that OpenCV reads; take it out of --images")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


PLANE_M = 2.0
"""How far away a photograph is held when it is looked at from elsewhere."""


def camera_of(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Fx, fy, cx, cy that a photograph (H, W, 3) is said to be taken with: about 53 degrees wide."""
    height, width = image.shape[:2]
    return np.array((width, width, (width - 1) / 2, (height - 1) / 2), np.float32)


def moved_cameras(count: int) -> NDArray[np.float32]:
    """Poses `neighbour_from_camera` of cameras a little beside, float32 (count, 3, 4), metres: turned and shifted."""
    poses = []
    for side in range(count):
        sign = 1 - 2 * (side % 2)
        turned, _ = cv2.Rodrigues(np.array((0.01, -0.02 * sign, 0.015)))
        poses.append(np.column_stack([turned, (0.10 * sign, 0.02, 0.03)]))
    return np.array(poses, np.float32)


def seen_from(
    image: NDArray[np.uint8], pose: NDArray[np.float32], camera: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """A photograph as the neighbour sees it, if it hangs `PLANE_M` in front of its own camera; what is new is mirrored.

    Args:
        image: uint8 (H, W, 3).
        pose: `neighbour_from_camera` (3, 4), metres.
        camera: fx, fy, cx, cy of both cameras.
    """
    fx, fy, cx, cy = camera.astype(np.float64)
    matrix = np.array(((fx, 0, cx), (0, fy, cy), (0, 0, 1)))
    plane = pose[:, :3] + np.outer(pose[:, 3], (0, 0, 1)) / PLANE_M
    size = (image.shape[1], image.shape[0])
    moved = cv2.warpPerspective(
        image, matrix @ plane @ np.linalg.inv(matrix), size, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.asarray(moved, np.uint8)
