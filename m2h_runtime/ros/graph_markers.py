"""A scene graph as serialized messages: markers for RViz and Foxglove, and Hydra's own update."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from m2h_runtime.ros import cdr
from m2h_runtime.scene_graph.page import light
from m2h_runtime.scene_graph.picture import CUT_M, LIFT_M
from m2h_runtime.scene_graph.spark import NOWHERE, room_color, to_spark

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from m2h_runtime.scene_graph.layers import Point, SceneGraph

    Color = tuple[int, int, int]

MARKER, MARKERS = "visualization_msgs/msg/Marker", "visualization_msgs/msg/MarkerArray"
UPDATE = "hydra_msgs/msg/DsgUpdate"
CUBES, SPHERES, LINES, TEXT, TRIANGLES = 6, 7, 5, 9, 11
"""visualization_msgs/Marker: CUBE_LIST, SPHERE_LIST, LINE_LIST, TEXT_VIEW_FACING, TRIANGLE_LIST."""
ADD, DELETE_ALL = 0, 3
MOST_FACES = 40_000
"""Of the mesh as a marker: 5 MB."""
WHITE, GRAY = (255, 255, 255), (130, 130, 130)
CORNERS = np.array([(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)])
SIDES = np.array([(a, a | bit) for a in range(8) for bit in (1, 2, 4) if not a & bit])
"""The twelve edges of a box between its `CORNERS`."""


class _Marker(NamedTuple):
    """What is told of one visualization_msgs/Marker; everything else is as usual."""

    namespace: str
    kind: int
    size_m: float
    points: NDArray[np.float64]
    colors: NDArray[np.uint8]
    number: int = 0
    text: str = ""


def markers(graph: SceneGraph, frame: str) -> bytes:
    """A visualization_msgs/MarkerArray with one namespace for each part of the graph, that begins with a clean slate.

    Objects are where they are; places, rooms and the building float over them, layer by layer.
    """
    drawn = [one for one in _parts(graph) if len(one.points)]
    writer = cdr.Writer().pack("I", 1 + len(drawn))
    _write(writer, (graph.stamp_ns, frame), _Marker("", CUBES, 1.0, _points([]), _colors([])), DELETE_ALL)
    for one in drawn:
        _write(writer, (graph.stamp_ns, frame), one)
    return writer.bytes()


def mesh(graph: SceneGraph, frame: str) -> bytes:
    """A visualization_msgs/Marker: the mesh in its colours, cut open above the heads and made light."""
    lighter = light(graph.mesh, MOST_FACES)
    inside = lighter.vertices[lighter.faces][:, :, 2].max(axis=1) < graph.floor_m + CUT_M
    corners = lighter.faces[inside].reshape(-1)
    points = lighter.vertices[corners].astype(np.float64)
    one = _Marker("mesh", TRIANGLES, 1.0, points, lighter.colors[corners])
    writer = cdr.Writer()
    _write(writer, (graph.stamp_ns, frame), one)
    return writer.bytes()


def update(graph: SceneGraph, frame: str, number: int) -> bytes:
    """A hydra_msgs/DsgUpdate with the whole graph and its mesh.

    Args:
        graph: what to send.
        frame: that it is in.
        number: counts the updates.

    Raises:
        InputError: spark_dsg is not installed.
    """
    contents = np.frombuffer(to_spark(graph).to_binary(True), np.uint8)
    writer = cdr.Writer().header((graph.stamp_ns, frame)).sequence(contents)
    nothing_deleted = (0, 0)  # the message is the whole graph: what is not in it is gone
    return writer.pack("I", *nothing_deleted).pack("B", 1).pack("q", number).bytes()


def _parts(graph: SceneGraph) -> Iterator[_Marker]:
    yield from _objects(graph)
    yield from _places(graph)
    yield from _rooms(graph)


def _objects(graph: SceneGraph) -> Iterator[_Marker]:
    colors = [graph.label_space.colors[thing.label] for thing in graph.objects]
    low, high = (_points([getattr(thing, side) for thing in graph.objects]) for side in ("low", "high"))
    corners = low[:, None] + CORNERS * (high - low)[:, None]
    sides = corners[:, SIDES].reshape(-1, 3)
    yield _Marker("objects", LINES, 0.02, sides, _colors(colors).repeat(2 * len(SIDES), axis=0))
    for thing in graph.objects:
        x, y, _ = thing.position
        yield _named("object names", thing.id, (x, y, thing.high[2] + 0.1), thing.name, 0.15)
    places = {place.id: _lifted(place.position, 1) for place in graph.places}
    pairs = [(thing.position, places[thing.place]) for thing in graph.objects if thing.place is not None]
    yield _lines("objects to places", pairs, [GRAY] * len(pairs), 0.01)


def _places(graph: SceneGraph) -> Iterator[_Marker]:
    at = {place.id: _lifted(place.position, 1) for place in graph.places}
    colors = {place.id: room_color(place.room) for place in graph.places}
    yield _Marker("places", SPHERES, 0.2, _points(list(at.values())), _colors(list(colors.values())))
    pairs = [(at[passage.first], at[passage.second]) for passage in graph.passages]
    yield _lines("passages", pairs, [colors[passage.first] for passage in graph.passages], 0.03)
    rooms = {room.id: _lifted(room.position, 2) for room in graph.rooms}
    inside = [place for place in graph.places if place.room is not None]
    pairs = [(at[place.id], rooms[place.room]) for place in inside if place.room is not None]
    yield _lines("places to rooms", pairs, [colors[place.id] for place in inside], 0.01)


def _rooms(graph: SceneGraph) -> Iterator[_Marker]:
    at = {room.id: _lifted(room.position, 2) for room in graph.rooms}
    colors = [room_color(room.id) for room in graph.rooms]
    yield _Marker("rooms", CUBES, 0.4, _points(list(at.values())), _colors(colors))
    for room in graph.rooms:
        x, y, z = at[room.id]
        yield _named("room names", room.id, (x, y, z + 0.4), room.name, 0.3)
    doors = [(at[one], at[other]) for one, other in graph.doors]
    yield _lines("doors", doors, [WHITE] * len(doors), 0.05)
    if graph.building is not None:
        top = _lifted(graph.building.position, 3)
        yield _Marker("building", CUBES, 0.6, _points([top]), _colors([NOWHERE]))
        yield _lines("rooms to building", [(room, top) for room in at.values()], colors, 0.02)


def _lines(
    namespace: str, pairs: Sequence[tuple[Point, Point]], colors: Sequence[Color], width_m: float
) -> _Marker:
    ends = _points([end for pair in pairs for end in pair])
    return _Marker(namespace, LINES, width_m, ends, _colors(colors).repeat(2, axis=0))


def _named(namespace: str, number: int, at: Point, text: str, height_m: float) -> _Marker:
    return _Marker(namespace, TEXT, height_m, _points([at]), _colors([WHITE]), number, text)


def _lifted(point: Point, layers: int) -> Point:
    return point[0], point[1], point[2] + layers * LIFT_M


def _points(points: Sequence[Point]) -> NDArray[np.float64]:
    return np.array(points, np.float64).reshape(-1, 3)


def _colors(colors: Sequence[Color]) -> NDArray[np.uint8]:
    return np.array(colors, np.uint8).reshape(-1, 3)


def _write(writer: cdr.Writer, header: tuple[int, str], marker: _Marker, action: int = ADD) -> None:
    """One visualization_msgs/Marker. A text stands at its pose, everything else at its points."""
    text = marker.kind == TEXT
    color = np.concatenate([marker.colors / 255, np.ones((len(marker.colors), 1))], axis=1, dtype=np.float32)
    writer.header(header).text(marker.namespace).pack("i", marker.number, marker.kind, action)
    writer.pack("d", *(marker.points[0] if text else (0.0, 0.0, 0.0))).pack("d", 0, 0, 0, 1)
    writer.pack("d", *_scale(marker)).pack("f", *(color[0] if text else (1, 1, 1, 1)))
    writer.pack("i", 0).pack("I", 0).pack("B", 0)  # for ever, where the frame is at the stamp
    writer.sequence(marker.points[:0] if text else marker.points)
    writer.sequence(color[:0] if text else color)
    writer.text("").header((0, "")).text("").pack("I", 0, 0)  # no texture
    writer.text(marker.text).text("").text("").pack("I", 0).pack("B", 0)  # no mesh of a file


def _scale(marker: _Marker) -> tuple[float, float, float]:
    """As RViz reads it: the width of lines, the height of letters, all three sides of everything else."""
    if marker.kind == LINES:
        return marker.size_m, 0.0, 0.0
    return (0.0, 0.0, marker.size_m) if marker.kind == TEXT else (marker.size_m,) * 3
