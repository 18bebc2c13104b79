"""Which label a voxel has, in little memory: the frequent-items count of Misra and Gries, many voxels at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEPT = 3
"""Labels that a voxel remembers: one that has more than 1 / (KEPT + 1) of all votes is always among them."""
NO_LABEL = 255
LEAST_VOTES = 2
"""One look alone names nothing: what a network says once, in passing or from afar, is often wrong."""
MOST_VOTES = 60000


def vote(
    labels: NDArray[np.uint8], counts: NDArray[np.uint16], rows: NDArray[np.int64], said: NDArray[np.uint8]
) -> None:
    """Give one vote each to some voxels, in place.

    Args:
        labels: uint8 (N, KEPT), labels that each voxel remembers.
        counts: uint16 (N, KEPT), their votes; 0: the place is free.
        rows: int (M,), the voxels, each once.
        said: uint8 (M,), what is said of them.
    """
    kept, votes = labels[rows], counts[rows]
    hit = (kept == said[:, None]) & (votes > 0)
    known = hit.any(axis=1)
    free = votes == 0
    room = free.any(axis=1) & ~known
    slot = np.where(known, hit.argmax(axis=1), free.argmax(axis=1))
    takes = np.flatnonzero(known | room)
    kept[takes, slot[takes]] = said[takes]
    votes[takes, slot[takes]] += votes[takes, slot[takes]] < MOST_VOTES
    votes[~(known | room)] -= 1
    labels[rows], counts[rows] = kept, votes


def winners(labels: NDArray[np.uint8], counts: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """The label of each voxel, uint8 (N,); `NO_LABEL` where none has `LEAST_VOTES`."""
    best = counts.argmax(axis=1)[:, None]
    named = np.take_along_axis(labels, best, axis=1)[:, 0]
    votes = np.take_along_axis(counts, best, axis=1)[:, 0]
    return np.where(votes >= LEAST_VOTES, named, np.uint8(NO_LABEL))
