"""Calibration boards: what they look like and where their corners are in an image."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import cv2
import numpy as np

from m2h_runtime.errors import InputError
from m2h_runtime.files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

Kind = Literal["chessboard", "charuco"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FEWEST_CORNERS = 8
"""Of a charuco board that is partly out of view; fewer say little about a lens."""
MARGIN_MM = 10.0
MM_PER_INCH = 25.4


class Corners(NamedTuple):
    """Corners of a board that were found in one image.

    Attributes:
        ids: int (N,), which of the board's corners.
        pixels: float64 (N, 2), where they are; pixel centres at integers.
    """

    ids: NDArray[np.intp]
    pixels: NDArray[np.float64]


@dataclass(frozen=True)
class Board:
    """A flat board of black and white squares.

    Attributes:
        kind: "charuco" has markers in its white squares, so that part of it is enough; "chessboard" must be whole.
        squares: columns and rows of squares, counted on paper; a chessboard of 10 x 7 squares has 9 x 6 corners.
        square_mm: side of a square.
        marker_mm: side of a marker; chessboards have none.
        dictionary: OpenCV's name of the markers' dictionary.
    """

    kind: Kind
    squares: tuple[int, int]
    square_mm: float = 30.0
    marker_mm: float = 22.0
    dictionary: str = "DICT_4X4_50"

    def __post_init__(self) -> None:
        """Check the board."""
        columns, rows = self.squares
        if self.kind not in KINDS:
            raise InputError(f"board {self.kind!r}: there are {', '.join(KINDS)}")
        if min(columns, rows) < 4 or max(columns, rows) > 50:
            raise InputError(f"board of {columns}x{rows} squares: give 4 to 50 on each side")
        if self.square_mm <= 0:
            raise InputError(
                f"board: squares of {self.square_mm:g} mm; give the side that you measure on paper"
            )
        if self.kind == "charuco":
            self._check_markers()

    def _check_markers(self) -> None:
        if not 0 < self.marker_mm < self.square_mm:
            raise InputError(
                f"board: markers of {self.marker_mm:g} mm do not fit into squares of {self.square_mm:g} mm"
            )
        known = [name for name in dir(cv2.aruco) if name.startswith("DICT_")]
        if self.dictionary not in known:
            raise InputError(f"board: no marker dictionary {self.dictionary!r}; there are {', '.join(known)}")
        needed, has = self.squares[0] * self.squares[1] // 2, len(self._dictionary.bytesList)
        if needed > has:
            raise InputError(f"board: needs {needed} markers, {self.dictionary} has {has}; take a larger one")

    @property
    def corners(self) -> tuple[int, int]:
        """Columns and rows of inner corners."""
        return self.squares[0] - 1, self.squares[1] - 1

    @property
    def points(self) -> NDArray[np.float64]:
        """Where the inner corners are, (N, 3) metres, in the order of their ids; z = 0."""
        columns, rows = self.corners
        grid = np.mgrid[1 : rows + 1, 1 : columns + 1][::-1].reshape(2, -1).T
        return np.column_stack([grid, np.zeros(len(grid))]) * (self.square_mm / 1000)

    def describe(self) -> str:
        """The board in a few words, as they are printed on it."""
        text = f"{self.kind} {self.squares[0]}x{self.squares[1]} squares of {self.square_mm:g} mm"
        return (
            f"{text}, markers of {self.marker_mm:g} mm, {self.dictionary}" if self.kind == "charuco" else text
        )

    def find(self, gray: NDArray[np.uint8]) -> Corners | None:
        """The board's corners in an image (H, W); None if it is not there, or too little of it."""
        return self._find_chessboard(gray) if self.kind == "chessboard" else self._find_charuco(gray)

    def _find_chessboard(self, gray: NDArray[np.uint8]) -> Corners | None:
        found, pixels = cv2.findChessboardCorners(
            gray,
            self.corners,
            flags=cv2.CALIB_CB_ADAPTIVE_THRESH | cv2.CALIB_CB_NORMALIZE_IMAGE | cv2.CALIB_CB_FAST_CHECK,
        )
        if not found:
            return None
        return Corners(np.arange(len(pixels)), _refined(gray, pixels, 0.4))

    def _find_charuco(self, gray: NDArray[np.uint8]) -> Corners | None:
        pixels, ids, _, _ = self._detector.detectBoard(gray)
        if ids is None or len(ids) < FEWEST_CORNERS or not _spans_area(self.points[ids.ravel()]):
            return None
        gap = (self.square_mm - self.marker_mm) / 2 / self.square_mm  # a wider window would see the markers
        return Corners(ids.ravel().astype(np.intp), _refined(gray, pixels, 0.75 * gap))

    @cached_property
    def _dictionary(self) -> Any:
        return cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, self.dictionary))

    @cached_property
    def _charuco(self) -> Any:
        return cv2.aruco.CharucoBoard(self.squares, self.square_mm, self.marker_mm, self._dictionary)

    @cached_property
    def _detector(self) -> Any:
        return cv2.aruco.CharucoDetector(self._charuco)

    def picture(self, pixels_per_square: int) -> NDArray[np.uint8]:
        """The squares alone, gray (rows * n, columns * n), n = `pixels_per_square`."""
        columns, rows = self.squares
        if self.kind == "charuco":
            size = (columns * pixels_per_square, rows * pixels_per_square)
            picture: NDArray[np.uint8] = self._charuco.generateImage(size)
            return picture
        white = np.add.outer(np.arange(rows), np.arange(columns)) % 2
        return np.kron(255 * white, np.ones((pixels_per_square, pixels_per_square))).astype(np.uint8)

    def print_to(self, path: Path, dpi: int) -> tuple[float, float]:
        """Write a PNG to print at its own size (it says its resolution); returns width and height in mm.

        Raises:
            InputError: the file cannot be written, or a square has too few pixels.
        """
        square, margin = (round(mm * dpi / MM_PER_INCH) for mm in (self.square_mm, MARGIN_MM))
        if square < 16:
            raise InputError(f"--dpi {dpi}: a square of {self.square_mm:g} mm has {square} pixels; give more")
        # What is drawn is what is printed: whole pixels, so the squares may be some hundredths of a mm off.
        page = cv2.copyMakeBorder(self.picture(square), *(margin,) * 4, cv2.BORDER_CONSTANT, value=255)
        self._label(page, margin)
        write_atomically(path, _png(page, dpi))
        return page.shape[1] * MM_PER_INCH / dpi, page.shape[0] * MM_PER_INCH / dpi

    def _label(self, page: NDArray[np.uint8], margin: int) -> None:
        scale = margin / 80
        at = (margin, page.shape[0] - margin // 4)
        cv2.putText(
            page, self.describe(), at, cv2.FONT_HERSHEY_SIMPLEX, scale, 0, max(1, margin // 50), cv2.LINE_AA
        )


def _refined(gray: NDArray[np.uint8], pixels: NDArray[np.float32], share: float) -> NDArray[np.float64]:
    """Corners (N, 2) to fractions of a pixel, from windows that reach `share` of the least distance between corners."""
    flat = pixels.reshape(-1, 2)
    distances = np.linalg.norm(flat[:, None] - flat, axis=2)
    half = int(np.clip(share * np.min(distances[distances > 0]), 2, 11))
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 40, 0.001)
    refined: NDArray[np.float32] = cv2.cornerSubPix(gray, pixels.copy(), (half, half), (-1, -1), stop)
    return refined.reshape(-1, 2).astype(np.float64)


def _spans_area(points: NDArray[np.float64]) -> bool:
    """The points are not on one line."""
    return bool(np.linalg.matrix_rank(points[:, :2] - points[:, :2].mean(axis=0), tol=1e-6) == 2)


def _png(image: NDArray[np.uint8], dpi: int) -> bytes:
    """A PNG with its resolution in it (chunk pHYs after the header's 33 bytes), so that it prints at its own size."""
    data = cv2.imencode(".png", image)[1].tobytes()
    body = b"pHYs" + struct.pack(">IIB", *(round(1000 * dpi / MM_PER_INCH),) * 2, 1)
    return (
        data[:33] + struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)) + data[33:]
    )
