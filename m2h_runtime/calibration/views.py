"""Views of a calibration board, and which of them to calibrate with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from m2h_runtime.calibration.board import Board, Corners

MOST_VIEWS = 60
SHARP_SHARE = 0.5
"""A view that is less than so sharp, in units of the median view, is left out."""
NEAR = 0.04
"""Two views nearer to each other than this (see `View.pose`) are as good as one."""
GRID = (6, 8)
"""Rows and columns of the cells in which coverage is counted."""
_PATCH = 4
"""Sharpness is measured so many pixels around each corner."""


@dataclass(frozen=True)
class View:
    """One image with the board in it.

    Attributes:
        name: of the image, for the report.
        corners: what was found.
        sharpness: steepest edge at the corners, in the duller of the two directions, per pixel and in units of the
            local contrast: 0.5 is a perfect edge.
        pose: float64 (5,), where the board is: centre (x, y) and size in units of the image, and the sideways and
            upward component of its normal.
    """

    name: str
    corners: Corners
    sharpness: float
    pose: NDArray[np.float64]

    @property
    def tilt_deg(self) -> float:
        """Angle between the board's normal and the optical axis, degrees."""
        return float(np.degrees(np.arcsin(min(1.0, np.hypot(*self.pose[3:])))))


def see(board: Board, gray: NDArray[np.uint8], name: str) -> View | None:
    """The board in an image (H, W); None if it is not there."""
    corners = board.find(gray)
    if corners is None:
        return None
    return View(name, corners, _sharpness(gray, corners.pixels), _pose(board, corners, gray.shape[:2]))


def choose(views: Sequence[View], most: int = MOST_VIEWS) -> list[View]:
    """Up to `most` sharp views that differ as much as possible in place, distance and tilt, in their first order.

    Begins with the view of most corners and adds again and again the view that is farthest from all chosen ones.
    """
    if not views:
        return []
    least = SHARP_SHARE * float(np.median([view.sharpness for view in views]))
    sharp = [view for view in views if view.sharpness >= least]
    poses = np.array([view.pose for view in sharp])
    chosen = [int(np.argmax([len(view.corners.ids) for view in sharp]))]
    distance = np.linalg.norm(poses - poses[chosen[0]], axis=1)
    while len(chosen) < most and distance.max() > NEAR:
        chosen.append(int(np.argmax(distance)))
        distance = np.minimum(distance, np.linalg.norm(poses - poses[chosen[-1]], axis=1))
    return [sharp[index] for index in sorted(chosen)]


def coverage(views: Sequence[View], size: tuple[int, int]) -> NDArray[np.intp]:
    """Corners by cell of the image of `size` = (H, W), (6, 8)."""
    counts = np.zeros(GRID, np.intp)
    for view in views:
        cells = (view.corners.pixels[:, ::-1] / size * GRID).astype(int)
        np.add.at(counts, tuple(np.clip(cells, 0, np.array(GRID) - 1).T), 1)
    return counts


def _sharpness(gray: NDArray[np.uint8], pixels: NDArray[np.float64]) -> float:
    rises = []
    for u, v in np.round(pixels).astype(int):
        patch = gray[max(0, v - _PATCH) : v + _PATCH + 1, max(0, u - _PATCH) : u + _PATCH + 1].astype(
            np.float32
        )
        down, right = np.gradient(patch)
        # Motion blurs in one direction: the duller one counts.
        steepest = min(float(np.abs(down).max()), float(np.abs(right).max()))
        rises.append(steepest / max(float(np.ptp(patch)), 1.0))
    return float(np.median(rises))


def _pose(board: Board, corners: Corners, size: tuple[int, int]) -> NDArray[np.float64]:
    """Through a lens of middling width: what tells views apart need not be exact."""
    height, width = size
    guess = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]])
    points = board.points[corners.ids]
    _, rotation, _ = cv2.solvePnP(points, corners.pixels, guess, None, flags=cv2.SOLVEPNP_IPPE)
    normal = cv2.Rodrigues(rotation)[0][:, 2]
    centre = corners.pixels.mean(axis=0) / (width, height)
    spread = np.hypot(*(corners.pixels.std(axis=0) / width)) / np.hypot(*points[:, :2].std(axis=0))
    extent = spread * np.hypot(*board.points[:, :2].std(axis=0))  # of the whole board, seen or not
    return np.array([*centre, 2 * extent, *normal[:2]])
