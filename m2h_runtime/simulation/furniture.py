"""What stands, lies and hangs in a home. Every function builds one `Model` of random proportions."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from m2h_runtime.simulation.materials import Material, Pattern, hsv, shade
from m2h_runtime.simulation.solids import Model, rotation_x, rotation_z

if TYPE_CHECKING:
    from m2h_runtime.simulation.palette import Palette

# NYUv2-40 ids.
WALL, FLOOR, CABINET, BED, CHAIR, SOFA = 1, 2, 3, 4, 5, 6
TABLE, DOOR, WINDOW, BOOKSHELF, PICTURE, COUNTER = 7, 8, 9, 10, 11, 12
BLINDS, DESK, SHELVES, CURTAIN, DRESSER, PILLOW = 13, 14, 15, 16, 17, 18
MIRROR, FLOOR_MAT, CLOTHES, CEILING, BOOKS, REFRIGERATOR = 19, 20, 21, 22, 23, 24
TELEVISION, PAPER, TOWEL, SHOWER_CURTAIN, BOX, WHITEBOARD = 25, 26, 27, 28, 29, 30
NIGHT_STAND, TOILET, SINK, LAMP, BATHTUB, BAG = 32, 33, 34, 35, 36, 37
PLANT = 40  # "other prop", which is what NYUD20 calls plant


def _legs(model: Model, width: float, depth: float, height: float, thick: float, material: Material) -> None:
    for x in (-1, 1):
        for y in (-1, 1):
            at = x * (width / 2 - thick), y * (depth / 2 - thick)
            model.block(*at, 0, (thick, thick, height), material)


def bed(p: Palette) -> Model:
    """Frame, mattress, headboard, blanket, pillows."""
    rng = p.rng
    width, depth = float(rng.choice([0.95, 1.4, 1.7])), rng.uniform(1.95, 2.1)
    frame, height = p.wood(), rng.uniform(0.25, 0.38)
    model = Model(BED)
    model.block(0, 0, 0.05, (width, depth, height - 0.05), frame)
    model.cushion((0, 0, height + 0.08), (width - 0.04, depth - 0.06, 0.24), p.linen(), roundness=0.15)
    model.block(0, depth / 2 - 0.03, 0, (width, 0.06, rng.uniform(0.75, 1.1)), frame)
    cover = rng.uniform(0.55, 0.75) * depth
    model.cushion(
        (0, -(depth - cover) / 2, height + 0.12), (width + 0.06, cover, 0.26), p.fabric(), roundness=0.16
    )
    count = 2 if width > 1.2 else 1
    pillow = p.linen()
    for i in range(count):
        x = (i - (count - 1) / 2) * width / count
        model.cushion(
            (x, depth / 2 - 0.32, height + 0.27),
            (0.62, 0.4, 0.17),
            pillow,
            PILLOW,
            roundness=0.6,
            rotation=rotation_x(0.25),
        )
    return model


def chair(p: Palette) -> Model:
    """A dining chair: legs, seat, back."""
    rng = p.rng
    width, depth, seat = rng.uniform(0.4, 0.5), rng.uniform(0.4, 0.5), rng.uniform(0.43, 0.48)
    wood, thick, top = p.wood(), rng.uniform(0.03, 0.045), rng.uniform(0.8, 1.0)
    model = Model(CHAIR)
    _legs(model, width, depth, seat, thick, wood)
    seat_material = p.fabric() if rng.random() < 0.5 else wood
    model.block(0, 0, seat - 0.02, (width, depth, 0.05), seat_material)
    for x in (-1, 1):
        model.block(x * (width / 2 - thick), depth / 2 - thick, seat, (thick, thick, top - seat), wood)
    if rng.random() < 0.5:
        model.block(0, depth / 2 - thick, seat + 0.12, (width - 0.04, 0.03, top - seat - 0.12), seat_material)
    else:
        for z in np.linspace(seat + 0.15, top - 0.06, 3):
            model.block(0, depth / 2 - thick, float(z), (width - 0.04, 0.02, 0.06), wood)
    return model


def office_chair(p: Palette) -> Model:
    """A swivel chair: star base, column, upholstered seat and back."""
    rng = p.rng
    metal, fabric, seat = p.metal(), p.fabric(0.5), rng.uniform(0.42, 0.5)
    model = Model(CHAIR)
    for i in range(5):
        model.box(
            (0, 0, 0.07),
            (0.6, 0.05, 0.04),
            metal,
            rotation=rotation_z(i * 2 * np.pi / 5),
            sides=("-z", "+z", "-y", "+y", "+x", "-x"),
        )
    model.cylinder((0, 0, 0.07), 0.035, seat - 0.07, metal)
    model.cushion((0, 0, seat + 0.03), (0.5, 0.5, 0.12), fabric, roundness=0.3)
    model.cushion((0, 0.22, seat + 0.36), (0.46, 0.1, rng.uniform(0.45, 0.65)), fabric, roundness=0.4)
    if rng.random() < 0.6:
        for x in (-0.26, 0.26):
            model.block(x, 0.02, seat + 0.2, (0.05, 0.28, 0.03), metal)
            model.block(x, 0.1, seat, (0.03, 0.04, 0.2), metal)
    return model


def armchair(p: Palette) -> Model:
    """A sofa for one; NYUv2 calls it a chair."""
    return _couch(p, CHAIR, p.rng.uniform(0.75, 0.9))


def sofa(p: Palette) -> Model:
    """Two or three seats."""
    return _couch(p, SOFA, p.rng.uniform(1.5, 2.3))


def _couch(p: Palette, label: int, width: float) -> Model:
    rng = p.rng
    depth, seat, top = rng.uniform(0.8, 0.95), rng.uniform(0.38, 0.44), rng.uniform(0.72, 0.9)
    arm, fabric = rng.uniform(0.12, 0.22), p.fabric(0.6)
    model = Model(label)
    model.block(0, 0, 0.06, (width, depth, seat - 0.14), fabric)
    model.cushion(
        (0, depth / 2 - 0.12, (top + 0.1) / 2 + 0.05), (width, 0.26, top - 0.1), fabric, roundness=0.2
    )
    for x in (-1, 1):
        high = seat + rng.uniform(0.12, 0.2)
        model.cushion((x * (width - arm) / 2, 0, high / 2 + 0.04), (arm, depth, high), fabric, roundness=0.2)
    seats = max(1, round((width - 2 * arm) / 0.65))
    each = (width - 2 * arm) / seats
    for i in range(seats):
        middle = (i - (seats - 1) / 2) * each
        model.cushion((middle, -0.08, seat - 0.02), (each, depth - 0.22, 0.18), fabric, roundness=0.22)
        model.cushion(
            (middle, depth / 2 - 0.3, seat + 0.25),
            (each, 0.18, 0.42),
            fabric,
            roundness=0.35,
            rotation=rotation_x(-0.2),
        )
    return model


def table(p: Palette) -> Model:
    """A dining table, round or not."""
    rng = p.rng
    height, wood = rng.uniform(0.7, 0.77), p.wood()
    model = Model(TABLE)
    if rng.random() < 0.3:
        radius = rng.uniform(0.45, 0.65)
        model.cylinder((0, 0, height - 0.04), radius, 0.04, wood, segments=24)
        model.cylinder((0, 0, 0.03), 0.05, height - 0.05, wood)
        model.cylinder((0, 0, 0), 0.28, 0.03, wood, segments=18)
        return model
    width, depth = rng.uniform(1.1, 1.8), rng.uniform(0.75, 0.95)
    model.block(0, 0, height - 0.04, (width, depth, 0.04), wood)
    _legs(model, width, depth, height - 0.04, rng.uniform(0.05, 0.08), wood)
    model.block(0, 0, height - 0.12, (width - 0.2, depth - 0.2, 0.08), wood)
    return model


def coffee_table(p: Palette) -> Model:
    """Low."""
    rng = p.rng
    height, wood, width, depth = (
        rng.uniform(0.36, 0.48),
        p.wood(),
        rng.uniform(0.7, 1.1),
        rng.uniform(0.5, 0.65),
    )
    model = Model(TABLE)
    model.block(0, 0, height - 0.04, (width, depth, 0.04), wood)
    _legs(model, width, depth, height - 0.04, 0.05, wood)
    if rng.random() < 0.5:
        model.block(0, 0, 0.12, (width - 0.1, depth - 0.1, 0.02), wood)
    return model


def desk(p: Palette) -> Model:
    """Top, legs or drawers, a monitor and papers on it."""
    rng = p.rng
    width, depth, height, wood = (
        rng.uniform(1.1, 1.6),
        rng.uniform(0.6, 0.75),
        rng.uniform(0.71, 0.76),
        p.wood(),
    )
    model = Model(DESK)
    model.block(0, 0, height - 0.035, (width, depth, 0.035), wood)
    _legs(model, width, depth, height - 0.035, 0.05, wood)
    if rng.random() < 0.6:
        x = rng.choice([-1, 1]) * (width / 2 - 0.24)
        model.block(x, 0.02, 0.08, (0.4, depth - 0.1, height - 0.13), wood)
    model.include(monitor(p), (rng.uniform(-0.2, 0.2), 0.1, height))
    if rng.random() < 0.7:
        model.include(papers(p), (rng.uniform(-0.35, 0.35), -0.15, height), rng.uniform(-0.5, 0.5))
    return model


def monitor(p: Palette) -> Model:
    """A computer display; with the televisions, as NYUD20 has it among the things."""
    rng = p.rng
    dark = Material("plain", hsv(0.6, 0.05, 0.2), hsv(0.6, 0.05, 0.15), 1.0, 0.3)
    width = rng.uniform(0.48, 0.65)
    model = Model(TELEVISION)
    model.cylinder((0, 0, 0), 0.11, 0.015, dark)
    model.block(0, 0.02, 0, (0.05, 0.03, 0.2), dark)
    return _display(p, model, dark, (0, 0, 0.13), width, 0.58 * width)


def _display(
    p: Palette, model: Model, frame: Material, foot: tuple[float, float, float], width: float, height: float
) -> Model:
    x, y, z = foot
    model.block(x, y, z, (width, 0.035, height), frame)
    face = p.printed("screen", max(width, height), emission=0.6, gloss=0.5)
    return model.box(
        (x, y - 0.0185, z + height / 2), (width - 0.03, 0.002, height - 0.03), face, sides=("-y",)
    )


def television(p: Palette) -> Model:
    """A flat set on a low cabinet."""
    rng = p.rng
    width, wood = rng.uniform(1.1, 1.7), p.wood()
    dark = Material("plain", hsv(0.6, 0.05, 0.18), hsv(0.6, 0.05, 0.12), 1.0, 0.3)
    low = rng.uniform(0.38, 0.55)
    model = Model(CABINET)
    model.block(0, 0, 0.05, (width, 0.42, low - 0.05), wood)
    _fronts(model, width, 0.42, 0.05, low, 3, p)
    tv = Model(TELEVISION)
    tv.block(0, 0.02, 0, (0.4, 0.2, 0.02), dark)
    size = rng.uniform(0.85, min(1.25, width))
    _display(p, tv, dark, (0, 0.04, 0.07), size, 0.57 * size)
    return model.include(tv, (0, 0, low))


def _fronts(
    model: Model, width: float, depth: float, low: float, high: float, count: int, p: Palette
) -> None:
    """Doors or drawers as slightly raised panels with handles."""
    panel, handle = p.lacquer() if p.rng.random() < 0.3 else model.pieces[-1].material, p.metal()
    each = width / count
    for i in range(count):
        x = (i - (count - 1) / 2) * each
        model.block(x, -depth / 2 - 0.008, low + 0.02, (each - 0.02, 0.016, high - low - 0.04), panel)
        model.block(x + 0.3 * each, -depth / 2 - 0.025, (low + high) / 2, (0.015, 0.02, 0.12), handle)


def bookshelf(p: Palette) -> Model:
    """Boards, back, rows of books, some compartments empty."""
    rng = p.rng
    width, height, depth, wood = (
        rng.uniform(0.6, 1.2),
        rng.uniform(1.5, 2.1),
        rng.uniform(0.26, 0.34),
        p.wood(),
    )
    model = Model(BOOKSHELF)
    for x in (-1, 1):
        model.block(x * (width / 2 - 0.012), 0, 0, (0.024, depth, height), wood)
    model.block(0, depth / 2 - 0.006, 0, (width, 0.012, height), wood)
    count = int(rng.integers(4, 6))
    boards = np.linspace(0.05, height - 0.03, count + 1)
    for board in boards:
        model.block(0, 0, float(board), (width, depth, 0.024), wood)
    for low, high in pairwise(boards):
        space = high - low - 0.03
        if rng.random() < 0.8:
            wide = width * rng.uniform(0.5, 0.95) - 0.06
            shift = rng.uniform(-1, 1) * (width - 0.06 - wide) / 2
            books = p.printed("books", rng.uniform(0.45, 0.6))
            size = (wide, depth - 0.08, space * rng.uniform(0.7, 0.95))
            model.block(float(shift), 0.02, float(low) + 0.024, size, books)
        elif rng.random() < 0.5:
            model.include(carton(p, 0.5), (0, 0.02, float(low) + 0.024))
    return model


def wall_shelf(p: Palette) -> Model:
    """Boards on the wall with a few books and a small plant."""
    rng = p.rng
    width, wood = rng.uniform(0.7, 1.2), p.wood()
    model = Model(SHELVES)
    for i in range(int(rng.integers(1, 4))):
        z = 0.34 * i
        model.block(0, 0, z, (width, 0.24, 0.03), wood)
        wide = rng.uniform(0.25, 0.6) * width
        model.block(
            rng.uniform(-0.15, 0.15),
            0.02,
            z + 0.03,
            (wide, 0.16, rng.uniform(0.18, 0.26)),
            p.printed("books", 0.5),
            BOOKS,
        )
    return model


def wardrobe(p: Palette) -> Model:
    """Tall, with doors."""
    rng = p.rng
    width, height, depth = rng.uniform(0.9, 1.8), rng.uniform(1.9, 2.25), rng.uniform(0.5, 0.62)
    model = Model(CABINET)
    model.block(0, 0, 0, (width, depth, height), p.wood())
    _fronts(model, width, depth, 0.04, height, max(2, round(width / 0.5)), p)
    return model


def dresser(p: Palette) -> Model:
    """Rows of drawers."""
    rng = p.rng
    width, height, depth, wood = (
        rng.uniform(0.75, 1.3),
        rng.uniform(0.75, 1.0),
        rng.uniform(0.4, 0.5),
        p.wood(),
    )
    model = Model(DRESSER)
    model.block(0, 0, 0.04, (width, depth, height - 0.04), wood)
    rows, handle = int(rng.integers(3, 5)), p.metal()
    each = (height - 0.06) / rows
    for i in range(rows):
        z = 0.05 + i * each
        model.block(0, -depth / 2 - 0.008, z, (width - 0.04, 0.016, each - 0.02), wood)
        for x in (-0.25, 0.25):
            model.block(x * width, -depth / 2 - 0.025, z + each / 2, (0.12, 0.02, 0.015), handle)
    return model


def night_stand(p: Palette) -> Model:
    """Beside a bed, with a lamp."""
    rng = p.rng
    width, height, wood = rng.uniform(0.4, 0.5), rng.uniform(0.45, 0.6), p.wood()
    model = Model(NIGHT_STAND)
    model.block(0, 0, 0.05, (width, 0.4, height - 0.05), wood)
    model.block(0, -0.208, height / 2, (width - 0.05, 0.016, height / 2 - 0.04), wood)
    if rng.random() < 0.7:
        model.include(table_lamp(p), (0, 0.05, height))
    return model


def carton(p: Palette, scale: float = 1.0) -> Model:
    """A box."""
    rng = p.rng
    size = rng.uniform((0.3, 0.25, 0.2), (0.55, 0.4, 0.4)) * scale
    color = hsv(rng.uniform(0.06, 0.1), rng.uniform(0.3, 0.5), rng.uniform(0.5, 0.8))
    cardboard = Material("plain", color, shade(color, 0.8), 0.6)
    model = Model(BOX).block(0, 0, 0, size, cardboard)
    tape = Material("plain", shade(color, 1.4), shade(color, 1.2), 0.6, 0.3)
    return model.block(0, 0, size[2], (0.05 * scale, size[1], 0.002), tape)


def bag(p: Palette) -> Model:
    """A soft bag with handles."""
    rng = p.rng
    fabric = p.fabric()
    size = rng.uniform((0.35, 0.18, 0.25), (0.55, 0.28, 0.4))
    model = Model(BAG).cushion((0, 0, size[2] / 2), size, fabric, roundness=0.45)
    return model.box((0, 0, size[2] + 0.04), (0.2, 0.02, 0.12), fabric, sides=("-y", "+y"))


def book_stack(p: Palette) -> Model:
    """Books lying on each other."""
    rng = p.rng
    model, z = Model(BOOKS), 0.0
    for _ in range(int(rng.integers(2, 6))):
        size = rng.uniform((0.18, 0.14, 0.02), (0.28, 0.2, 0.045))
        color = hsv(rng.random(), rng.uniform(0.2, 0.8), rng.uniform(0.3, 0.85))
        cover = Material("plain", color, shade(color, 0.8), 0.4, 0.1)
        model.box((0, 0, z + size[2] / 2), size, cover, rotation=rotation_z(rng.uniform(-0.4, 0.4)))
        z += size[2]
    return model


def papers(p: Palette) -> Model:
    """A sheaf of paper."""
    white = Material("plain", (0.85, 0.85, 0.83), (0.75, 0.75, 0.75), 0.3)
    model = Model(PAPER)
    for i in range(2):
        model.box(
            (0.06 * i, 0.04 * i, 0.006 + 0.008 * i),
            (0.21, 0.3, 0.008),
            white,
            rotation=rotation_z(p.rng.uniform(-0.5, 0.5)),
        )
    return model


def plant(p: Palette) -> Model:
    """A pot plant from knee to shoulder height."""
    return _plant(p, p.rng.uniform(0.7, 1.5))


def small_plant(p: Palette) -> Model:
    """For a table or sill."""
    return _plant(p, p.rng.uniform(0.3, 0.45))


def _plant(p: Palette, height: float) -> Model:
    rng = p.rng
    pot_height, radius = 0.28 * height, 0.14 * height + 0.02
    model = Model(PLANT)
    model.cylinder((0, 0, 0), 0.75 * radius, pot_height, p.pot(), top_radius=radius)
    leaf, centre, reach = p.leaf(), 0.66 * height, 0.3 * height
    if rng.random() < 0.5:  # bushy: overlapping balls of foliage around a stem
        model.cylinder((0, 0, pot_height), 0.012 + 0.01 * height, 0.3 * height, p.wood())
        for _ in range(9):
            at = rng.normal(0, 0.4, 3) * reach + (0, 0, centre)
            model.cushion(at, rng.uniform(0.35, 0.7, 3) * reach, leaf, roundness=1.0, rings=5, segments=8)
        return model
    for _ in range(26):  # blades that rise from the pot and lean out
        lean, turn, length = (
            rng.uniform(0.1, 1.0),
            rng.uniform(0, 2 * np.pi),
            rng.uniform(0.45, 0.75) * height,
        )
        outward = np.array([np.cos(turn), np.sin(turn), 0])
        side = np.array([-np.sin(turn), np.cos(turn), 0]) * (0.02 + 0.035 * height)
        foot = np.array([0, 0, pot_height]) + 0.3 * radius * outward
        middle = foot + 0.6 * length * (np.sin(lean * 0.5) * outward + (0, 0, np.cos(lean * 0.5)))
        tip = middle + 0.5 * length * (np.sin(lean * 1.5) * outward + (0, 0, np.cos(lean * 1.5)))
        vertices = [foot, middle - side, middle + side, tip]
        model.add(vertices, [(0, 1, 2), (1, 3, 2)], leaf)
    return model


def table_lamp(p: Palette) -> Model:
    """Foot and shade."""
    rng = p.rng
    model = Model(LAMP)
    model.cylinder((0, 0, 0), 0.07, 0.02, p.metal())
    model.cylinder((0, 0, 0), 0.015, 0.28, p.metal(), segments=8)
    return model.cylinder((0, 0, 0.22), 0.14, 0.17, p.glowing(rng.uniform(0.3, 1.2)), top_radius=0.09)


def floor_lamp(p: Palette) -> Model:
    """As tall as a person."""
    rng = p.rng
    height, metal = rng.uniform(1.4, 1.7), p.metal()
    model = Model(LAMP)
    model.cylinder((0, 0, 0), 0.14, 0.025, metal)
    model.cylinder((0, 0, 0), 0.015, height, metal, segments=8)
    return model.cylinder((0, 0, height - 0.1), 0.2, 0.26, p.glowing(rng.uniform(0.4, 1.3)), top_radius=0.13)


def ceiling_lamp(p: Palette) -> Model:
    """Hangs from the origin down."""
    rng = p.rng
    strength = rng.uniform(1.2, 2.2)
    if rng.random() < 0.5:
        radius = rng.uniform(0.16, 0.26)
        return Model(LAMP).cylinder((0, 0, -0.09), radius * 0.9, 0.09, p.glowing(strength), top_radius=radius)
    drop, metal = rng.uniform(0.3, 0.55), p.metal()
    model = Model(LAMP).cylinder((0, 0, -drop), 0.008, drop, metal, segments=6)
    return model.cushion((0, 0, -drop - 0.1), (0.36, 0.36, 0.28), p.glowing(strength), roundness=1.0)


def kitchen_run(p: Palette, length: float) -> Model:
    """Base units with a worktop, a sink, wall units."""
    rng = p.rng
    model, front, top = Model(CABINET), p.lacquer(), p.stone()
    model.block(0, 0.02, 0.1, (length, 0.56, 0.76), front)
    model.block(0, 0.04, 0, (length, 0.5, 0.1), p.metal())
    _fronts(model, length, 0.52, 0.12, 0.86, max(2, round(length / 0.55)), p)
    model.block(0, 0, 0.86, (length + 0.02, 0.63, 0.04), top, COUNTER)
    x = rng.uniform(-0.25, 0.25) * length
    metal = p.metal()
    model.block(x, -0.02, 0.895, (0.5, 0.4, 0.012), metal, SINK)
    model.block(
        x, -0.02, 0.9, (0.4, 0.3, 0.009), Material("plain", hsv(0, 0, 0.25), hsv(0, 0, 0.2), 1.0), SINK
    )
    model.cylinder((x, 0.2, 0.9), 0.015, 0.26, metal, SINK, segments=8)
    model.block(x, 0.13, 1.15, (0.025, 0.16, 0.025), metal, SINK)
    model.block(0, 0.31, 0.9, (length, 0.012, 0.5), p.tiles(), WALL)
    if rng.random() < 0.75:
        model.block(0, 0.14, 1.42, (length, 0.34, 0.68), front)
        _fronts_at(model, length, -0.03, 1.42, 2.1, max(2, round(length / 0.55)), front, metal)
    for _ in range(int(rng.integers(1, 4))):
        item = small_plant(p) if rng.random() < 0.35 else carton(p, 0.5)
        model.include(item, (rng.uniform(-0.42, 0.42) * length, 0.12, 0.9))
    return model


def _fronts_at(
    model: Model,
    width: float,
    y: float,
    low: float,
    high: float,
    count: int,
    panel: Material,
    handle: Material,
) -> None:
    each = width / count
    for i in range(count):
        x = (i - (count - 1) / 2) * each
        model.block(x, y - 0.008, low + 0.01, (each - 0.012, 0.016, high - low - 0.02), panel)
        model.block(x + 0.35 * each, y - 0.025, low + 0.05, (0.015, 0.02, 0.12), handle)


def fridge(p: Palette) -> Model:
    """Refrigerator, with a freezer door."""
    rng = p.rng
    height, width = rng.uniform(1.5, 1.9), rng.uniform(0.58, 0.7)
    body = p.metal() if rng.random() < 0.5 else p.ceramic()
    model = Model(REFRIGERATOR).block(0, 0.02, 0.03, (width, 0.6, height - 0.03), body)
    split = height * rng.uniform(0.3, 0.65)
    for low, high in ((0.06, split), (split, height)):
        model.block(0, -0.3, low + 0.01, (width - 0.01, 0.05, high - low - 0.02), body)
        model.block(0.4 * width, -0.345, (low + high) / 2 - 0.1, (0.025, 0.03, 0.25), p.metal())
    return model


def toilet(p: Palette) -> Model:
    """Bowl, seat, cistern."""
    white = p.ceramic()
    model = Model(TOILET)
    model.cylinder((0, -0.05, 0), 0.12, 0.36, white, top_radius=0.19)
    model.cushion((0, -0.1, 0.4), (0.38, 0.5, 0.08), white, roundness=0.7)
    return model.block(0, 0.24, 0.36, (0.4, 0.18, 0.4), white)


def wash_basin(p: Palette) -> Model:
    """Basin on a small cabinet, or on a pedestal."""
    rng = p.rng
    white, metal, width = p.ceramic(), p.metal(), rng.uniform(0.5, 0.8)
    model = Model(SINK)
    if rng.random() < 0.6:
        model.block(0, 0.02, 0.12, (width - 0.04, 0.42, 0.62), p.lacquer(), CABINET)
    else:
        model.cylinder((0, 0.05, 0), 0.1, 0.75, white)
    model.cushion((0, 0, 0.8), (width, 0.48, 0.16), white, roundness=0.3)
    model.cushion(
        (0, -0.03, 0.885),
        (width - 0.14, 0.3, 0.02),
        Material("plain", hsv(0.55, 0.05, 0.7), hsv(0.55, 0.05, 0.6), 1.0, 0.5),
        roundness=0.6,
    )
    return model.cylinder((0, 0.17, 0.87), 0.015, 0.15, metal, segments=8)


def bathtub(p: Palette) -> Model:
    """A tub: four sides, rim and bottom."""
    rng = p.rng
    white, width, depth, height = (
        p.ceramic(),
        rng.uniform(1.5, 1.7),
        rng.uniform(0.68, 0.78),
        rng.uniform(0.5, 0.6),
    )
    model = Model(BATHTUB).block(0, 0, 0, (width, depth, 0.14), white)
    for x in (-1, 1):
        model.block(x * (width / 2 - 0.04), 0, 0, (0.08, depth, height), white)
    for y in (-1, 1):
        model.block(0, y * (depth / 2 - 0.04), 0, (width, 0.08, height), white)
    if rng.random() < 0.7:
        model.include(
            _curtain(p, rng.uniform(0.5, 1.0), 1.75, SHOWER_CURTAIN),
            (rng.uniform(-0.3, 0.3), -depth / 2 + 0.02, 0.25),
        )
    return model


def _curtain(p: Palette, width: float, height: float, label: int) -> Model:
    count = max(24, round(width * 60))
    x = np.linspace(-width / 2, width / 2, count)
    y = 0.035 * np.sin(x * p.rng.uniform(35, 55) + p.rng.random())
    points = np.stack([x, y, np.zeros(count)], axis=1)
    return Model(label).sheet(points, height, p.fabric(0.6), label)


def curtain(p: Palette, height: float) -> Model:
    """One drawn-back curtain, hanging from `height` to just above the floor."""
    return _curtain(p, p.rng.uniform(0.35, 0.7), height, CURTAIN)


def towel(p: Palette) -> Model:
    """On a rail; hangs with its lower edge at the origin."""
    rng = p.rng
    width, height = rng.uniform(0.4, 0.65), rng.uniform(0.5, 0.75)
    x = np.linspace(-width / 2, width / 2, 12)
    points = np.stack([x, -0.05 + 0.012 * np.sin(x * 25), np.zeros(12)], axis=1)
    model = Model(TOWEL).sheet(points, height, p.fabric(0.8))
    return model.block(0, -0.045, height, (width + 0.1, 0.03, 0.02), p.metal())


def clothes(p: Palette) -> Model:
    """Jackets on wall hooks."""
    rng = p.rng
    model = Model(CLOTHES).block(0, 0.0, 0.9, (0.9, 0.03, 0.08), p.wood(), CABINET)
    for i in range(int(rng.integers(2, 5))):
        x = -0.34 + 0.22 * i + rng.uniform(-0.03, 0.03)
        size = rng.uniform((0.26, 0.12, 0.65), (0.36, 0.2, 0.95))
        model.cushion((x, -0.1, 0.92 - size[2] / 2), size, p.fabric(), roundness=0.55)
    return model


def laundry(p: Palette) -> Model:
    """Clothes left on the floor or a chair."""
    rng = p.rng
    model = Model(CLOTHES)
    for _ in range(3):
        at = rng.uniform((-0.12, -0.12, 0.04), (0.12, 0.12, 0.12))
        size = rng.uniform((0.3, 0.25, 0.1), (0.5, 0.4, 0.2))
        model.cushion(at, size, p.fabric(), roundness=0.7, rotation=rotation_z(rng.uniform(0, 3)))
    return model


def picture(p: Palette) -> Model:
    """A framed picture; its centre is the origin and its back is at y = 0."""
    rng = p.rng
    width, height = rng.uniform(0.35, 1.1), rng.uniform(0.35, 0.8)
    model = Model(PICTURE).block(0, -0.015, -height / 2, (width, 0.03, height), p.wood())
    art = p.printed("picture", max(width, height), gloss=0.1)
    return model.box((0, -0.031, 0), (width - 0.06, 0.002, height - 0.06), art, sides=("-y",))


def mirror(p: Palette) -> Model:
    """Glass that is lit like pale metal: reflections are not traced."""
    rng = p.rng
    width, height = rng.uniform(0.45, 0.8), rng.uniform(0.6, 1.1)
    glass = Material("plain", hsv(0.55, 0.08, 0.72), hsv(0.55, 0.1, 0.6), 0.5, 1.0)
    model = Model(MIRROR).block(0, -0.012, -height / 2, (width, 0.024, height), p.wood())
    return model.box((0, -0.0255, 0), (width - 0.05, 0.002, height - 0.05), glass, sides=("-y",))


def whiteboard(p: Palette) -> Model:
    """White, with a metal edge and a few lines."""
    rng = p.rng
    width, height = rng.uniform(1.0, 1.6), rng.uniform(0.7, 1.0)
    white = Material("plain", (0.88, 0.88, 0.88), (0.82, 0.82, 0.82), 1.0, 0.4)
    model = Model(WHITEBOARD).block(0, -0.012, -height / 2, (width, 0.024, height), p.metal())
    model.box((0, -0.026, 0), (width - 0.04, 0.004, height - 0.04), white, sides=("-y",))
    for i in range(4):
        ink = Material("plain", hsv(rng.random(), 0.9, 0.5), hsv(0, 0, 0.1), 1.0)
        model.box(
            (rng.uniform(-0.1, 0.1), -0.0285, 0.25 * height - 0.13 * i),
            (rng.uniform(0.3, 0.7), 0.001, 0.02),
            ink,
            sides=("-y",),
        )
    return model


def rug(p: Palette) -> Model:
    """A mat; NYUD20 counts it as floor."""
    rng = p.rng
    pattern: Pattern = "check" if rng.random() < 0.3 else "carpet"
    a, b = hsv(rng.random(), rng.uniform(0.1, 0.7), rng.uniform(0.4, 0.85)), hsv(rng.random(), 0.5, 0.4)
    width, depth = rng.uniform(1.2, 2.0), rng.uniform(0.9, 1.5)
    return Model(FLOOR_MAT).block(0, 0, 0, (width, depth, 0.012), Material(pattern, a, b, 0.5))


def door_leaf(p: Palette, width: float, height: float) -> Model:
    """Hinged at the origin, along +x, 4 cm thick, with panels and handles on both sides."""
    model, wood, metal = Model(DOOR), p.wood(), p.metal()
    model.block(width / 2, 0, 0.01, (width, 0.04, height - 0.02), wood)
    if p.rng.random() < 0.7:
        for low, high in ((0.15, 0.95), (1.1, height - 0.15)):
            for y in (-1, 1):
                model.block(width / 2, y * 0.023, low, (width - 0.26, 0.008, high - low), wood)
    for y in (-1, 1):
        model.block(width - 0.09, y * 0.05, 1.0, (0.12, 0.025, 0.025), metal)
    return model


def window(p: Palette, width: float, height: float) -> Model:
    """Frame with a bright view; centre at the origin, back at y = 0; sometimes with blinds."""
    rng = p.rng
    white = p.ceramic() if rng.random() < 0.7 else p.wood()
    model = Model(WINDOW)
    view = p.printed("view", max(width, height), emission=rng.uniform(1.1, 2.2))
    model.box((0, -0.01, 0), (width, 0.02, height), view, sides=("-y",))
    for x in (-0.5, 0.0, 0.5) if width > 0.9 else (-0.5, 0.5):
        model.box((x * width, -0.03, 0), (0.06, 0.06, height + 0.06), white)
    for z in (-0.5, 0.5):
        model.box((0, -0.03, z * height), (width, 0.06, 0.06), white)
    model.box((0, -0.08, -0.5 * height - 0.04), (width + 0.16, 0.16, 0.03), white)
    if rng.random() < 0.25:
        color = hsv(rng.random(), 0.1, 0.85)
        slat = Material("plain", color, shade(color, 0.8), 0.5)
        drop = rng.uniform(0.3, 0.9) * height
        for z in np.arange(0.03, drop, 0.055):
            model.box(
                (0, -0.075, 0.5 * height - z), (width, 0.035, 0.004), slat, BLINDS, rotation=rotation_x(0.6)
            )
    return model
