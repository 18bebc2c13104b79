"""Where points of one picture are in the next one: pyramidal Lucas-Kanade, there and back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

WINDOW = (15, 15)
MOST_LEVELS = 3
REACH_PX = 4.0
"""How wrong a guess may be for a picture at its full size; each level of the pyramid doubles that. No more levels than
needed: on a wall with little texture a coarse level leads astray."""
STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 12, 0.02)
RETURN_PX = 0.5
"""A point that does not come back to within so much was followed wrongly."""


def follow(
    before: NDArray[np.uint8],
    now: NDArray[np.uint8],
    pixels: NDArray[np.float32],
    guess: NDArray[np.float32],
    wrong_px: float,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Where `pixels` of the picture `before` are `now`; both are uint8 (H, W).

    Args:
        before: the earlier picture.
        now: the later one.
        pixels: float32 (N, 2), x and y.
        guess: float32 (N, 2), where they are expected.
        wrong_px: how far from there they may be.

    Returns:
        float32 (N, 2), and bool (N,): found.
    """
    levels = min(MOST_LEVELS, max(0, math.ceil(math.log2(wrong_px / REACH_PX))))
    there, found, _ = _flow(before, now, pixels, guess, levels)
    back, returned, _ = _flow(now, before, there, pixels, 0)
    inside = (there >= 0).all(axis=1) & (there <= (now.shape[1] - 1, now.shape[0] - 1)).all(axis=1)
    same = np.abs(back - pixels).max(axis=1) < RETURN_PX
    return there, (found[:, 0] > 0) & (returned[:, 0] > 0) & inside & same


def _flow(
    before: NDArray[np.uint8],
    now: NDArray[np.uint8],
    pixels: NDArray[np.float32],
    guess: NDArray[np.float32],
    levels: int,
) -> Any:
    return cv2.calcOpticalFlowPyrLK(
        before,
        now,
        pixels,
        guess.copy(),
        winSize=WINDOW,
        maxLevel=levels,
        criteria=STOP,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )
