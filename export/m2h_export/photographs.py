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
