"""A scene graph as `spark_dsg.DynamicSceneGraph`: what Hydra writes, and what its tools read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from m2h_runtime.errors import InputError
from m2h_runtime.libraries import require

if TYPE_CHECKING:
    from pathlib import Path

    from m2h_runtime.mapping.mesh import Mesh
    from m2h_runtime.scene_graph.layers import Point, SceneGraph

OBJECT, PLACE, ROOM, BUILDING = "O", "p", "R", "B"
"""Letters of the node symbols, as Hydra has them: O(3), p(17), R(0), B(0)."""
OBJECT_LAYER = 2
ROOM_COLORS = (
    (166, 206, 227), (31, 120, 180), (178, 223, 138), (51, 160, 44), (251, 154, 153), (227, 26, 28),
    (253, 191, 111), (255, 127, 0), (202, 178, 214), (106, 61, 154), (255, 255, 153), (177, 89, 40),
)  # fmt: skip
"""By room, counted from 0, again and again."""
NOWHERE = (128, 128, 128)


def room_color(room: int | None) -> tuple[int, int, int]:
    """The colour of a room's nodes; gray for what is in none."""
    return NOWHERE if room is None else ROOM_COLORS[room % len(ROOM_COLORS)]


def to_spark(graph: SceneGraph) -> Any:
    """The graph with Hydra's layers, symbols and attributes, and the mesh in it.

    Raises:
        InputError: spark_dsg is not installed.
    """
    dsg = require("spark_dsg", "writing a scene graph for Hydra", "graph")
    made = dsg.DynamicSceneGraph()
    _add_nodes(dsg, made, graph)
    _add_edges(dsg, made, graph)
    classes = dict(enumerate(graph.label_space.classes))
    made.set_labelspace(dsg.Labelspace(classes), OBJECT_LAYER, 0)
    made.metadata.add({"label_space": graph.label_space.name, "stamp_ns": graph.stamp_ns})
    made.mesh = _mesh(dsg, graph.mesh)
    return made


def save_graph(graph: SceneGraph, path: Path) -> None:
    """Write the graph with its mesh as JSON; `spark_dsg.DynamicSceneGraph.load` reads it.

    Raises:
        InputError: spark_dsg is not installed, the name is not *.json, or it cannot be written.
    """
    if path.suffix != ".json":
        raise InputError(f"{path}: scene graphs are saved as JSON; call it {path.with_suffix('.json').name}")
    made = to_spark(graph)
    try:
        made.save(str(path))
    except RuntimeError as error:
        raise InputError(f"{path}: cannot be written ({' '.join(str(error).split())})") from error


def _add_nodes(dsg: Any, made: Any, graph: SceneGraph) -> None:
    layers = dsg.DsgLayers
    for thing in graph.objects:
        attributes = dsg.ObjectNodeAttributes()
        attributes.registered = True
        attributes.semantic_label = thing.label
        color = graph.label_space.colors[thing.label]
        _describe(dsg, attributes, graph, thing.name, thing.position, color, (thing.low, thing.high))
        made.add_node(layers.OBJECTS, dsg.NodeSymbol(OBJECT, thing.id), attributes)
    for place in graph.places:
        attributes = dsg.PlaceNodeAttributes()
        attributes.distance = place.clearance_m
        attributes.real_place = True
        _describe(dsg, attributes, graph, f"place {place.id}", place.position, room_color(place.room))
        made.add_node(layers.PLACES, dsg.NodeSymbol(PLACE, place.id), attributes)
    for room in graph.rooms:
        attributes = dsg.RoomNodeAttributes()
        _describe(
            dsg, attributes, graph, room.name, room.position, room_color(room.id), (room.low, room.high)
        )
        made.add_node(layers.ROOMS, dsg.NodeSymbol(ROOM, room.id), attributes)
    if graph.building is not None:
        building = graph.building
        attributes = dsg.SemanticNodeAttributes()
        box = (building.low, building.high)
        _describe(dsg, attributes, graph, "building", building.position, NOWHERE, box)
        made.add_node(layers.BUILDINGS, dsg.NodeSymbol(BUILDING, 0), attributes)


def _describe(
    dsg: Any,
    attributes: Any,
    graph: SceneGraph,
    name: str,
    position: Point,
    color: tuple[int, int, int],
    box: tuple[Point, Point] | None = None,
) -> None:
    attributes.name = name
    attributes.position = np.array(position)
    attributes.color = np.array(color, np.uint8)
    attributes.last_update_time_ns = graph.stamp_ns
    attributes.is_active = False
    if box is not None:
        low, high = np.array(box[0]), np.array(box[1])
        attributes.bounding_box = dsg.BoundingBox(
            (high - low).astype(np.float32), ((low + high) / 2).astype(np.float32)
        )


def _add_edges(dsg: Any, made: Any, graph: SceneGraph) -> None:
    """Within places and rooms, and from each node down to those that are in it, as Hydra has them."""

    def join(first: tuple[str, int], second: tuple[str, int], weight: float | None = None) -> None:
        attributes = dsg.EdgeAttributes()
        if weight is not None:
            attributes.weighted, attributes.weight = True, weight
        made.insert_edge(dsg.NodeSymbol(*first).value, dsg.NodeSymbol(*second).value, attributes)

    for passage in graph.passages:
        join((PLACE, passage.first), (PLACE, passage.second), passage.clearance_m)
    for one, other in graph.doors:
        join((ROOM, one), (ROOM, other))
    for thing in graph.objects:
        if thing.place is not None:
            join((PLACE, thing.place), (OBJECT, thing.id))
    for place in graph.places:
        if place.room is not None:
            join((ROOM, place.room), (PLACE, place.id))
    for room in graph.rooms:
        join((BUILDING, 0), (ROOM, room.id))


def _mesh(dsg: Any, mesh: Mesh) -> Any:
    made = dsg.Mesh(has_colors=True, has_timestamps=False, has_labels=True, has_first_seen_stamps=False)
    # Colours are cut to whole numbers on the way back to bytes: half a step more keeps each as it is.
    colors = np.minimum((mesh.colors + 0.5) / 255, 1.0)
    made.set_vertices(np.concatenate([mesh.vertices.astype(np.float64), colors], axis=1).T)
    made.set_faces(np.ascontiguousarray(mesh.faces.T))
    for vertex, label in enumerate(mesh.labels.tolist()):
        made.set_label(vertex, label)
    return made
