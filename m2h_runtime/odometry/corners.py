"""Points that can be followed: the best corner of every cell of a grid that holds none yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

ACROSS = 16
"""Cells in a row of the grid; they are square."""
BLOCK = 5
LEAST = 1.5e-4
"""Smaller eigenvalue of a corner's gradients, as OpenCV scales them; noise of 4 gray values gives half of it."""
FOLLOWED, BEST_PX = 0.018, 0.4
"""A corner is followed to within the first, divided by the root of that eigenvalue, and never better than the second
(measured on simulated walks)."""
BORDER = 8
"""Pixels between a new corner and the picture's border."""
APART = 0.4
"""Of a cell's side, between a new corner and whatever is followed already."""


def corners(
    gray: NDArray[np.uint8], taken: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """New points of a picture (H, W), at most one for every cell.

    Args:
        gray: the picture.
        taken: float32 (M, 2), x and y of points that are followed already.

    Returns:
        float32 (N, 2), x and y; and float64 (N,), how well they can be followed, pixels.
    """
    side = max(1, gray.shape[1] // ACROSS)
    strength = cv2.cornerMinEigenVal(gray, BLOCK) * _free(gray.shape, taken, round(APART * side))
    rows, columns = gray.shape[0] // side, gray.shape[1] // side
    cells = strength[: rows * side, : columns * side].reshape(rows, side, columns, side)
    cells = cells.transpose(0, 2, 1, 3).reshape(rows * columns, side * side)
    row, column = np.divmod(np.arange(rows * columns), columns)
    down, right = np.divmod(cells.argmax(axis=1), side)
    pixels = np.column_stack((column * side + right, row * side + down)).astype(np.float32)
    strongest = cells.max(axis=1).astype(np.float64)
    good = (strongest > LEAST) & ~_held(rows, columns, taken / side)
    return pixels[good], np.maximum(BEST_PX, FOLLOWED / np.sqrt(strongest[good]))


def _free(shape: tuple[int, ...], taken: NDArray[np.float32], apart: int) -> NDArray[np.uint8]:
    """1 where a new point may be, uint8 (H, W)."""
    free = np.zeros(shape, np.uint8)
    free[BORDER:-BORDER, BORDER:-BORDER] = 1
    for x, y in np.rint(taken).astype(int).tolist():
        cv2.circle(free, (x, y), apart, 0, -1)
    return free


def _held(rows: int, columns: int, taken: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which cells have their point, bool (rows * columns,); `taken` (M, 2) in cells."""
    held = np.zeros((rows, columns), np.bool_)
    cells = np.minimum(taken.astype(int), (columns - 1, rows - 1))
    held[cells[:, 1], cells[:, 0]] = True
    return held.ravel()
