"""The graph as one picture: the mesh from above and aside without its ceilings, the layers floating over it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from m2h_runtime.errors import InputError
from m2h_runtime.files import write_atomically
from m2h_runtime.scene_graph.page import light
from m2h_runtime.scene_graph.spark import NOWHERE, room_color

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from m2h_runtime.mapping.mesh import Mesh
    from m2h_runtime.scene_graph.layers import Point, SceneGraph

SIZE = (1000, 1500)
MARGIN = 40
TILT_RAD, TURN_RAD = 0.85, 0.35
CUT_M = 1.9
"""The mesh is cut at this height above the floor, so that one can look into the rooms."""
LIFT_M = 2.6
"""Between the layers."""
MOST_FACES = 300_000
BACKGROUND = (20, 23, 28)
QUALITY = (cv2.IMWRITE_JPEG_QUALITY, 85)
SHIFT = 4
NAMED = 14
"""So many of the largest objects get their name written."""


class _Canvas:
    """An RGB picture with a parallel projection of the world, fitted to `points` (N, 3)."""

    def __init__(self, points: NDArray[np.float64]) -> None:
        flat = _flattened(points)[:, :2]
        low, high = flat.min(axis=0), flat.max(axis=0)
        room = np.array([SIZE[1], SIZE[0]]) - 2 * MARGIN
        self._scale = float((room / np.maximum(high - low, 1e-6)).min())
        self._offset = np.array([SIZE[1], SIZE[0]]) / 2 - (low + high) / 2 * self._scale
        self.image = np.full((*SIZE, 3), BACKGROUND, np.uint8)

    def pixels(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 3): x and y in the picture, and nearness to the viewer."""
        flat = _flattened(np.asarray(points, np.float64).reshape(-1, 3))
        return np.concatenate([flat[:, :2] * self._scale + self._offset, flat[:, 2:]], axis=1)

    def surface(self, corners: NDArray[np.float64], colors: NDArray[np.uint8]) -> None:
        """Draw triangles (N, 3, 3) with a colour each, the nearest ones last, from their free side only."""
        pixels = self.pixels(corners.reshape(-1, 3)).reshape(-1, 3, 3)
        (ax, ay), (bx, by) = (pixels[:, 1] - pixels[:, 0]).T[:2], (pixels[:, 2] - pixels[:, 0]).T[:2]
        seen = np.flatnonzero(ax * by - ay * bx < 0)
        order = seen[np.argsort(pixels[seen, :, 2].mean(axis=1), kind="stable")]
        outlines = np.round(pixels[order, :, :2] * (1 << SHIFT)).astype(np.int32)
        for outline, color in zip(outlines, colors[order].tolist(), strict=True):
            cv2.fillConvexPoly(self.image, outline, color, cv2.LINE_8, SHIFT)

    def line(self, first: Point, second: Point, color: tuple[int, int, int], width: int = 1) -> None:
        """A straight line."""
        a, b = (self._fixed(point) for point in (first, second))
        cv2.line(self.image, a, b, color, width, cv2.LINE_AA, SHIFT)

    def dot(self, point: Point, radius: int, color: tuple[int, int, int]) -> None:
        """A disc with a dark rim."""
        at = self._fixed(point)
        cv2.circle(self.image, at, radius << SHIFT, color, cv2.FILLED, cv2.LINE_AA, SHIFT)
        cv2.circle(self.image, at, radius << SHIFT, (0, 0, 0), 1, cv2.LINE_AA, SHIFT)

    def text(self, point: Point, text: str, size: float = 0.5) -> None:
        """White letters with a dark rim, to the right of a point."""
        x, y = (value >> SHIFT for value in self._fixed(point))
        for color, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(
                self.image, text, (x + 9, y + 5), cv2.FONT_HERSHEY_SIMPLEX, size, color, width, cv2.LINE_AA
            )

    def box(self, low: Point, high: Point, color: tuple[int, int, int]) -> None:
        """The twelve edges of a box."""
        corners = [(x, y, z) for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])]
        for one, first in enumerate(corners):
            for bit in (1, 2, 4):
                if not one & bit:
                    self.line(first, corners[one | bit], color)

    def _fixed(self, point: Point) -> tuple[int, int]:
        x, y, _ = self.pixels(np.array(point))[0]
        return round(x * (1 << SHIFT)), round(y * (1 << SHIFT))


