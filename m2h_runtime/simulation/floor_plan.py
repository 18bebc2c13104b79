"""Rooms on both sides of a corridor, with doors and windows: the plan that an apartment is built from."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

WALL_M = 0.12
"""Thickness of every wall, metres."""

RoomKind = Literal["living", "bedroom", "kitchen", "bathroom", "office", "corridor"]
Side = Literal["south", "north", "west", "east"]
SIDES: tuple[Side, ...] = ("south", "north", "west", "east")
_WIDTHS: dict[str, tuple[float, float]] = {
    "living": (4.2, 5.6),
    "bedroom": (3.1, 4.2),
    "kitchen": (3.2, 4.4),
    "bathroom": (2.3, 2.9),
    "office": (2.9, 3.8),
}


@dataclass(frozen=True)
class Opening:
    """A hole in one wall of a room, or a window before it.

    Attributes:
        kind: "door" (with a leaf), "passage" (without), "entrance" (a closed door on an outer wall) or "window".
        side: which wall.
        start, end: along the wall, metres, world x (south, north) or y (west, east).
        low, high: metres above the floor.
    """

    kind: Literal["door", "passage", "entrance", "window"]
    side: Side
    start: float
    end: float
    low: float
    high: float


@dataclass(frozen=True)
class Room:
    """One room; its rectangle is the inner faces of its walls, world metres."""

    id: int
    kind: RoomKind
    x0: float
    y0: float
    x1: float
    y1: float
    height: float
    openings: tuple[Opening, ...]

    @property
    def size(self) -> tuple[float, float]:
        """Width along x and depth along y, metres."""
        return self.x1 - self.x0, self.y1 - self.y0

    def span(self, side: Side) -> tuple[float, float]:
        """Where a wall begins and ends, along itself."""
        return (self.x0, self.x1) if side in ("south", "north") else (self.y0, self.y1)

    def wall_at(self, side: Side) -> float:
        """The wall's inner face: y of south and north, x of west and east."""
        return {"south": self.y0, "north": self.y1, "west": self.x0, "east": self.x1}[side]


def inward(side: Side) -> tuple[float, float]:
    """Unit vector (x, y) from a wall into its room."""
    return {"south": (0.0, 1.0), "north": (0.0, -1.0), "west": (1.0, 0.0), "east": (-1.0, 0.0)}[side]


def draw_plan(rng: np.random.Generator) -> tuple[Room, ...]:
    """Five or six rooms and their corridor, the corridor last.

    Every plan has a living room, a bedroom, a kitchen, a bathroom and an office, in any order.
    """
    kinds: list[RoomKind] = ["living", "bedroom", "kitchen", "bathroom", "office"]
    if rng.random() < 0.5:
        kinds.append("bedroom")
    rng.shuffle(kinds)
    half = len(kinds) // 2
    rows = kinds[:half], kinds[half:]
    wanted = [[rng.uniform(*_WIDTHS[kind]) for kind in row] for row in rows]
    width = max(sum(row) for row in wanted)
    south, north = rng.uniform(3.3, 4.6), rng.uniform(3.3, 4.6)
    corridor, height = rng.uniform(1.25, 1.8), rng.uniform(2.45, 2.85)
    entrance: Side = "west" if rng.random() < 0.5 else "east"
    rooms: list[Room] = []
    doors: list[Opening] = []
    depths: tuple[tuple[float, float, Side], ...] = (
        (0.0, south, "north"),
        (south + corridor, south + corridor + north, "south"),
    )
    for row, widths, (bottom, top, inner) in zip(rows, wanted, depths, strict=True):
        other: Side = "south" if inner == "north" else "north"
        edges = np.concatenate([[0.0], np.cumsum(widths) * width / sum(widths)])
        for kind, (left, right) in zip(row, pairwise(edges.tolist()), strict=True):
            room = _room(rng, len(rooms), kind, (left, bottom, right, top), height, inner)
            rooms.append(room)
            doors += [
                Opening("passage", other, o.start, o.end, o.low, o.high)
                for o in room.openings
                if o.kind != "window"
            ]
    y0, y1 = south + WALL_M / 2, south + corridor - WALL_M / 2
    middle = (y0 + y1) / 2
    doors.append(Opening("entrance", entrance, middle - 0.45, middle + 0.45, 0.0, 2.05))
    rooms.append(Room(len(rooms), "corridor", WALL_M / 2, y0, width - WALL_M / 2, y1, height, tuple(doors)))
    return tuple(rooms)


def _room(
    rng: np.random.Generator,
    number: int,
    kind: RoomKind,
    rectangle: Sequence[float],
    height: float,
    inner: Side,
) -> Room:
    x0, y0, x1, y1 = rectangle
    x0, y0, x1, y1 = x0 + WALL_M / 2, y0 + WALL_M / 2, x1 - WALL_M / 2, y1 - WALL_M / 2
    outer: Side = "south" if inner == "north" else "north"
    wide = kind == "living" and rng.random() < 0.4
    door = rng.uniform(1.5, 2.0) if wide else rng.uniform(0.88, 1.0)
    start = float(rng.uniform(x0 + 0.15, x1 - door - 0.15))
    openings = [Opening("passage" if wide else "door", inner, start, start + float(door), 0.0, 2.05)]
    glass = float(min(rng.uniform(0.6, 1.0) if kind == "bathroom" else rng.uniform(1.0, 2.0), x1 - x0 - 0.6))
    tall = float(rng.uniform(0.6, 0.8) if kind == "bathroom" else rng.uniform(1.0, 1.4))
    left, high = float(rng.uniform(x0 + 0.3, x1 - glass - 0.3)), height - 0.25
    openings.append(Opening("window", outer, left, left + glass, high - tall, high))
    return Room(number, kind, x0, y0, x1, y1, height, tuple(openings))
