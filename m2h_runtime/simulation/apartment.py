"""A whole apartment from one seed: mesh, materials, lights, and the true scene graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from m2h_runtime.simulation.floor_plan import Room, draw_plan, inward
from m2h_runtime.simulation.furnishing import furnish
from m2h_runtime.simulation.light import Light
from m2h_runtime.simulation.materials import Atlas, Material
from m2h_runtime.simulation.palette import Palette
from m2h_runtime.simulation.shell import build_shell
from m2h_runtime.simulation.solids import rotation_z

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_runtime.simulation.solids import Model


@dataclass(frozen=True)
class SceneObject:
    """A node of the true scene graph.

    Attributes:
        id: counts from 1; `Apartment.face_object` refers to it, 0 is the building itself.
        kind: what it is, e.g. "office_chair".
        label: NYUv2-40 class id.
        room: id of its room.
        low, high: corners of its axis-aligned box, world metres.
    """

    id: int
    kind: str
    label: int
    room: int
    low: tuple[float, float, float]
    high: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Apartment:
    """Triangles with a material, a label and an object each, and what a robot should find out about them.

    World frame: x and y horizontal, z up, metres; the floor is z = 0.

    Attributes:
        seed: everything follows from it.
        vertices: (V, 3) float32.
        faces: (F, 3) int32.
        face_material, face_object: (F,) int32.
        face_label: (F,) uint8, NYUv2-40 ids.
        face_u, face_v: (F, 3) float32, unit axes of the texture plane; face_shift: (F, 2) float32, metres.
        materials: `face_material` indexes them.
        rooms: the corridor last.
        objects: nodes of the true scene graph, by id from 1.
        lights: lamps and windows.
        atlas: textures of the materials.
    """

    seed: int
    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]
    face_material: NDArray[np.int32]
    face_label: NDArray[np.uint8]
    face_object: NDArray[np.int32]
    face_u: NDArray[np.float32]
    face_v: NDArray[np.float32]
    face_shift: NDArray[np.float32]
    materials: tuple[Material, ...]
    rooms: tuple[Room, ...]
    objects: tuple[SceneObject, ...]
    lights: tuple[Light, ...]
    atlas: Atlas = field(repr=False)

    @property
    def ceiling(self) -> float:
        """Height of the rooms, metres."""
        return self.rooms[0].height


def build_apartment(seed: int) -> Apartment:
    """Draw the plan, build the walls, furnish the rooms."""
    rng = np.random.default_rng((0x4D3248, seed))
    palette = Palette(rng)
    rooms = draw_plan(rng)
    mesh = MeshBuilder(rng)
    lights: list[Light] = []
    for room in rooms:
        for model, object_kind in build_shell(room, palette):
            mesh.add(model, (0.0, 0.0, 0.0), 0.0, object_kind, room.id)
        for item in furnish(room, palette):
            mesh.add(item.model, item.position, item.angle, item.kind, room.id)
            lights += item.lights(room.id, palette)
        lights += _daylight(room, palette)
    return mesh.finish(seed, rooms, tuple(lights))


def _daylight(room: Room, palette: Palette) -> list[Light]:
    """Windows shine into their room, as strongly as the weather has it."""
    lights = []
    for opening in room.openings:
        if opening.kind != "window":
            continue
        width, height = opening.end - opening.start, opening.high - opening.low
        nx, ny = inward(opening.side)
        middle, wall = (opening.start + opening.end) / 2, room.wall_at(opening.side) + 0.2 * ny
        sky = np.array([0.9, 0.97, 1.08]) * palette.rng.uniform(0.3, 2.2) * width * height
        extent = np.array([width / 2, 0.02, height / 2])
        at = np.array([middle, wall, (opening.low + opening.high) / 2])
        lights.append(Light(at, extent, sky, np.array([nx, ny, 0.0]), room.id))
    return lights


class MeshBuilder:
    """Collects models into one triangle mesh with per-face attributes."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._materials: dict[Material, int] = {}
        self._parts: list[tuple[NDArray[np.float64], ...]] = []
        self._faces: list[NDArray[np.int64]] = []
        self._count = 0
        self._objects: list[SceneObject] = []

    def add(
        self,
        model: Model,
        position: tuple[float, float, float],
        angle: float,
        kind: str | None,
        room: int,
    ) -> None:
        """Set a model down; one scene object per label in it, or none if it has no `kind`."""
        turn = rotation_z(angle)
        shift = self._rng.random(2) * 3
        bounds: dict[int, list[NDArray[np.float64]]] = {}
        first = len(self._objects) + 1
        labels = list(dict.fromkeys(piece.label for piece in model.pieces)) if kind else []
        for piece in model.pieces:
            local = piece.vertices[piece.faces]  # (F, 3 corners, 3)
            u, v = _box_mapping(local)
            world = piece.vertices @ turn.T + position
            number = first + labels.index(piece.label) if kind else 0
            material = self._materials.setdefault(piece.material, len(self._materials))
            ones = np.ones(len(piece.faces))
            u_world, v_world = u @ turn.T, v @ turn.T
            at = np.array(position)
            moved = shift - np.stack([u_world @ at, v_world @ at], axis=1)
            self._parts.append(
                (world, material * ones, piece.label * ones, number * ones, u_world, v_world, moved)
            )
            self._faces.append(piece.faces + self._count)
            self._count += len(world)
            bounds.setdefault(piece.label, []).append(world)
        for label in labels:
            every = np.concatenate(bounds[label])
            name = kind if label == model.label else f"{kind}/{label}"
            low, high = every.min(axis=0), every.max(axis=0)
            self._objects.append(
                SceneObject(
                    len(self._objects) + 1, str(name), label, room, tuple(low.tolist()), tuple(high.tolist())
                )
            )

    def finish(self, seed: int, rooms: tuple[Room, ...], lights: tuple[Light, ...]) -> Apartment:
        """The apartment; the builder is spent."""
        columns = [np.concatenate(part) for part in zip(*self._parts, strict=True)]
        vertices, material, label, number, u, v, shift = columns
        materials = tuple(self._materials)
        return Apartment(
            seed,
            vertices.astype(np.float32),
            np.concatenate(self._faces).astype(np.int32),
            material.astype(np.int32),
            label.astype(np.uint8),
            number.astype(np.int32),
            u.astype(np.float32),
            v.astype(np.float32),
            shift.astype(np.float32),
            materials,
            rooms,
            tuple(self._objects),
            lights,
            Atlas(list(materials)),
        )


def _box_mapping(corners: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Texture axes of triangles (F, 3, 3) by the side of a box that each faces most: upright on walls."""
    normal = np.abs(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))
    side = normal.argmax(axis=1)
    eye = np.eye(3)
    return eye[np.array([1, 0, 0])[side]], eye[np.array([2, 2, 1])[side]]
