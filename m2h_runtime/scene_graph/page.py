"""The graph as one HTML file that needs nothing else: no server, no network, also on a phone."""

from __future__ import annotations

import base64
import json
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from m2h_runtime.files import write_atomically
from m2h_runtime.scene_graph.spark import room_color

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from m2h_runtime.mapping.mesh import Mesh
    from m2h_runtime.scene_graph.layers import SceneGraph

MOST_FACES = 90_000
"""A phone draws so many at a glance, and the file stays near 2 MB."""
FIRST_CELL_M = 0.06
MARK = "/*GRAPH*/null"


def write_page(graph: SceneGraph, path: Path, title: str) -> None:
    """Write the page.

    Args:
        graph: to be shown.
        path: of the file.
        title: where it comes from, for a person.

    Raises:
        InputError: it cannot be written.
    """
    template = (resources.files("m2h_runtime.scene_graph") / "static" / "graph.html").read_text("utf-8")
    # "</" would end the script that the data are in.
    data = json.dumps(_content(graph, title), separators=(",", ":")).replace("</", "<\\/")
    write_atomically(path, template.replace(MARK, data).encode("utf-8"))


def light(mesh: Mesh, most_faces: int = MOST_FACES) -> Mesh:
    """A mesh of at most so many triangles that looks the same from afar."""
    cell_m = FIRST_CELL_M
    lighter = mesh
    while len(lighter.faces) > most_faces:
        lighter = mesh.coarser(cell_m)
        cell_m *= 1.25
    return lighter


def _content(graph: SceneGraph, title: str) -> dict[str, Any]:
    classes, colors = graph.label_space.classes, graph.label_space.colors
    return {
        "title": title,
        "floor": round(graph.floor_m, 3),
        "mesh": _mesh(light(graph.mesh), graph.label_space.palette),
        "objects": [
            {
                "id": thing.id, "name": thing.name, "kind": classes[thing.label], "at": _short(thing.position),
                "low": _short(thing.low), "high": _short(thing.high), "color": colors[thing.label],
                "place": thing.place, "room": thing.room,
            }
            for thing in graph.objects
        ],
        "places": [
            {
                "id": place.id, "at": _short(place.position), "clear": round(place.clearance_m, 2),
                "room": place.room, "color": room_color(place.room),
            }
            for place in graph.places
        ],
        "passages": [[passage.first, passage.second] for passage in graph.passages],
        "rooms": [
            {
                "id": room.id, "name": room.name, "at": _short(room.position), "area": round(room.area_m2, 1),
                "color": room_color(room.id),
            }
            for room in graph.rooms
        ],
        "doors": [list(pair) for pair in graph.doors],
        "building": None if graph.building is None else {"at": _short(graph.building.position)},
    }  # fmt: skip


def _mesh(mesh: Mesh, palette: NDArray[np.uint8]) -> dict[str, Any]:
    """Positions as 16 bits over the mesh's box, colours as bytes, both as base64."""
    if not len(mesh.faces):
        return {"low": [0, 0, 0], "size": 1, "points": "", "colors": "", "labels": "", "faces": ""}
    low = mesh.vertices.min(axis=0)
    size = float((mesh.vertices - low).max())
    points = np.round((mesh.vertices - low) / size * 65535).astype("<u2")
    return {
        "low": [round(float(v), 4) for v in low],
        "size": size,
        "points": _base64(points),
        "colors": _base64(mesh.colors),
        "labels": _base64(palette[mesh.labels]),
        "faces": _base64(mesh.faces.astype("<u4")),
    }


def _base64(array: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")


def _short(point: tuple[float, float, float]) -> list[float]:
    return [round(value, 3) for value in point]
