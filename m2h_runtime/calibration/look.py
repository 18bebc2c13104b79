"""Looking for the board in a recording."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import cv2

from m2h_runtime.calibration.views import View, see
from m2h_runtime.errors import CalibrationError
from m2h_runtime.sources.base import EndOfStream, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from m2h_runtime.calibration.board import Board
    from m2h_runtime.frame import Frame


@dataclass
class Search:
    """What was found so far.

    Attributes:
        size: (H, W) of the images; (0, 0) before the first.
        images: how many were read.
        views: those in which the board was found.
    """

    size: tuple[int, int] = (0, 0)
    images: int = 0
    views: list[View] = field(default_factory=list)


def look(
    source: Source, board: Board, window_s: float, on_image: Callable[[Search], None] = lambda _: None
) -> Search:
    """Look for the board in a recording, in the sharpest image of every `window_s` seconds; 0: in every image.

    `on_image` is called after each image.

    Raises:
        CalibrationError: the images have different sizes.
        SourceError: one cannot be read.
    """
    search = Search()
    best: tuple[float, str, NDArray[np.uint8]] | None = None
    ends_ns = 0
    for frame in _frames(source):
        _check_size(search, frame)
        if best is not None and frame.stamp_ns >= ends_ns:
            _see(search, board, best)
            best = None
        if best is None:
            ends_ns = frame.stamp_ns + round(1e9 * window_s)
        gray = cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY)
        candidate = (_sharpness(gray), frame.name or f"{frame.stamp_ns / 1e9:.2f} s", gray)
        best = candidate if best is None or candidate[0] > best[0] else best
        on_image(search)
    if best is not None:
        _see(search, board, best)
    return search


def _frames(source: Source) -> Iterator[Frame]:
    while True:
        try:
            frame = source.read(1.0)
        except EndOfStream:
            return
        if frame is not None:
            yield frame


def _check_size(search: Search, frame: Frame) -> None:
    size = (frame.image.shape[0], frame.image.shape[1])
    if search.images and size != search.size:
        raise CalibrationError(
            f"{frame.name}: is {size[1]}x{size[0]}, the images before are {search.size[1]}x{search.size[0]}; "
            "calibrate with images of one size, the one that you will run with"
        )
    search.size = size
    search.images += 1


def _see(search: Search, board: Board, image: tuple[float, str, NDArray[np.uint8]]) -> None:
    view = see(board, image[2], image[1])
    if view is not None:
        search.views.append(view)


def _sharpness(gray: NDArray[np.uint8]) -> float:
    """Of the whole image; compares images that were taken shortly after each other."""
    half = cv2.resize(gray, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(half, cv2.CV_16S).var())
