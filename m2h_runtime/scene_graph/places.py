"""Places: the points of free floor that are farthest from everything, and the ways between them.

Hydra takes them from a generalised Voronoi diagram in three dimensions, which also serves robots that fly. For one that
stays on a floor the diagram of the floor plan holds the same topology, and costs milliseconds: it is the skeleton of
the free floor, and a point's clearance is its distance to the nearest obstacle.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from m2h_runtime.libraries import require
from m2h_runtime.mapping.free_space import CELL_M

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_CLEARANCE_M = 0.15
"""A place is where a small robot fits."""
APART = 0.7
"""Places are at least so many clearances apart, within the two bounds below."""
APART_M = (0.4, 1.0)
_AROUND = ((0, 1), (1, 0), (1, 1), (1, -1), (0, -1), (-1, 0), (-1, -1), (-1, 1))


@dataclass(frozen=True, eq=False)
class PlaceGraph:
    """The skeleton of a region of a grid, as nodes and edges.

    Attributes:
        rows, columns: int (N,), each node's cell.
        clearance: float32 (N,), metres to the region's border.
        edges: int (M, 2), node numbers.
        edge_clearance: float32 (M,), the same at the narrowest point of the way.
        owner: int (H, W), for each cell of the skeleton its node, -1 elsewhere.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    clearance: NDArray[np.float32]
    edges: NDArray[np.int64]
    edge_clearance: NDArray[np.float32]
    owner: NDArray[np.int64]


class _Flood(NamedTuple):
    """By cell of the skeleton: the node it is reached from first, and the least clearance on the way."""

    owner: NDArray[np.int64]
    narrowest: NDArray[np.float32]


def find_places(clearance: NDArray[np.float32]) -> PlaceGraph:
    """The places of a region.

    Args:
        clearance: float32 (H, W), metres to the border of the region, 0 outside and around the grid's edge.

    Raises:
        InputError: scikit-image is not installed.
    """
    skeletonize = require("skimage.morphology", "places", "mapping").skeletonize
    skeleton = skeletonize(clearance >= LEAST_CLEARANCE_M)
    rows, columns = np.nonzero(skeleton)
    chosen = _spread(np.stack([rows, columns], axis=1), clearance[rows, columns])
    rows, columns = rows[chosen], columns[chosen]
    flood = _flood(skeleton, rows, columns, clearance)
    edges, narrowest = _ways(flood)
    return PlaceGraph(rows, columns, clearance[rows, columns], edges, narrowest, flood.owner)


def _spread(cells: NDArray[np.int64], clearance: NDArray[np.float32]) -> NDArray[np.int64]:
    """Which skeleton cells (N, 2) become nodes: the most open first, then what is not near one already."""
    left = np.ones(len(cells), np.bool_)
    chosen = []
    for number in np.argsort(-clearance, kind="stable").tolist():
        if left[number]:
            chosen.append(number)
            radius = float(np.clip(APART * clearance[number], *APART_M)) / CELL_M
            left &= ((cells - cells[number]) ** 2).sum(axis=1) > radius**2
    return np.array(chosen, np.int64)


def _flood(
    skeleton: NDArray[np.bool_],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    clearance: NDArray[np.float32],
) -> _Flood:
    """Go from all nodes along the skeleton at once."""
    owner, narrowest = np.full(skeleton.shape, -1, np.int64), clearance.copy()
    owner[rows, columns] = np.arange(len(rows))
    waiting = deque(zip(rows.tolist(), columns.tolist(), strict=True))
    while waiting:
        row, column = waiting.popleft()
        for down, across in _AROUND:
            cell = (row + down, column + across)  # nothing is clear at the grid's edge, so this stays inside
            if skeleton[cell] and owner[cell] < 0:
                owner[cell] = owner[row, column]
                narrowest[cell] = min(narrowest[cell], narrowest[row, column])
                waiting.append(cell)
    return _Flood(owner, narrowest)


def _ways(flood: _Flood) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Edges between nodes whose cells touch, each with the least clearance on its best way."""
    owner, narrowest = flood
    found: dict[tuple[int, int], float] = {}
    for row, column in np.argwhere(owner >= 0).tolist():
        for down, across in _AROUND[:4]:
            here, there = (row, column), (row + down, column + across)
            if owner[there] < 0 or owner[there] == owner[here]:
                continue
            key = (int(min(owner[here], owner[there])), int(max(owner[here], owner[there])))
            found[key] = max(found.get(key, 0.0), float(min(narrowest[here], narrowest[there])))
    edges = np.array(sorted(found), np.int64).reshape(-1, 2)
    return edges, np.array([found[(a, b)] for a, b in edges.tolist()], np.float32)
