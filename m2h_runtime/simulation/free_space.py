"""Where in an apartment a body fits, as a grid for planning walks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from m2h_runtime.simulation.floor_plan import WALL_M
from m2h_runtime.simulation.walk import FreeSpace

if TYPE_CHECKING:
    from m2h_runtime.simulation.apartment import Apartment

CELL_M = 0.05
_BODY_M = (0.03, 1.95)  # a rug may be stepped on, a ceiling lamp walked under
_SHADES = 8  # sub-cell precision of the polygon filler: 1 / 2**3 of a cell


def free_space(apartment: Apartment) -> FreeSpace:
    """Rooms and doorways without what stands in them, up to head height."""
    reach = max(room.x1 for room in apartment.rooms) + 0.3, max(room.y1 for room in apartment.rooms) + 0.3
    occupancy = np.ones((int(reach[1] / CELL_M), int(reach[0] / CELL_M)), np.uint8)
    for room in apartment.rooms:
        _fill(occupancy, (room.x0, room.y0), (room.x1, room.y1), 0)
        for opening in room.openings:
            if opening.kind in ("door", "passage"):
                wall = room.wall_at(opening.side)  # doors are in walls that run along x
                _fill(occupancy, (opening.start, wall - WALL_M), (opening.end, wall + WALL_M), 0)
    corners = apartment.vertices[apartment.faces]
    low, high = corners[..., 2].min(axis=1), corners[..., 2].max(axis=1)
    solid = (apartment.face_object > 0) & (low < _BODY_M[1]) & (high > _BODY_M[0])
    outlines = np.round(corners[solid][..., :2] / CELL_M * _SHADES - _SHADES / 2).astype(np.int32)
    for outline in outlines:
        cv2.fillConvexPoly(occupancy, outline, 1, shift=3)
        cv2.polylines(occupancy, [outline], isClosed=True, color=1, shift=3)
    rooms = [(room.id, (room.x0, room.y0, room.x1, room.y1)) for room in apartment.rooms]
    return FreeSpace(occupancy.astype(bool), (0.0, 0.0), CELL_M, rooms)


def _fill(
    grid: np.ndarray[tuple[int, int], np.dtype[np.uint8]],
    low: tuple[float, float],
    high: tuple[float, float],
    value: int,
) -> None:
    x0, y0, x1, y1 = (round(v / CELL_M) for v in (*low, *high))
    grid[max(y0, 0) : y1, max(x0, 0) : x1] = value