def write_picture(graph: SceneGraph, path: Path) -> None:
    """Write the picture, as the file's ending says.

    Raises:
        InputError: OpenCV knows no such format, or it cannot be written.
    """
    try:
        done, data = cv2.imencode(path.suffix, draw(graph)[..., ::-1], QUALITY)
    except cv2.error:
        done = False
    if not done:
        raise InputError(f"{path}: pictures are called *.jpg or *.png")
    write_atomically(path, data.tobytes())


def draw(graph: SceneGraph) -> NDArray[np.uint8]:
    """The picture, uint8 (1000, 1500, 3) RGB."""
    corners, colors = _visible(graph.mesh, graph.floor_m + CUT_M)
    nodes = [_lifted(room.position, 2) for room in graph.rooms]
    if graph.building is not None:
        nodes.append(_lifted(graph.building.position, 3))
    everything = np.concatenate([corners.reshape(-1, 3), np.array(nodes).reshape(-1, 3)])
    canvas = _Canvas(everything if len(everything) else np.eye(3))
    canvas.surface(corners, colors)
    _draw_objects(canvas, graph)
    _draw_places(canvas, graph)
    _draw_rooms(canvas, graph)
    return canvas.image


def _flattened(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """World to picture axes: right, down, towards the viewer."""
    x, y, z = points.T
    right = np.cos(TURN_RAD) * x - np.sin(TURN_RAD) * y
    deep = np.sin(TURN_RAD) * x + np.cos(TURN_RAD) * y
    down = -(np.sin(TILT_RAD) * deep + np.cos(TILT_RAD) * z)
    return np.stack([right, down, np.sin(TILT_RAD) * z - np.cos(TILT_RAD) * deep], axis=1)


def _visible(mesh: Mesh, cut_m: float) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Triangles of the mesh below a height, (N, 3, 3), and their colours."""
    mesh = light(mesh, MOST_FACES)
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    kept = corners[:, :, 2].max(axis=1) < cut_m
    return corners[kept], mesh.colors[mesh.faces[kept, 0]]


def _lifted(point: Point, layers: int) -> Point:
    return point[0], point[1], point[2] + layers * LIFT_M


def _draw_objects(canvas: _Canvas, graph: SceneGraph) -> None:
    places = {place.id: place for place in graph.places}
    for thing in graph.objects:
        color = graph.label_space.colors[thing.label]
        canvas.box(thing.low, thing.high, color)
        if thing.place is not None:
            canvas.line(thing.position, _lifted(places[thing.place].position, 1), (90, 90, 90))
    for thing in graph.objects:
        canvas.dot(thing.position, 4, graph.label_space.colors[thing.label])
    for thing in sorted(graph.objects, key=lambda one: -one.vertices)[:NAMED]:
        canvas.text(thing.position, graph.label_space.classes[thing.label], 0.4)


def _draw_places(canvas: _Canvas, graph: SceneGraph) -> None:
    places = {place.id: place for place in graph.places}
    rooms = {room.id: room for room in graph.rooms}
    for place in graph.places:
        if place.room is not None:
            dim = tuple(value // 2 for value in room_color(place.room))
            room = rooms[place.room]
            canvas.line(_lifted(place.position, 1), _lifted(room.position, 2), (dim[0], dim[1], dim[2]))
    for passage in graph.passages:
        first, second = places[passage.first].position, places[passage.second].position
        canvas.line(_lifted(first, 1), _lifted(second, 1), (230, 230, 230))
    for place in graph.places:
        canvas.dot(_lifted(place.position, 1), 4, room_color(place.room))


def _draw_rooms(canvas: _Canvas, graph: SceneGraph) -> None:
    rooms = {room.id: room for room in graph.rooms}
    for one, other in graph.doors:
        canvas.line(_lifted(rooms[one].position, 2), _lifted(rooms[other].position, 2), (255, 255, 255), 2)
    if graph.building is not None:
        top = _lifted(graph.building.position, 3)
        for room in graph.rooms:
            canvas.line(_lifted(room.position, 2), top, (150, 150, 150))
        canvas.dot(top, 12, NOWHERE)
        canvas.text(top, "building")
    for room in graph.rooms:
        canvas.dot(_lifted(room.position, 2), 9, room_color(room.id))
        canvas.text(_lifted(room.position, 2), room.name)
