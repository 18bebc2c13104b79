"""`SceneGraphBuilder`: images with depth, labels and poses in, a scene graph out, at any time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from m2h_runtime.mapping.free_space import CELL_M
from m2h_runtime.mapping.volume import Volume
from m2h_runtime.scene_graph.floor import look_down
from m2h_runtime.scene_graph.identity import Identities, nearness
from m2h_runtime.scene_graph.layers import Building, Object, Passage, Place, Room, SceneGraph
from m2h_runtime.scene_graph.objects import find_objects, overlap
from m2h_runtime.scene_graph.places import find_places
from m2h_runtime.scene_graph.roles import roles_of
from m2h_runtime.scene_graph.rooms import cut_rooms

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_runtime.label_space import LabelSpace
    from m2h_runtime.scene_graph.floor import FloorGrid
    from m2h_runtime.scene_graph.layers import Point
    from m2h_runtime.scene_graph.objects import Cluster
    from m2h_runtime.scene_graph.places import PlaceGraph
    from m2h_runtime.scene_graph.rooms import RoomCut
    from m2h_runtime.scene_graph.sightings import Sighting

BODY_HEIGHT_M = 1.0
"""Places are drawn at this height above the floor."""
SAME_OBJECT_M, SAME_PLACE_M = 0.5, 0.3
"""Centres that are nearer than this may be the same node as before."""


class SceneGraphBuilder:
    """Maps, and reads a scene graph off the map.

    The map grows with every image. A graph is made from the whole map each time, which takes a fraction of a second;
    what was in the graph before keeps its id as long as it is found again.

    Args:
        label_space: of the labels.
        volume: the map to fill; None makes one that leaves out what moves.

    Attributes:
        graph: the latest graph; None before the first `update`.
        floor, room_cut: what it was made of: the map from above, and the rooms of its columns.

    Raises:
        InputError: nobody knows what the classes of this label space are.
    """

    def __init__(self, label_space: LabelSpace, volume: Volume | None = None) -> None:
        self.label_space = label_space
        self.roles = roles_of(label_space)
        self.volume = volume or Volume(ignored_labels=self.roles.dynamic)
        self.graph: SceneGraph | None = None
        self.floor: FloorGrid | None = None
        self.room_cut: RoomCut | None = None
        self._object_ids, self._place_ids, self._room_ids = Identities(), Identities(), Identities()
        self._stamp_ns = 0

    def add(self, sighting: Sighting) -> None:
        """Fuse one image into the map.

        Raises:
            ContractError: it cannot be mapped; see `Volume.integrate`.
        """
        self.volume.integrate(
            sighting.depth, sighting.labels, sighting.rgb, sighting.camera, sighting.world_from_camera
        )
        self._stamp_ns = sighting.stamp_ns

    def update(self) -> SceneGraph:
        """The graph of the map as it is now.

        Raises:
            InputError: a library of the extra `mapping` is not installed.
        """
        mesh = self.volume.mesh()
        graph = SceneGraph(self._stamp_ns, self.label_space, mesh)
        before = self.graph or graph
        objects = self._objects(find_objects(mesh, self.roles.objects, self.volume.voxel_m), before.objects)
        self.floor = look_down(mesh, self.volume.free, self.roles)
        if self.floor is None:
            self.graph = replace(graph, objects=objects)
            return self.graph
        places = find_places(self.floor.clearance)
        self.room_cut = cut_rooms(self.floor, places)
        rooms = self._rooms(self.floor, places, self.room_cut, before.rooms)
        nodes = self._places(self.floor, places, self.room_cut, rooms, before.places)
        passages = tuple(
            Passage(nodes[a].id, nodes[b].id, float(clearance))
            for (a, b), clearance in zip(places.edges.tolist(), places.edge_clearance, strict=True)
        )
        self.graph = replace(
            graph,
            objects=_placed(objects, nodes),
            places=nodes,
            passages=passages,
            rooms=rooms,
            doors=_doors(nodes, passages),
            building=_building(rooms),
            floor_m=self.floor.floor_m,
        )
        return self.graph

    def _objects(self, clusters: list[Cluster], before: tuple[Object, ...]) -> tuple[Object, ...]:
        low, high, centre = (
            np.array([getattr(c, part) for c in clusters]).reshape(-1, 3)
            for part in ("low", "high", "centre")
        )
        old_low, old_high, old_centre = (
            np.array([getattr(o, part) for o in before]).reshape(-1, 3)
            for part in ("low", "high", "position")
        )
        likeness = overlap(low, high, old_low, old_high) + 0.1 * nearness(centre, old_centre, SAME_OBJECT_M)
        labels, old_labels = np.array([c.label for c in clusters]), np.array([o.label for o in before])
        likeness *= labels[:, None] == old_labels[None]
        ids = self._object_ids.assign(likeness, np.array([o.id for o in before], np.int64))
        return tuple(
            Object(
                number,
                cluster.label,
                f"{self.label_space.classes[cluster.label]} {number}",
                _point(cluster.low),
                _point(cluster.high),
                _point(cluster.centre),
                cluster.vertices,
            )
            for number, cluster in sorted(zip(ids.tolist(), clusters, strict=True), key=lambda pair: pair[0])
        )

    def _rooms(
        self, floor: FloorGrid, places: PlaceGraph, cut: RoomCut, before: tuple[Room, ...]
    ) -> tuple[Room, ...]:
        """A room was there before if the middle of the one before lies in it."""
        likeness = np.zeros((cut.count, len(before)))
        cells = np.array([room.position[:2] for room in before]).reshape(-1, 2) / CELL_M
        columns, rows = (np.rint(cells).astype(np.int64) - floor.origin).T
        shape = floor.free.shape
        for old, (row, column) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
            if 0 <= row < shape[0] and 0 <= column < shape[1] and cut.of_cell[row, column] >= 0:
                likeness[cut.of_cell[row, column], old] = before[old].area_m2
        ids = self._room_ids.assign(likeness, np.array([room.id for room in before], np.int64))
        return tuple(_room(number, index, floor, places, cut) for index, number in enumerate(ids.tolist()))

    def _places(
        self,
        floor: FloorGrid,
        places: PlaceGraph,
        cut: RoomCut,
        rooms: tuple[Room, ...],
        before: tuple[Place, ...],
    ) -> tuple[Place, ...]:
        points = floor.positions(places.rows, places.columns)
        old = np.array([place.position[:2] for place in before]).reshape(-1, 2)
        ids = self._place_ids.assign(
            nearness(points, old, SAME_PLACE_M), np.array([place.id for place in before], np.int64)
        )
        return tuple(
            Place(
                number,
                (float(x), float(y), floor.floor_m + BODY_HEIGHT_M),
                float(clearance),
                rooms[room].id if room >= 0 else None,
            )
            for number, (x, y), clearance, room in zip(
                ids.tolist(), points.tolist(), places.clearance, cut.of_place.tolist(), strict=True
            )
        )


def _point(values: NDArray[np.float64]) -> Point:
    x, y, z = values.tolist()
    return x, y, z


def _room(number: int, index: int, floor: FloorGrid, places: PlaceGraph, cut: RoomCut) -> Room:
    rows, columns = np.nonzero(cut.of_cell == index)
    points = floor.positions(rows, columns)
    (x0, y0), (x1, y1) = (
        (points.min(axis=0) - CELL_M / 2).tolist(),
        (points.max(axis=0) + CELL_M / 2).tolist(),
    )
    inside = np.flatnonzero(cut.of_place == index)
    widest = inside[[places.clearance[inside].argmax()]]
    ((x, y),) = floor.positions(places.rows[widest], places.columns[widest]).tolist()
    return Room(
        number,
        f"room {number}",
        (x0, y0, floor.floor_m),
        (x1, y1, floor.ceiling_m),
        (x, y, floor.floor_m + BODY_HEIGHT_M),
        len(rows) * CELL_M**2,
    )


def _placed(objects: tuple[Object, ...], places: tuple[Place, ...]) -> tuple[Object, ...]:
    """Each object is in the room of the place that is nearest to it."""
    if not places or not objects:
        return objects
    points = np.array([place.position[:2] for place in places])
    centres = np.array([thing.position[:2] for thing in objects])
    nearest = np.linalg.norm(centres[:, None] - points[None], axis=2).argmin(axis=1).tolist()
    return tuple(
        replace(thing, place=places[place].id, room=places[place].room)
        for thing, place in zip(objects, nearest, strict=True)
    )


def _doors(places: tuple[Place, ...], passages: tuple[Passage, ...]) -> tuple[tuple[int, int], ...]:
    room = {place.id: place.room for place in places}
    pairs = set()
    for passage in passages:
        first, second = room[passage.first], room[passage.second]
        if first is not None and second is not None and first != second:
            pairs.add((min(first, second), max(first, second)))
    return tuple(sorted(pairs))


def _building(rooms: tuple[Room, ...]) -> Building | None:
    if not rooms:
        return None
    low, high = np.min([room.low for room in rooms], axis=0), np.max([room.high for room in rooms], axis=0)
    middle = np.mean([room.position for room in rooms], axis=0)
    return Building(_point(middle), _point(low), _point(high))
