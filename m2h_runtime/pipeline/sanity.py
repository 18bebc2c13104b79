"""Is this a perception at all? What a broken engine says, and no scene does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_runtime.perception import Perception

FLAT = 1e-6
"""A depth map whose span is below this part of its depth is no view of anything: not even of a wall."""
BLANK = 4.0
"""An image that varies less than this (of 255) shows nothing; about a covered lens, a flat depth is fair."""
ROOM = 1.01
"""The bounds of the engine's depth range may be left by so much: it computes in half precision."""


def nonsense(
    perception: Perception, image: NDArray[np.uint8], depth_range_m: tuple[float, float | None]
) -> str | None:
    """What is wrong with `perception`, in words that stay the same from frame to frame; None if nothing is.

    Args:
        perception: an engine's outputs.
        image: uint8 (H, W, 3), what it was given.
        depth_range_m: smallest and largest depth that the engine can give, from its manifest.
    """
    depth = perception.depth
    nearest, farthest = float(depth.min()), float(depth.max())
    smallest, largest = depth_range_m
    # NaN and Inf come through min, max and sum, so one pass each is enough.
    if not np.isfinite(nearest + farthest):
        return "the depth is not finite everywhere"
    if nearest <= 0:
        return "the depth is not positive everywhere"
    if farthest - nearest <= FLAT * farthest and image.std(axis=(0, 1)).max() > BLANK:
        return "the depth is the same everywhere"
    if nearest < smallest / ROOM or (largest is not None and farthest > largest * ROOM):
        return f"the depth leaves the engine's range of {smallest:g} to {largest or np.inf:g} m"
    if not np.isfinite(float(perception.normals.sum())):
        return "the normals are not finite everywhere"
    if int(perception.semantics.max()) >= len(perception.label_space.classes):
        return f"a class id is outside of the label space {perception.label_space.name}"
    return None
