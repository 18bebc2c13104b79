"""Which things a room holds and where they go: against walls, on walls, about a table, on top of others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from m2h_runtime.simulation import furniture as f
from m2h_runtime.simulation.floor_plan import SIDES, Opening, Room, Side, inward
from m2h_runtime.simulation.light import Light

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from m2h_runtime.simulation.palette import Palette
    from m2h_runtime.simulation.solids import Model

    Maker = Callable[[Palette], Model]

_TRIES = 24
_LAMPS = {"ceiling_lamp": 1.0, "floor_lamp": 0.4, "table_lamp": 0.2}


@dataclass(frozen=True)
class Item:
    """A model where it stands. `low` and `high` are its axis-aligned box in the world."""

    kind: str
    model: Model
    position: tuple[float, float, float]
    angle: float
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def lights(self, room: int, palette: Palette) -> list[Light]:
        """The light it gives, if it gives any."""
        if self.kind not in _LAMPS:
            return []
        rng = palette.rng
        warm = rng.uniform(0, 1)
        color = np.array([1.0, 0.93 - 0.14 * warm, 0.85 - 0.35 * warm])
        strength = _LAMPS[self.kind] * rng.uniform(0.6, 1.4)
        drop = 0.2 if self.kind == "ceiling_lamp" else -0.15
        low, high = self.low, self.high
        at = np.array([*(low[:2] + high[:2]) / 2, (low[2] if drop > 0 else high[2]) - drop])
        return [Light(at, np.full(3, 0.08), color * strength, np.zeros(3), room)]


class Furnisher:
    """Places things in one room without overlap, and keeps the ways to its doors free."""

    def __init__(self, room: Room, palette: Palette) -> None:
        self.room, self.palette, self.rng = room, palette, palette.rng
        self.items: list[Item] = []
        self._taken: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
        for opening in room.openings:
            self._keep_free(opening)

    def _keep_free(self, opening: Opening) -> None:
        """Doors need room to swing and to pass, windows only their own depth."""
        depth = 0.14 if opening.kind == "window" else 1.0 if opening.kind != "entrance" else 0.8
        if self.room.kind == "corridor" and opening.kind == "passage":
            depth = 0.35
        nx, ny = inward(opening.side)
        wall, pad = self.room.wall_at(opening.side), 0.0 if opening.kind == "window" else 0.12
        along = (opening.start - pad, opening.end + pad)
        across = sorted((wall - 0.02 * (nx + ny), wall + depth * (nx + ny)))
        x, y = (along, across) if opening.side in ("south", "north") else (across, along)
        self._taken.append((np.array([x[0], y[0], opening.low]), np.array([x[1], y[1], opening.high])))

    def _fits(self, low: NDArray[np.float64], high: NDArray[np.float64], gap: float) -> bool:
        room = self.room
        inside = (
            low[0] >= room.x0 - 0.02
            and low[1] >= room.y0 - 0.02
            and high[0] <= room.x1 + 0.02
            and high[1] <= room.y1 + 0.02
        )
        reach = np.array([gap, gap, 0.0])
        return inside and not any(
            bool(np.all(low - reach < other_high - 0.005) and np.all(high + reach > other_low + 0.005))
            for other_low, other_high in self._taken
        )

    def put(
        self, kind: str, model: Model, position: NDArray[np.float64], angle: float, gap: float
    ) -> Item | None:
        """Exactly there, if it fits with `gap` metres to what stands already; None if it does not."""
        c, s = np.cos(angle), np.sin(angle)
        bounds = model.bounds
        corners = np.array([(x, y) for x in bounds[:, 0] for y in bounds[:, 1]]) @ np.array([[c, s], [-s, c]])
        low = np.array([*corners.min(axis=0), bounds[0, 2]]) + position
        high = np.array([*corners.max(axis=0), bounds[1, 2]]) + position
        if not self._fits(low, high, gap):
            return None
        x, y, z = (float(value) for value in position)
        item = Item(kind, model, (x, y, z), angle, low, high)
        self.items.append(item)
        self._taken.append((low, high))
        return item

    def against_wall(
        self, make: Maker, *, count: int = 1, gap: float = 0.04, side: Side | None = None
    ) -> Item | None:
        """Back to a wall, front to the room; gives up quietly where there is no space. Returns the last one."""
        item = None
        for _ in range(count):
            model = make(self.palette)
            item = self._along_walls(make.__name__, model, 0.0, gap, side)
        return item

    def on_wall(self, make: Maker, low: float, high: float, *, count: int = 1, gap: float = 0.12) -> None:
        """Hung at a height between `low` and `high` metres (of the model's origin)."""
        for _ in range(count):
            model = make(self.palette)
            self._along_walls(make.__name__, model, float(self.rng.uniform(low, high)), gap, None)

    def _along_walls(self, kind: str, model: Model, z: float, gap: float, only: Side | None) -> Item | None:
        bounds = model.bounds
        back, half = float(bounds[1, 1]), float(bounds[1, 0] - bounds[0, 0]) / 2
        for _ in range(_TRIES):
            side = only or SIDES[int(self.rng.integers(4))]
            start, end = self.room.span(side)
            if end - start < 2 * half + 0.1:
                continue
            along = float(self.rng.uniform(start + half + 0.03, end - half - 0.03))
            nx, ny = inward(side)
            wall = self.room.wall_at(side)
            at = (
                (along, wall + ny * (back + 0.015))
                if side in ("south", "north")
                else (wall + nx * (back + 0.015), along)
            )
            item = self.put(kind, model, np.array([*at, z]), float(np.arctan2(nx, -ny)), gap)
            if item:
                return item
        return None

    def free(self, make: Maker, *, gap: float = 0.45, angle: float | None = None) -> Item | None:
        """In the open, away from the walls."""
        model, room = make(self.palette), self.room
        for _ in range(_TRIES):
            position = np.array(
                [*self.rng.uniform((room.x0 + 0.6, room.y0 + 0.6), (room.x1 - 0.6, room.y1 - 0.6)), 0.0]
            )
            turn = float(self.rng.choice([0, np.pi / 2]) if angle is None else angle) + float(
                self.rng.normal(0, 0.03)
            )
            if item := self.put(make.__name__, model, position, turn, gap):
                return item
        return None

    def before(
        self, other: Item, make: Maker, distance: float, *, towards: bool = False, sideways: float = 0.0
    ) -> Item | None:
        """In front of another thing, facing the same way or (`towards`) back at it."""
        model = make(self.palette)
        ahead = np.array([np.sin(other.angle), -np.cos(other.angle), 0.0])
        aside = np.array([np.cos(other.angle), np.sin(other.angle), 0.0])
        deep = float(-other.model.bounds[0, 1]) + distance + float(model.bounds[1, 1])
        at = np.array(other.position) + ahead * deep + aside * sideways
        turn = other.angle + (np.pi if towards else 0.0) + float(self.rng.normal(0, 0.08))
        return self.put(make.__name__, model, at, turn, 0.0)

    def beside(self, other: Item, make: Maker) -> None:
        """Next to another thing at the same wall, on one side or on both."""
        for sign in (-1, 1):
            model = make(self.palette)
            along = sign * float(other.model.bounds[1, 0] + model.bounds[1, 0] + 0.06)
            back = float(other.model.bounds[1, 1] - model.bounds[1, 1])
            c, s = np.cos(other.angle), np.sin(other.angle)
            shift = np.array([c * along - s * back, s * along + c * back, 0.0])
            self.put(make.__name__, model, np.array(other.position) + shift, other.angle, 0.0)

    def around(self, table: Item, make: Maker) -> None:
        """Seats along the two long sides of a table, turned to it."""
        width, depth = table.model.bounds[1, 0] * 2, table.model.bounds[1, 1] * 2
        for side in (-1, 1):
            for place in (-0.25, 0.25) if width > 1.0 else (0.0,):
                if self.rng.random() < 0.12:
                    continue
                model = make(self.palette)
                x, y = place * width, side * (depth / 2 + self.rng.uniform(0.05, 0.25))
                c, s = np.cos(table.angle), np.sin(table.angle)
                at = np.array(table.position) + np.array((c * x - s * y, s * x + c * y, 0.0))
                turn = table.angle + (0.0 if side > 0 else np.pi) + float(self.rng.normal(0, 0.12))
                self.put(make.__name__, model, at, turn, -0.1)

    def on_top(self, other: Item | None, make: Maker, *, chance: float = 1.0) -> None:
        """Standing on another thing's upper side."""
        if other is None or self.rng.random() > chance:
            return
        bounds, top = other.model.bounds, float(other.model.bounds[1, 2])
        x, y = self.rng.uniform(-0.55, 0.55, 2) * bounds[1, :2]
        c, s = np.cos(other.angle), np.sin(other.angle)
        at = np.array(other.position) + np.array((c * x - s * y, s * x + c * y, top + 0.001))
        self.put(make.__name__, make(self.palette), at, other.angle + float(self.rng.uniform(-0.6, 0.6)), 0.0)

    def lie_under(self, make: Maker) -> None:
        """A rug: may lie under furniture, so it takes no place."""
        model, room = make(self.palette), self.room
        width, depth = room.size
        x = room.x0 + width / 2 + float(self.rng.uniform(-0.1, 0.1)) * width
        y = room.y0 + depth / 2 + float(self.rng.uniform(-0.1, 0.1)) * depth
        taken = list(self._taken)
        self._taken.clear()
        self.put(make.__name__, model, np.array([x, y, 0.001]), 0.0, 0.0)
        self._taken = taken

    def ceiling_light(self, at: float = 0.5) -> None:
        """Under the ceiling, `at` of the way along the room."""
        room = self.room
        x, y = room.x0 + at * (room.x1 - room.x0), (room.y0 + room.y1) / 2
        self.put("ceiling_lamp", f.ceiling_lamp(self.palette), np.array([x, y, room.height]), 0.0, -1.0)

    def curtains(self) -> None:
        """Left and right of every window."""
        for opening in self.room.openings:
            if opening.kind != "window" or self.rng.random() < 0.25:
                continue
            nx, ny = inward(opening.side)
            height = opening.high + 0.1
            for along in (opening.start - 0.05, opening.end + 0.05):
                wall = self.room.wall_at(opening.side)
                model = f.curtain(self.palette, height - 0.06)
                at = np.array([along, wall + 0.15 * ny, 0.06])
                x0, x1 = at[0] + model.bounds[:, 0]
                if x0 > self.room.x0 and x1 < self.room.x1:
                    item = Item(
                        "curtain",
                        model,
                        (float(at[0]), float(at[1]), 0.06),
                        float(np.arctan2(nx, -ny)),
                        at + np.array((-0.3, -0.08, 0)),
                        at + np.array((0.3, 0.08, height)),
                    )
                    self.items.append(item)
                    self._taken.append((item.low, item.high))


def _living(r: Furnisher) -> None:
    sofa = r.against_wall(f.sofa)
    if sofa:
        table = r.before(sofa, f.coffee_table, float(r.rng.uniform(0.3, 0.45)))
        r.on_top(table, f.book_stack, chance=0.8)
        r.on_top(table, f.small_plant, chance=0.4)
    r.lie_under(f.rug)
    r.against_wall(f.television)
    r.curtains()
    r.against_wall(f.bookshelf, count=int(r.rng.integers(1, 3)))
    r.against_wall(f.armchair)
    r.against_wall(f.plant, count=int(r.rng.integers(1, 3)), gap=0.1)
    r.against_wall(f.floor_lamp, gap=0.1)
    r.on_wall(f.wall_shelf, 1.45, 1.6, count=1)
    r.on_wall(f.picture, 1.5, 1.75, count=int(r.rng.integers(2, 5)))
    r.against_wall(f.bag, gap=0.1)


def _bedroom(r: Furnisher) -> None:
    bed = r.against_wall(f.bed)
    if bed:
        r.beside(bed, f.night_stand)
    r.curtains()
    r.against_wall(f.wardrobe, gap=0.1)
    dresser = r.against_wall(f.dresser)
    r.on_top(dresser, f.book_stack, chance=0.6)
    r.on_top(dresser, f.table_lamp, chance=0.5)
    r.lie_under(f.rug)
    chair = r.against_wall(f.chair if r.rng.random() < 0.6 else f.armchair)
    r.against_wall(f.laundry, gap=0.1) if chair is None else None
    r.against_wall(f.plant, gap=0.1)
    r.against_wall(f.bag if r.rng.random() < 0.5 else f.carton, gap=0.1)
    r.on_wall(f.clothes, 0.85, 1.0)
    r.on_wall(f.picture, 1.5, 1.75, count=int(r.rng.integers(1, 4)))
    r.on_wall(f.mirror, 1.4, 1.55)


def _kitchen(r: Furnisher) -> None:
    longest = max(r.room.size)
    length = float(min(r.rng.uniform(1.8, 2.8), longest - 0.4))

    def kitchen_run(palette: Palette) -> Model:
        return f.kitchen_run(palette, length)

    r.against_wall(kitchen_run, gap=0.0)
    r.against_wall(f.fridge, gap=0.02)
    table = r.free(f.table, gap=0.5)
    if table:
        r.around(table, f.chair)
        r.on_top(table, f.small_plant, chance=0.5)
        r.on_top(table, f.papers, chance=0.5)
    r.curtains()
    r.on_wall(f.wall_shelf, 1.45, 1.6)
    r.against_wall(f.plant, gap=0.1)
    r.against_wall(f.carton, gap=0.1)
    r.on_wall(f.towel, 0.8, 1.0)
    r.on_wall(f.picture, 1.5, 1.7, count=2)


def _bathroom(r: Furnisher) -> None:
    r.against_wall(f.bathtub, gap=0.0)
    r.against_wall(f.toilet, gap=0.15)
    basin = r.against_wall(f.wash_basin, gap=0.08)
    if basin:
        glass = f.mirror(r.palette)
        ahead = np.array([np.sin(basin.angle), -np.cos(basin.angle), 0.0])
        at = np.array(basin.position) - ahead * float(basin.model.bounds[1, 1] + 0.01) + np.array((0, 0, 1.5))
        r.put("mirror", glass, at, basin.angle, 0.0)
    r.on_wall(f.towel, 0.7, 1.1, count=int(r.rng.integers(2, 4)))
    r.against_wall(f.small_plant, gap=0.1)
    r.against_wall(f.laundry, gap=0.1)
    r.lie_under(f.rug) if min(r.room.size) > 2.4 else None


def _office(r: Furnisher) -> None:
    desk = r.against_wall(f.desk)
    if desk:
        r.before(desk, f.office_chair, float(r.rng.uniform(0.0, 0.15)), towards=True)
    r.against_wall(f.bookshelf, count=int(r.rng.integers(1, 3)))
    r.curtains()
    r.on_wall(f.whiteboard, 1.4, 1.55)
    r.on_wall(f.wall_shelf, 1.45, 1.6)
    cabinet = r.against_wall(f.dresser)
    r.on_top(cabinet, f.carton, chance=0.5)
    r.on_top(cabinet, f.small_plant, chance=0.5)
    r.against_wall(f.carton, count=2, gap=0.05)
    r.against_wall(f.plant, gap=0.1)
    r.against_wall(f.floor_lamp, gap=0.1)
    r.against_wall(f.armchair if r.rng.random() < 0.5 else f.chair)
    r.on_wall(f.picture, 1.5, 1.7, count=2)
    r.lie_under(f.rug)


def _corridor(r: Furnisher) -> None:
    r.on_wall(f.clothes, 0.85, 1.0)
    r.against_wall(f.night_stand, gap=0.1)
    r.on_wall(f.mirror, 1.4, 1.55)
    r.on_wall(f.picture, 1.5, 1.7, count=int(r.rng.integers(2, 5)))
    r.against_wall(f.small_plant, gap=0.1)
    r.against_wall(f.bag, gap=0.05)


_ROOMS: dict[str, Callable[[Furnisher], None]] = {
    "living": _living,
    "bedroom": _bedroom,
    "kitchen": _kitchen,
    "bathroom": _bathroom,
    "office": _office,
    "corridor": _corridor,
}


def furnish(room: Room, palette: Palette) -> list[Item]:
    """Everything in a room, lights included."""
    furnisher = Furnisher(room, palette)
    if room.kind == "corridor":
        furnisher.ceiling_light(0.25)
        furnisher.ceiling_light(0.75)
    else:
        furnisher.ceiling_light()
    _ROOMS[room.kind](furnisher)
    return furnisher.items
