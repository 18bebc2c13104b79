"""`FloorGrid`: the map seen from above: where a body can be, and where walls stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from m2h_runtime.mapping.free_space import CELL_M
from m2h_runtime.mapping.votes import NO_LABEL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_runtime.mapping.free_space import FreeSpace
    from m2h_runtime.mapping.mesh import Mesh
    from m2h_runtime.scene_graph.roles import Roles

BODY_M = (0.2, 1.4)
"""A body's height above the floor: a doorstep and a rug may be stepped over."""
HEAD_M = 1.5
"""Above this there is little furniture, and the lintels of doors reach down to some 2 m: rooms close here."""
CEILING_GAP_M = 0.25
"""What is nearer to the ceiling is taken for a part of it."""
USUAL_ROOM_M = 2.5
"""Height of a room whose ceiling nobody has seen."""
LEAST_SEEN = 2
"""Images that must have looked through a cell."""
LEAST_FREE = 0.5
"""A body fits where so much of its height is known to be free."""
LEAST_VERTICES = 2
"""Vertices in a column that make an obstacle; one is noise."""
AROUND_THINGS = np.ones((3, 3), np.uint8)
"""Columns around a lamp or a door's leaf: nothing has looked through the cells right beside it."""
MARGIN = 2
"""Cells around everything, so that distances have a border."""


@dataclass(frozen=True, eq=False)
class FloorGrid:
    """Columns of `CELL_M`, seen from above; row is y, column is x.

    Attributes:
        origin: int (2,), cell (x, y) of the grid's first column and row; cell (i, j) has its middle at (i, j) * CELL_M.
        free: bool (H, W), a body can be here.
        clearance: float32 (H, W), metres from a free column's middle to the nearest one that is not.
        openness: float32 (H, W), the same above the furniture, among walls and lintels; 0 where nobody has looked.
        floor_m: height of the floor.
        ceiling_m: height of the ceiling.
    """

    origin: NDArray[np.int64]
    free: NDArray[np.bool_]
    clearance: NDArray[np.float32]
    openness: NDArray[np.float32]
    floor_m: float
    ceiling_m: float

    def positions(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float64]:
        """float64 (N, 2): x and y of columns' middles."""
        return np.stack([columns + self.origin[0], rows + self.origin[1]], axis=1) * CELL_M


def look_down(mesh: Mesh, space: FreeSpace, roles: Roles) -> FloorGrid | None:
    """The grid of a map; None while nothing is free."""
    cells = space.cells(LEAST_SEEN)
    if not len(cells) or not len(mesh.vertices):
        return None
    floor, ceiling = _levels(mesh, roles)
    origin = cells[:, :2].min(axis=0) - MARGIN
    width, height = cells[:, :2].max(axis=0) + MARGIN + 1 - origin
    shape = (int(height), int(width))

    def columns(at: NDArray[np.int64], least: float) -> NDArray[np.bool_]:
        counts = np.zeros(shape, np.int32)
        x, y = (at[:, :2] - origin).T
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        np.add.at(counts, (y[inside], x[inside]), 1)
        return np.asarray(counts >= least)

    def between(low: float, high: float) -> NDArray[np.int64]:
        z = cells[:, 2] * CELL_M
        return cells[(z >= low) & (z < high)]

    z = mesh.vertices[:, 2]
    places = np.rint(mesh.vertices / CELL_M).astype(np.int64)
    body = (z > floor + BODY_M[0]) & (z < floor + BODY_M[1])
    top = max(ceiling - CEILING_GAP_M, floor + HEAD_M + 0.3)
    upper = (z > floor + HEAD_M) & (z < top)
    movable = np.isin(mesh.labels, [*roles.movable, NO_LABEL])
    needed = LEAST_FREE * (BODY_M[1] - BODY_M[0]) / CELL_M
    free = columns(between(floor + BODY_M[0], floor + BODY_M[1]), needed)
    free &= ~columns(places[body], LEAST_VERTICES)
    walls = columns(places[upper & ~movable], LEAST_VERTICES)
    things = cv2.dilate(columns(places[upper & movable], 1).astype(np.uint8), AROUND_THINGS) > 0
    open_above = (free | columns(between(floor + HEAD_M, top), 2) | things) & ~walls
    open_above[[0, -1]], open_above[:, [0, -1]] = False, False  # what lies beyond is unknown
    return FloorGrid(origin, free, _distance(free), _distance(open_above), floor, ceiling)


def _levels(mesh: Mesh, roles: Roles) -> tuple[float, float]:
    """Heights of floor and ceiling: by their labels, else the lowest and highest of the map."""
    z = mesh.vertices[:, 2]
    floor = z[np.isin(mesh.labels, list(roles.floor))]
    level = float(np.median(floor)) if len(floor) > 100 else float(np.percentile(z, 2))
    above = z[np.isin(mesh.labels, list(roles.ceiling)) & (z > level + 1.8)]
    return level, float(np.median(above)) if len(above) > 100 else level + USUAL_ROOM_M


def _distance(free: NDArray[np.bool_]) -> NDArray[np.float32]:
    cells = cv2.distanceTransform(free.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(np.maximum(cells - 0.5, 0) * CELL_M, np.float32)
