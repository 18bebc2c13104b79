"""Rooms: the place graph, cut where it is narrow.

Let the water fall in a landscape whose height is how open each place is: islands rise, and where two of them touch for
the first time there is a passage. If both are large and have stood well above the passage, they are rooms and the
passage is a door; otherwise the smaller one is a corner of the larger. This is the 0-dimensional persistence that Hydra
looks for with thresholds, taken from all thresholds at once.

Not the floor is cut but the space above the furniture (`FloorGrid.openness`), where walls and the lintels of doors are
all that is left: a sofa right across a room parts nothing there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from m2h_runtime.mapping.free_space import CELL_M
from m2h_runtime.scene_graph.places import PlaceGraph, find_places

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_runtime.scene_graph.floor import FloorGrid

_SIDES = ((0, 1), (0, -1), (1, 1), (1, -1))
LEAST_AREA_M2 = 2.0
"""Of a room; less is a corner or a closet."""
PROMINENCE_M = 0.25
"""A room is so much more open than each of its doors."""
WIDEST_DOOR_M = 0.65
"""Half the width of a door without a lintel; wider ones part no rooms."""


@dataclass(frozen=True, eq=False)
class RoomCut:
    """Which room everything is in; rooms count from 0, -1 is none.

    Attributes:
        of_place: int (N,), room of each place.
        of_cell: int (H, W), room of each free column.
        count: rooms.
    """

    of_place: NDArray[np.int64]
    of_cell: NDArray[np.int64]
    count: int


def cut_rooms(grid: FloorGrid, places: PlaceGraph) -> RoomCut:
    """The rooms of a floor; each holds at least one of the places.

    Raises:
        InputError: scikit-image is not installed.
    """
    above = find_places(grid.openness)
    open_above = grid.openness > 0
    owner = _grown(open_above, above.owner)
    areas = np.asarray(np.bincount(owner[owner >= 0], minlength=len(above.rows)) * CELL_M**2, np.float64)
    island = _islands(above, areas)
    size = np.bincount(island, weights=areas, minlength=len(areas))
    kept = np.where(size[island] >= LEAST_AREA_M2, island, -1)
    of_cell = np.where(owner >= 0, kept[owner], -1) if len(kept) else owner
    of_cell = np.where(grid.free, _grown(open_above | grid.free, of_cell), -1)
    of_place = of_cell[places.rows, places.columns]
    numbers = np.full(len(areas) + 1, -1, np.int64)  # the last one is for -1
    held = np.unique(of_place[of_place >= 0])
    numbers[held] = np.arange(len(held))
    return RoomCut(numbers[of_place], numbers[of_cell], len(held))


def _islands(places: PlaceGraph, areas: NDArray[np.float64]) -> NDArray[np.int64]:
    """A number for each place, the same for those in one room, int (N,)."""
    root = list(range(len(places.rows)))
    peak = places.clearance.astype(np.float64).tolist()
    area = areas.tolist()

    def find(place: int) -> int:
        while root[place] != place:
            root[place] = root[root[place]]
            place = root[place]
        return place

    for edge in np.argsort(-places.edge_clearance, kind="stable").tolist():
        pass_m = float(places.edge_clearance[edge])
        first, second = (find(place) for place in places.edges[edge].tolist())
        rooms = all(peak[i] - pass_m >= PROMINENCE_M and area[i] >= LEAST_AREA_M2 for i in (first, second))
        if first == second or (rooms and pass_m <= WIDEST_DOOR_M):
            continue
        root[second] = first
        peak[first], area[first] = max(peak[first], peak[second]), area[first] + area[second]
    return np.array([find(place) for place in range(len(root))], np.int64)


def _grown(free: NDArray[np.bool_], seeds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Seeds (H, W), -1 for none, grown over the free cells beside them until none is left."""
    grown = np.where(free, seeds, -1)
    while True:
        before = grown
        for axis, step in _SIDES:  # the grid's margin is not free: nothing wraps around
            grown = np.where(free & (grown < 0), np.roll(grown, step, axis), grown)
        if np.array_equal(grown, before):
            return grown
