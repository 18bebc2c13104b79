"""Which pixels can be fused: those of things that stand still, and of a surface rather than of a depth edge."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from m2h_runtime.view import AGREE

if TYPE_CHECKING:
    from numpy.typing import NDArray


STEP = AGREE**2 - 1
"""Neighbours on one surface differ by less than `AGREE`; this is the same across a pixel, in inverse depth."""
_TINY, _HUGE = 1e-3, 1e6
_AROUND = np.ones((3, 3), np.uint8)
_BESIDE = np.ones((5, 5), np.uint8)  # a network's depth changes some pixels beside a person already


class Solid(NamedTuple):
    """One frame's depth, judged.

    Attributes:
        depth: float32 (H, W), metres, > 0 and finite everywhere; 1 where there is none.
        inverse: float32 (H, W), 1 / `depth`.
        valid: uint8 (H, W), 255 where the frame has a depth.
        edge: uint8 (H, W), 255 on depth edges.
        usable: uint8 (H, W), 255 where depth and label can be fused.
    """

    depth: NDArray[np.float32]
    inverse: NDArray[np.float32]
    valid: NDArray[np.uint8]
    edge: NDArray[np.uint8]
    usable: NDArray[np.uint8]


def judge(depth: NDArray[np.float32], labels: NDArray[np.uint8], moving: NDArray[np.uint8]) -> Solid:
    """Look at one frame.

    Args:
        depth: float32 (H, W), metres; NaN, infinite and what is not positive is no depth.
        labels: uint8 (H, W).
        moving: of `label_space.moving_table`.
    """
    valid = cv2.inRange(depth, _TINY, _HUGE)  # NaN is in no range
    if cv2.countNonZero(valid) < valid.size:
        depth = cv2.copyTo(depth, valid, np.ones_like(depth))
    inverse = np.reciprocal(depth)
    edge = cv2.compare(
        cv2.subtract(cv2.dilate(inverse, _AROUND), cv2.erode(inverse, _AROUND)),
        cv2.multiply(inverse, STEP),
        cv2.CMP_GT,
    )
    usable = cv2.subtract(valid, edge)
    if moving.any():
        usable = cv2.subtract(usable, cv2.dilate(cv2.LUT(labels, moving), _BESIDE))
    return Solid(depth, inverse, valid, edge, usable)
