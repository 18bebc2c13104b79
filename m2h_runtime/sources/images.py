"""Photographs: the files that a glob pattern names, in order."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from m2h_runtime.errors import SourceError
from m2h_runtime.files import reason
from m2h_runtime.frame import Frame
from m2h_runtime.sources.base import EndOfStream, Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

NOMINAL_FPS = 10.0
"""Photographs carry no stamps that can be trusted; they are stamped as if taken at this rate."""


class ImagesSource(Source):
    """The image files that `pattern` names (`**` crosses folders), sorted by path.

    Raises:
        SourceError: no file fits the pattern.
    """

    live = False
    fps = NOMINAL_FPS

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        names = glob.glob(pattern, recursive=True)  # noqa: PTH207  # Path.glob takes no absolute pattern
        self.paths = sorted(Path(name) for name in names if Path(name).is_file())
        if not self.paths:
            raise SourceError(
                f"{pattern}: no image file fits this pattern; quote it so that the shell leaves it"
            )
        self._sequence = 0

    def read(self, timeout_s: float) -> Frame | None:  # noqa: ARG002  # a file is there or it is not
        """The next image; see `Source.read`. Never None."""
        if self._sequence == len(self.paths):
            raise EndOfStream
        index, path = self._sequence, self.paths[self._sequence]
        self._sequence += 1
        return Frame(read_rgb(path), round(index * 1e9 / NOMINAL_FPS), index, name=path.name)

    def describe(self) -> str:
        """Pattern and number of files."""
        return f"images {self.pattern}, {len(self.paths)} files"


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """An 8-bit image file as uint8 (H, W, 3) RGB, upright: gray is replicated, alpha is dropped.

    Raises:
        SourceError: the file cannot be read, is no image, or is not 8-bit gray, colour or colour with alpha.
    """
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({reason(error)})") from error
    # IMREAD_COLOR would squeeze 16 bits into 8 without a word, IMREAD_UNCHANGED ignores the EXIF orientation.
    image = cv2.imdecode(data, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR) if data.size else None
    if image is None:
        raise SourceError(f"{path}: not an image that OpenCV reads, or damaged; convert it to PNG or JPEG")
    channels = 1 if image.ndim == 2 else image.shape[2]
    if image.dtype != np.uint8 or channels not in _TO_RGB:
        raise SourceError(
            f"{path}: {image.dtype} {image.shape} is not an 8-bit gray or colour image; "
            "convert it to 8 bits with 1, 3 or 4 channels"
        )
    rgb: NDArray[np.uint8] = cv2.cvtColor(image, _TO_RGB[channels])
    return rgb


_TO_RGB = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}
