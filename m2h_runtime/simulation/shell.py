"""The building itself: floors, ceilings, walls with their openings, doors and windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from m2h_runtime.simulation import furniture as f
from m2h_runtime.simulation.floor_plan import SIDES, WALL_M, Opening, Room, Side, inward
from m2h_runtime.simulation.solids import Model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from m2h_runtime.simulation.materials import Material
    from m2h_runtime.simulation.palette import Palette


def build_shell(room: Room, palette: Palette) -> Iterator[tuple[Model, str | None]]:
    """The models that make up a room, in world coordinates, and the kind of those that are objects."""
    wet = room.kind in ("bathroom", "kitchen")
    wall = palette.tiles() if room.kind == "bathroom" else palette.paint()
    accent = palette.paint() if palette.rng.random() < 0.3 else wall
    model = Model(f.WALL)
    _slab(model, room, 0.0, palette.floor(wet=wet), f.FLOOR)
    _slab(model, room, room.height, palette.ceiling(), f.CEILING)
    accent_side = SIDES[int(palette.rng.integers(4))]
    trim = palette.wood()
    for side in SIDES:
        _wall(model, room, side, accent if side == accent_side else wall)
        if room.kind != "bathroom":
            _skirting(model, room, side, trim)
    yield model, None
    for opening in room.openings:
        # The corridor's passages are the other side of the rooms' doors, which have a frame already.
        if opening.kind == "door" or (opening.kind == "passage" and room.kind != "corridor"):
            yield _frame(room, opening, palette), "door_frame"
        if opening.kind in ("door", "entrance"):
            yield _leaf(room, opening, palette), "door"
        if opening.kind == "window":
            yield _window(room, opening, palette), "window"


def _slab(model: Model, room: Room, z: float, material: Material, label: int) -> None:
    """A horizontal rectangle, out to the middle of the walls, so that thresholds are closed too."""
    half = WALL_M / 2
    x0, y0, x1, y1 = room.x0 - half, room.y0 - half, room.x1 + half, room.y1 + half
    model.add([(x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)], [(0, 1, 2), (0, 2, 3)], material, label)


def _holes(room: Room, side: Side) -> list[Opening]:
    """What is cut out of a wall: windows and the entrance are set before it instead."""
    return sorted(
        (o for o in room.openings if o.side == side and o.kind in ("door", "passage")), key=lambda o: o.start
    )


def _wall(model: Model, room: Room, side: Side, material: Material) -> None:
    start, end = room.span(side)
    at = start
    for hole in _holes(room, side):
        _panel(model, room, side, (at, hole.start), (0.0, room.height), material)
        _panel(model, room, side, (hole.start, hole.end), (hole.high, room.height), material)
        at = hole.end
    _panel(model, room, side, (at, end), (0.0, room.height), material)


def _panel(
    model: Model,
    room: Room,
    side: Side,
    along: tuple[float, float],
    z: tuple[float, float],
    material: Material,
) -> None:
    wall = room.wall_at(side)
    corners = [(s, height) for height in z for s in along]
    vertices = [(s, wall, h) if side in ("south", "north") else (wall, s, h) for s, h in corners]
    model.add(vertices, [(0, 1, 3), (0, 3, 2)], material, f.WALL)


def _skirting(model: Model, room: Room, side: Side, material: Material) -> None:
    start, end = room.span(side)
    edges = [start, *(e for hole in _holes(room, side) for e in (hole.start - 0.06, hole.end + 0.06)), end]
    nx, ny = inward(side)
    for low, high in zip(edges[::2], edges[1::2], strict=True):
        middle, wall = (low + high) / 2, room.wall_at(side)
        if side in ("south", "north"):
            model.box((middle, wall + 0.006 * ny, 0.04), (high - low, 0.012, 0.08), material)
        else:
            model.box((wall + 0.006 * nx, middle, 0.04), (0.012, high - low, 0.08), material)


def _frame(room: Room, opening: Opening, palette: Palette) -> Model:
    """Lining of the hole and an architrave on both sides; doors open to the corridor, so walls run along x."""
    wood, model = palette.wood(), Model(f.DOOR)
    _, ny = inward(opening.side)
    y = room.wall_at(opening.side) - ny * WALL_M / 2
    deep, high = WALL_M + 0.03, opening.high
    for x in (opening.start, opening.end):
        model.box((x, y, high / 2), (0.03, deep, high), wood)
        model.box((x, y, high / 2), (0.12, deep - 0.012, high), wood)
    middle, width = (opening.start + opening.end) / 2, opening.end - opening.start
    model.box((middle, y, high + 0.03), (width + 0.12, deep, 0.07), wood)
    return model


def _leaf(room: Room, opening: Opening, palette: Palette) -> Model:
    rng = palette.rng
    width = opening.end - opening.start - 0.03
    leaf = f.door_leaf(palette, width, opening.high)
    model = Model(f.DOOR)
    if opening.kind == "entrance":
        x = room.wall_at(opening.side) + 0.025 * inward(opening.side)[0]
        model.box((x, (opening.start + opening.end) / 2, 1.06), (0.04, width + 0.2, 2.12), palette.wood())
        return model.include(leaf, (x + 0.02 * inward(opening.side)[0], opening.start, 0), np.pi / 2)
    _, ny = inward(opening.side)
    left = rng.random() < 0.5
    x = opening.start + 0.03 if left else opening.end - 0.03
    swing = rng.uniform(1.25, 1.75) * ny
    return model.include(leaf, (x, room.wall_at(opening.side), 0), swing if left else np.pi - swing)


def _window(room: Room, opening: Opening, palette: Palette) -> Model:
    width, height = opening.end - opening.start, opening.high - opening.low
    pane = f.window(palette, width, height)
    nx, ny = inward(opening.side)
    at = ((opening.start + opening.end) / 2, room.wall_at(opening.side), (opening.low + opening.high) / 2)
    return Model(f.WINDOW).include(pane, at, float(np.arctan2(nx, -ny)))
