"""JPEG, PNG and other encoded images to RGB."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from m2h_runtime.errors import SourceError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Buffer

_TO_RGB = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_TRAILER_BYTES = 1024
"""Some cameras write a few bytes of their own behind the end marker."""


def decode_rgb(data: Buffer, name: str) -> NDArray[np.uint8]:
    """An encoded 8-bit image as uint8 (H, W, 3) RGB, upright: gray is replicated, alpha is dropped.

    Args:
        data: the whole file.
        name: where it comes from, for the errors.

    Raises:
        SourceError: it is no image, is cut off, or is not 8-bit gray, colour or colour with alpha.
    """
    encoded = np.frombuffer(memoryview(data), np.uint8)
    if encoded[:2].tobytes() == _JPEG_START and not _is_whole_jpeg(encoded):
        # OpenCV would fill the rest with gray and say nothing.
        raise SourceError(f"{name}: not an image but the first part of a JPEG; its end is missing")
    # IMREAD_COLOR would squeeze 16 bits into 8 without a word, IMREAD_UNCHANGED ignores the EXIF orientation.
    image = cv2.imdecode(encoded, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR) if encoded.size else None
    if image is None:
        raise SourceError(f"{name}: not an image that OpenCV reads, or damaged; convert it to PNG or JPEG")
    channels = 1 if image.ndim == 2 else image.shape[2]
    if image.dtype != np.uint8 or channels not in _TO_RGB:
        raise SourceError(
            f"{name}: {image.dtype} {image.shape} is not an 8-bit gray or colour image; "
            "convert it to 8 bits with 1, 3 or 4 channels"
        )
    rgb: NDArray[np.uint8] = cv2.cvtColor(image, _TO_RGB[channels])
    return rgb


def _is_whole_jpeg(encoded: NDArray[np.uint8]) -> bool:
    """Whether the end marker is there; cameras pad with zeros."""
    return _JPEG_END in encoded.tobytes().rstrip(b"\0")[-_TRAILER_BYTES:]
