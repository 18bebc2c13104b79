"""Pixels of ROS image messages, whoever read the message."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from m2h_runtime.decode import decode_rgb
from m2h_runtime.errors import SourceError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Buffer

_ENCODINGS: dict[str, tuple[int, int | None]] = {
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
    "8UC1": (1, cv2.COLOR_GRAY2RGB),
    "yuv422": (2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": (2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (2, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": (2, cv2.COLOR_YUV2RGB_YUY2),
    # ROS names the first four pixels in reading order, as OpenCV's newer names do.
    "bayer_rggb8": (1, cv2.COLOR_BayerRGGB2RGB),
    "bayer_bggr8": (1, cv2.COLOR_BayerBGGR2RGB),
    "bayer_gbrg8": (1, cv2.COLOR_BayerGBRG2RGB),
    "bayer_grbg8": (1, cv2.COLOR_BayerGRBG2RGB),
}
"""By ROS encoding: bytes per pixel and OpenCV's conversion to RGB."""


def to_rgb(encoding: str, height: int, width: int, step: int, data: Buffer) -> NDArray[np.uint8]:
    """The pixels of a sensor_msgs/Image.

    Args:
        encoding: as the message names it; 8 bits per channel.
        height: rows.
        width: columns.
        step: bytes from one row's start to the next one's; more than the pixels need is padding.
        data: the message's bytes.

    Returns:
        uint8 (H, W, 3) RGB, contiguous; a view of `data` where that is rgb8 without padding.

    Raises:
        SourceError: the encoding is not one of 8-bit colour or gray, or the data are fewer than promised.
    """
    if encoding not in _ENCODINGS:
        raise SourceError(
            f"image encoding {encoding!r}: is not 8-bit colour or gray; publish one of {', '.join(_ENCODINGS)}"
        )
    channels, conversion = _ENCODINGS[encoding]
    held = memoryview(data)
    have, row = held.nbytes, width * channels
    if min(height, width) < 1 or step < row or have < step * (height - 1) + row:
        raise SourceError(
            f"image message: {width}x{height} {encoding} with a step of {step} bytes does not fit its {have} bytes "
            "of data; look at the node that publishes it"
        )
    shape, strides = (height, width, channels), (step, channels, 1)
    pixels: NDArray[np.uint8] = np.ndarray(shape, np.uint8, held, strides=strides)
    if conversion is None:
        return np.ascontiguousarray(pixels)
    return _convert(pixels, conversion, encoding)


def _convert(pixels: NDArray[np.uint8], conversion: int, encoding: str) -> NDArray[np.uint8]:
    try:
        rgb: NDArray[np.uint8] = cv2.cvtColor(pixels, conversion)
    except cv2.error as error:  # 4:2:2 of an odd width, Bayer of one row
        height, width = pixels.shape[:2]
        raise SourceError(f"image message: {width}x{height} is no size for {encoding}") from error
    return rgb


def decode_compressed(data: Buffer) -> NDArray[np.uint8]:
    """The pixels of a sensor_msgs/CompressedImage, uint8 (H, W, 3) RGB; what they are is in the bytes themselves.

    Raises:
        SourceError: not a JPEG, PNG or other image that OpenCV reads, cut off, or not 8-bit colour or gray.
    """
    return decode_rgb(data, "compressed image message")
