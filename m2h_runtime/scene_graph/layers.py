"""What a scene graph holds: plain data, layer by layer, in the world frame (z up, metres)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from m2h_runtime.label_space import LabelSpace
    from m2h_runtime.mapping.mesh import Mesh

Point = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Object:
    """A thing.

    Attributes:
        id: stays with it from update to update.
        label: class id.
        name: class and number, as in "chair 3".
        low, high: corners of its axis-aligned box.
        position: centre of its vertices.
        vertices: how many of the mesh's it has.
        room: id of the room that it is in; None: of none.
        place: id of the nearest place; None: there is none.
    """

    id: int
    label: int
    name: str
    low: Point
    high: Point
    position: Point
    vertices: int
    room: int | None = None
    place: int | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Free floor around a point.

    Attributes:
        id: stays with it while it is there.
        position: at body height.
        clearance_m: to the nearest obstacle or unknown space, along the floor.
        room: id of its room; None: of none.
    """

    id: int
    position: Point
    clearance_m: float
    room: int | None = None


@dataclass(frozen=True, slots=True)
class Passage:
    """Two places that one can go between.

    Attributes:
        first, second: their ids.
        clearance_m: at the narrowest point between them.
    """

    first: int
    second: int
    clearance_m: float


@dataclass(frozen=True, slots=True)
class Room:
    """Places that belong together.

    Attributes:
        id: stays with it from update to update.
        name: "room" and its number.
        low, high: corners of the box around its floor, up to the ceiling.
        position: of its most open place.
        area_m2: of its known free floor.
    """

    id: int
    name: str
    low: Point
    high: Point
    position: Point
    area_m2: float


@dataclass(frozen=True, slots=True)
class Building:
    """All rooms together."""

    position: Point
    low: Point
    high: Point


@dataclass(frozen=True, eq=False)
class SceneGraph:
    """One state of the graph. Ids count from 0 in each layer.

    Attributes:
        stamp_ns: of the newest image in it.
        label_space: of the objects' labels.
        mesh: the surface.
        objects, places, rooms: the nodes.
        passages: between places.
        doors: pairs of rooms that a passage joins, the smaller id first.
        building: None while there is no room.
    """

    stamp_ns: int
    label_space: LabelSpace
    mesh: Mesh
    objects: tuple[Object, ...] = ()
    places: tuple[Place, ...] = ()
    passages: tuple[Passage, ...] = ()
    rooms: tuple[Room, ...] = ()
    doors: tuple[tuple[int, int], ...] = ()
    building: Building | None = None
    floor_m: float = field(default=0.0)
    """Height of the floor."""
