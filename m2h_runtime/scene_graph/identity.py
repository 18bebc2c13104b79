"""Numbers that stay with a node from one update of the graph to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Identities:
    """Gives ids, counting from 0; an id is never given to something else."""

    def __init__(self) -> None:
        self._next = 0

    def assign(self, likeness: NDArray[np.float64], before: NDArray[np.int64]) -> NDArray[np.int64]:
        """Ids for N nodes of which some were there before.

        Args:
            likeness: float64 (N, M), how much each is like each of the M nodes before; 0 or less: not the same.
            before: int (M,), the ids of those.

        Returns:
            int (N,): the most alike pairs keep their id, the others get new ones.
        """
        ids = np.full(len(likeness), -1, np.int64)
        left = np.array(likeness)
        while left.size and left.max() > 0:
            node, old = np.unravel_index(int(left.argmax()), left.shape)
            ids[node] = before[old]
            left[node], left[:, old] = 0, 0
        new = np.flatnonzero(ids < 0)
        ids[new] = np.arange(self._next, self._next + len(new))
        self._next += len(new)
        return ids


def nearness(points: NDArray[np.float64], before: NDArray[np.float64], reach_m: float) -> NDArray[np.float64]:
    """How near points (N, D) are to those before (M, D): 1 at the same place, 0 at `reach_m` and beyond."""
    away = np.linalg.norm(points[:, None] - before[None], axis=2)
    return np.asarray(np.maximum(1 - away / reach_m, 0))
