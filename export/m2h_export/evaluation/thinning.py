"""Thinning of a binary map to lines one pixel wide (Guo and Hall, two sub-iterations, to convergence).

The rule of Matlab's `bwmorph(..., 'thin', Inf)` and of `skimage.morphology.thin`, which give the same result; here
only the pixels that are still set are looked at, which makes a hundred thresholds of a boundary map affordable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Neighbours x1..x8: east, then counter-clockwise; (dy, dx). Bit i of a neighbourhood code is x_(i+1).
_NEIGHBOURS = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))


def _tables() -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """For each of the 256 neighbourhoods: is the pixel deleted in the first, and in the second sub-iteration."""
    x = (np.arange(256)[:, None] >> np.arange(8)) & 1 == 1
    x1, x2, x3, x4, x5, x6, x7, x8 = x.T
    # G1: one run of neighbours, so that deleting the pixel cuts nothing.
    odd, even, after = x[:, 0::2], x[:, 1::2], np.roll(x[:, 0::2], -1, axis=1)
    runs = (~odd & (even | after)).sum(axis=1)
    # G2: neither an end of a line nor inside.
    pairs_1 = (odd | even).sum(axis=1)
    pairs_2 = (even | after).sum(axis=1)
    fewest = np.minimum(pairs_1, pairs_2)
    border = (runs == 1) & (fewest >= 2) & (fewest <= 3)
    # G3: from one side in the first, from the other in the second sub-iteration.
    first = border & ~((x2 | x3 | ~x8) & x1)
    second = border & ~((x6 | x7 | ~x4) & x5)
    return first, second


_TABLES = _tables()


def thin(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The lines of `mask`, bool (H, W); what lies outside the picture counts as unset."""
    framed = np.pad(mask, 1)
    plane = framed.ravel().view(np.uint8)
    offsets = [dy * framed.shape[1] + dx for dy, dx in _NEIGHBOURS]
    pixels = np.flatnonzero(plane)
    changed = True
    while changed:
        changed = False
        for table in _TABLES:
            code = plane[pixels + offsets[0]].copy()
            for bit, offset in enumerate(offsets[1:], 1):
                code |= plane[pixels + offset] << bit
            deleted = table[code]
            if deleted.any():
                plane[pixels[deleted]] = 0
                pixels = pixels[~deleted]
                changed = True
    return framed[1:-1, 1:-1].copy()
