"""Photographs: the files that a glob pattern names, in order."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import TYPE_CHECKING

from m2h_runtime.decode import decode_rgb
from m2h_runtime.errors import SourceError
from m2h_runtime.files import reason
from m2h_runtime.frame import Frame
from m2h_runtime.sources.base import EndOfStream
from m2h_runtime.sources.recording import Recording

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NOMINAL_FPS = 10.0
"""Photographs carry no stamps that can be trusted; they are stamped as if taken at this rate."""


class ImagesSource(Recording):
    """The image files that `pattern` names (`**` crosses folders), sorted by path.

    Raises:
        SourceError: no file fits the pattern.
    """

    fps = NOMINAL_FPS

    def __init__(self, pattern: str) -> None:
        super().__init__()
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
        stamp_ns = round(index * 1e9 / NOMINAL_FPS) + self.shift_ns
        return Frame(read_rgb(path), stamp_ns, index, name=path.name)

    def describe(self) -> str:
        """Pattern and number of files."""
        return f"images {self.pattern}, {len(self.paths)} files"


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """An 8-bit image file as uint8 (H, W, 3) RGB, upright: gray is replicated, alpha is dropped.

    Raises:
        SourceError: the file cannot be read, is no image, is cut off, or is not of 8 bits.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({reason(error)})") from error
    return decode_rgb(data, str(path))
