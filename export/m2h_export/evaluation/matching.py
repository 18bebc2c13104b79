"""One-to-one matching of predicted and true boundary pixels: exact, and fast enough for a hundred thresholds.

A maximum bipartite matching by alternating breadth-first forests: all free pixels of one side grow trees at once,
each tree that meets a free pixel of the other side augments along its path, until no tree does. Trees share no
pixel, so whole levels and all paths of a round are array operations. General solvers (Hopcroft-Karp in
`scipy.sparse.csgraph`) give the same number, but some boundary graphs cost them seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Positions = NDArray[np.intp]

FREE = -1


class PixelMatcher:
    """Matches one predicted map after the other with the same truth; each starts from the pairs of the last.

    Args:
        truth: bool (H, W), true boundary pixels.
        tolerance: pixels; a pair is allowed when its squared distance is at most `tolerance` squared.
    """

    def __init__(self, truth: NDArray[np.bool_], tolerance: float) -> None:
        radius = int(tolerance)
        height, width = truth.shape
        self._inner = (slice(radius, radius + height), slice(radius, radius + width))
        # A frame as wide as the tolerance spares every bounds check; positions are flat indices into it.
        self._shape = (height + 2 * radius, width + 2 * radius)
        self._offsets = _offsets(radius, tolerance, self._shape[1])
        self._truth = self._framed(truth)
        near = np.zeros_like(self._truth)
        near[(np.flatnonzero(self._truth)[:, None] + self._offsets).ravel()] = True
        self._near = near
        size = self._truth.size
        self._mate_of_truth = np.full(size, FREE, np.intp)
        self._mate_of_predicted = np.full(size, FREE, np.intp)
        self._parent = np.empty(size, np.intp)
        self._root = np.empty(size, np.intp)

    def match(self, predicted: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], int]:
        """A maximum matching: which pixels of `predicted`, bool (H, W), are in it, and how many pairs it has."""
        mask = self._framed(predicted)
        mask &= self._near
        self._drop_lost(mask)
        self._pair_nearest(mask)
        free_predicted = np.flatnonzero(mask & (self._mate_of_predicted == FREE))
        free_truth = np.flatnonzero(self._truth & (self._mate_of_truth == FREE))
        # No augmenting path from either side means maximal, so the side with less to search is enough.
        if free_predicted.size <= free_truth.size:
            self._augment(free_predicted, self._mate_of_predicted, self._mate_of_truth, self._truth)
        else:
            self._augment(free_truth, self._mate_of_truth, self._mate_of_predicted, mask)
        matched = self._mate_of_predicted != FREE
        return matched.reshape(self._shape)[self._inner], int(matched.sum())

    def _framed(self, plane: NDArray[np.bool_]) -> NDArray[np.bool_]:
        framed = np.zeros(self._shape, bool)
        framed[self._inner] = plane
        return framed.ravel()

    def _drop_lost(self, mask: NDArray[np.bool_]) -> None:
        """Forget the pairs whose predicted pixel is not in this map."""
        lost = np.flatnonzero((self._mate_of_predicted != FREE) & ~mask)
        self._mate_of_truth[self._mate_of_predicted[lost]] = FREE
        self._mate_of_predicted[lost] = FREE

    def _pair_nearest(self, mask: NDArray[np.bool_]) -> None:
        """Greedily pair what is free, nearest first; at one offset no two pixels want the same partner."""
        free = np.flatnonzero(mask & (self._mate_of_predicted == FREE))
        open_truth = self._truth & (self._mate_of_truth == FREE)
        for offset in self._offsets:
            if not free.size:
                break
            partner = free + offset
            hit = open_truth[partner]
            if not hit.any():
                continue
            pixels, partners = free[hit], partner[hit]
            self._mate_of_predicted[pixels], self._mate_of_truth[partners] = partners, pixels
            open_truth[partners] = False
            free = free[~hit]

    def _augment(
        self, free: Positions, mate: Positions, mate_across: Positions, across: NDArray[np.bool_]
    ) -> None:
        """Grow the matching (`mate`, `mate_across`) to a maximum one from the `free` pixels of one side."""
        while free.size:
            ends = self._forest(free, mate_across, across)
            if not ends.size:
                return
            while ends.size:  # flip every path, one step of all of them at a time
                owners = self._parent[ends]
                released = mate[owners]
                mate[owners], mate_across[ends] = ends, owners
                ends = released[released != FREE]
            free = free[mate[free] == FREE]

    def _forest(self, roots: Positions, mate_across: Positions, across: NDArray[np.bool_]) -> Positions:
        """Breadth-first alternating trees from `roots`; the free pixels across that they reach, one per tree."""
        unvisited, parent, root = across.copy(), self._parent, self._root
        root[roots] = roots
        done = np.zeros(unvisited.size, bool)
        ends = []
        frontier = roots
        while frontier.size:
            reached = frontier[:, None] + self._offsets
            new = unvisited[reached]
            found = reached[new]
            owners = np.repeat(frontier, np.count_nonzero(new, axis=1))
            parent[found] = owners
            kept = parent[found] == owners  # of several claims on a pixel, one stays
            found, owners = found[kept], owners[kept]
            unvisited[found] = False
            trees = root[owners]
            is_end = mate_across[found] == FREE
            if is_end.any():
                ends.append(self._one_per_tree(found[is_end], trees[is_end]))
                done[trees[is_end]] = True
            grows = ~done[trees]
            frontier = mate_across[found[grows]]
            root[frontier] = trees[grows]
        return np.concatenate(ends) if ends else np.empty(0, np.intp)

    @staticmethod
    def _one_per_tree(ends: Positions, trees: Positions) -> Positions:
        first: Positions = np.unique(trees, return_index=True)[1]
        return ends[first]


def _offsets(radius: int, tolerance: float, stride: int) -> Positions:
    """Flat offsets to all pixels within `tolerance`, nearest first."""
    dy, dx = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    squared = dy**2 + dx**2
    order = np.argsort(squared, axis=None, kind="stable")
    order = order[squared.ravel()[order] <= tolerance**2]
    flat: Positions = (dy * stride + dx).ravel()[order].astype(np.intp)
    return flat
