"""What the network says about the distance of single points, where it can be believed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from m2h_runtime.label_space import moving_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_runtime.calibration.camera import CameraModel
    from m2h_runtime.perception import Perception

REACH = 2
"""The patch reaches so many pixels of the perception to each side."""
EDGE = 0.15
"""A patch whose depths differ by more, as a part of their median, lies on an edge,"""
LEAVE_OUT = 3
"""but for so many of the least and of the largest."""
FARTHEST_M = 12.0
_DOWN, _RIGHT = (part.reshape(1, -1) for part in np.mgrid[-REACH : REACH + 1, -REACH : REACH + 1])


class Look(NamedTuple):
    """What is seen at N points.

    Attributes:
        depths: float64 (N,), metres along the optical axis; NaN where nothing is to be believed: outside the
            perception, at a depth edge, far away, and on what moves.
        moving: bool (N,), on something that moves by itself.
    """

    depths: NDArray[np.float64]
    moving: NDArray[np.bool_]


def look_at(perception: Perception, camera: CameraModel, rays: NDArray[np.float64], factor: float) -> Look:
    """Look at points in a patch around each.

    Args:
        perception: of the frame.
        camera: intrinsics of the perception's pixels.
        rays: float64 (N, 2), x/z and y/z of the points in the frame's camera.
        factor: what the perception's depth is to be multiplied by.
    """
    height, width = perception.size
    x = np.rint(rays[:, 0] * camera.fx + camera.cx).astype(int)
    y = np.rint(rays[:, 1] * camera.fy + camera.cy).astype(int)
    inside = (x >= REACH) & (y >= REACH) & (x < width - REACH) & (y < height - REACH)
    x, y = np.where(inside, x, REACH)[:, None] + _RIGHT, np.where(inside, y, REACH)[:, None] + _DOWN
    patches = np.sort(perception.depth[y, x], axis=1).astype(np.float64) * factor
    middle = patches[:, patches.shape[1] // 2]
    spread = patches[:, -LEAVE_OUT - 1] - patches[:, LEAVE_OUT]
    moving = inside & moving_table(perception.label_space)[perception.semantics[y, x]].any(axis=1)
    good = inside & (spread <= EDGE * middle) & (middle > 0) & (middle < FARTHEST_M) & ~moving
    return Look(np.where(good, middle, np.nan), moving)
