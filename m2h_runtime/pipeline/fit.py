"""Bring a camera image to the engine's size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def fit(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """`image` stretched to `size` = (H, W); the very same array if it has that size.

    This is the manifest's resize policy "stretch": the aspect ratio is not kept, nothing is cut or padded.
    Averages over areas where either side shrinks, interpolates linearly otherwise.
    """
    height, width = size
    if image.shape[:2] == size:
        return image
    shrinks = height < image.shape[0] or width < image.shape[1]
    fitted: NDArray[np.uint8] = cv2.resize(
        image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    return fitted
