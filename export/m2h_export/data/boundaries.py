"""Semantic boundaries from a label map, by the rule of the boundary benchmarks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from m2h_export.data.sample import IGNORE

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NEIGHBOURS = ((0, 1), (1, 0), (1, 1))  # right, lower, lower right, as (rows, columns)


def semantic_boundaries(labels: NDArray[Any], ignore: int | None = IGNORE) -> NDArray[np.uint8]:
    """Mark the pixels that differ from their right, lower or lower-right neighbour.

    The last row is compared with the right only, the last column with the lower only, the last corner with
    nothing. This is the half-pixel (up-left) boundary that the SEISM evaluation derives from a label map, before
    its thinning.

    Args:
        labels: (H, W) integers.
        ignore: label without truth: a pair with it says nothing. A pixel with no differing pair, and with itself
            or one of its neighbours ignored, is `IGNORE`. None makes every value a class.

    Returns:
        (H, W) uint8, 1 on a boundary, 0 off it, `IGNORE` where unknown.
    """
    height, width = labels.shape
    edge = np.zeros((height, width), bool)
    unknown = np.zeros((height, width), bool) if ignore is None else labels == ignore
    hidden = unknown.copy()
    for down, right in _NEIGHBOURS:
        here = np.s_[: height - down, : width - right]
        there = np.s_[down:, right:]
        blind = hidden[here] | hidden[there]
        edge[here] |= (labels[here] != labels[there]) & ~blind
        unknown[here] |= blind
    return np.where(edge, 1, np.where(unknown, IGNORE, 0)).astype(np.uint8)
