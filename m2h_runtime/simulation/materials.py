"""Surfaces: procedural textures, coloured from one seed, as an atlas that a renderer samples by box mapping."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

TEXELS = 256
"""Side of a texture, texels; it repeats without a seam."""

Pattern = Literal[
    "plain", "plaster", "wood", "planks", "fabric", "carpet", "tiles", "marble", "stripes", "metal",
    "books", "picture", "view", "leaves", "lamp", "screen", "check",
]  # fmt: skip
Color = tuple[float, float, float]


@dataclass(frozen=True)
class Material:
    """What a surface looks like.

    Attributes:
        pattern: of the texture.
        light, dark: the two linear RGB albedos 0..1 that the pattern runs between.
        tile_m: metres that one repeat of the texture covers.
        gloss: strength of the highlight, 0..1.
        emission: radiance of its own, relative to a lit white wall; 0 for most.
        variant: which of a pattern's pictures.
    """

    pattern: Pattern
    light: Color
    dark: Color
    tile_m: float = 1.0
    gloss: float = 0.0
    emission: float = 0.0
    variant: int = 0


def hsv(hue: float, saturation: float, value: float) -> Color:
    """A linear RGB albedo from hue, saturation and (gamma-coded) value, each 0..1."""
    r, g, b = (channel**2.2 for channel in colorsys.hsv_to_rgb(hue % 1.0, saturation, value))
    return (r, g, b)


def shade(color: Color, factor: float) -> Color:
    """The same colour, darker or lighter."""
    r, g, b = (min(1.0, channel * factor) for channel in color)
    return (r, g, b)


def _noise(rng: np.random.Generator, cells: int, octaves: int = 4, stretch: int = 1) -> NDArray[np.float32]:
    """Tileable fractal noise in 0..1; `stretch` draws it out along the rows."""
    total = np.zeros((TEXELS, TEXELS), np.float32)
    for octave in range(octaves):
        rows, cols = cells << octave, max(1, (cells << octave) // stretch)
        if rows > TEXELS:
            break
        grid = np.pad(rng.random((rows, cols), dtype=np.float32), 2, mode="wrap")
        big = cv2.resize(grid, None, fx=TEXELS / cols, fy=TEXELS / rows, interpolation=cv2.INTER_CUBIC)
        y, x = 2 * TEXELS // rows, 2 * TEXELS // cols
        total += big[y : y + TEXELS, x : x + TEXELS] / 2**octave
    total -= total.min()
    return np.asarray(total / max(float(total.max()), 1e-6), np.float32)


def _grid_lines(period: int, width: int, axis: int) -> NDArray[np.float32]:
    line = (np.arange(TEXELS) % period < width).astype(np.float32)
    return np.broadcast_to(line[:, None] if axis == 0 else line[None, :], (TEXELS, TEXELS))


def _wood(rng: np.random.Generator) -> NDArray[np.float32]:
    grain = _noise(rng, 64, 2, stretch=16)
    rings = 0.5 + 0.5 * np.sin(40 * _noise(rng, 4, 3, stretch=4))
    return 0.6 * grain + 0.4 * rings.astype(np.float32)


def _planks(rng: np.random.Generator) -> NDArray[np.float32]:
    base = 0.5 * _wood(rng)
    rows = 8
    for row in range(rows):
        part = slice(row * TEXELS // rows, (row + 1) * TEXELS // rows)
        base[part] = np.roll(base[part], int(rng.integers(TEXELS)), axis=1) + 0.35 * rng.random()
        joint = int(rng.integers(TEXELS))
        base[part, joint : joint + 2] = 1.0
    return np.asarray(np.maximum(base, _grid_lines(TEXELS // rows, 2, 0)), np.float32)


def _tiles(rng: np.random.Generator) -> NDArray[np.float32]:
    count = int(rng.choice([2, 4]))
    tone = np.kron(rng.random((count, count)), np.ones((TEXELS // count, TEXELS // count))).astype(np.float32)
    joints = np.maximum(_grid_lines(TEXELS // count, 3, 0), _grid_lines(TEXELS // count, 3, 1))
    return np.maximum(0.25 * tone + 0.2 * _noise(rng, 8), joints)


def _books(rng: np.random.Generator) -> NDArray[np.float32]:
    """RGB: spines of random width, colour and height over a dark gap."""
    out = np.zeros((TEXELS, TEXELS, 3), np.float32)
    x = 0
    while x < TEXELS:
        width = int(rng.integers(8, 22))
        color = np.array(hsv(rng.random(), 0.2 + 0.7 * rng.random(), 0.25 + 0.65 * rng.random()))
        top = int(rng.integers(0, TEXELS // 5))
        out[top:, x : x + width] = color
        band = int(rng.integers(TEXELS // 4, TEXELS // 2))
        out[band : band + 12, x : x + width] = shade((float(color[0]), float(color[1]), float(color[2])), 1.8)
        out[:, x] *= 0.3
        x += width
    return out


def _picture(rng: np.random.Generator) -> NDArray[np.float32]:
    """RGB: fields, hills or abstract shapes, with a mat border on some."""
    hue = rng.random()
    blend = _noise(rng, 2, 5)[..., None]
    a, b = np.array(hsv(hue, 0.7, 0.9)), np.array(hsv(hue + 0.3 + 0.4 * rng.random(), 0.8, 0.4))
    out = (a * blend + b * (1 - blend)).astype(np.float32)
    for _ in range(int(rng.integers(2, 9))):
        color = hsv(rng.random(), 0.8, 0.3 + 0.7 * rng.random())
        centre = (int(rng.integers(TEXELS)), int(rng.integers(TEXELS)))
        if rng.random() < 0.5:
            cv2.circle(out, centre, int(rng.integers(10, 60)), color, -1, cv2.LINE_AA)
        else:
            corner = (int(rng.integers(TEXELS)), int(rng.integers(TEXELS)))
            cv2.rectangle(out, centre, corner, color, -1)
    if rng.random() < 0.5:
        cv2.rectangle(out, (0, 0), (TEXELS - 1, TEXELS - 1), (0.8, 0.8, 0.78), 2 * int(rng.integers(8, 28)))
    return out


def _view(rng: np.random.Generator) -> NDArray[np.float32]:
    """RGB: what is outside a window: sky, a skyline or trees, ground. Row 0 is the bottom."""
    height = np.linspace(0, 1, TEXELS, dtype=np.float32)[:, None, None]
    sky = np.array(hsv(0.55 + 0.08 * rng.random(), 0.15 + 0.4 * rng.random(), 1.0), np.float32)
    out = np.broadcast_to(sky * (1.1 - 0.35 * height), (TEXELS, TEXELS, 3)).copy()
    out += 0.35 * _noise(rng, 3, 4)[..., None] ** 2
    horizon = int(TEXELS * rng.uniform(0.25, 0.5))
    x = 0
    while x < TEXELS:
        width, top = int(rng.integers(18, 60)), horizon + int(rng.integers(-20, 40))
        out[: max(top, 4), x : x + width] = hsv(rng.random(), 0.25, 0.25 + 0.35 * rng.random())
        x += width
    trees = horizon - 25 + (35 * _noise(rng, 8, 3)[0]).astype(int)
    green = np.array(hsv(0.28 + 0.08 * rng.random(), 0.6, 0.35), np.float32)
    rows = np.arange(TEXELS)[:, None]
    mask = rows < trees[None, :]
    out[mask] = (green * (0.6 + 0.8 * _noise(rng, 32, 2)[..., None]))[mask]
    return out


def _screen(rng: np.random.Generator) -> NDArray[np.float32]:
    """RGB: a display: off (nearly black), or windows with lines of text."""
    out = np.full((TEXELS, TEXELS, 3), 0.01, np.float32)
    if rng.random() < 0.5:
        return out
    out[:] = hsv(rng.random(), 0.5, 0.35)
    for _ in range(3):
        x, y = (int(v) for v in rng.integers(0, TEXELS // 2, 2))
        cv2.rectangle(out, (x, y), (x + 110, y + 90), (0.8, 0.8, 0.8), -1)
        for line in range(y + 8, y + 84, 9):
            cv2.line(out, (x + 8, line), (x + int(rng.integers(30, 100)), line), (0.1, 0.1, 0.12), 2)
    return out


_TWO_TONE: dict[Pattern, Callable[[np.random.Generator], NDArray[np.float32]]] = {
    "plain": lambda rng: 0.15 * _noise(rng, 4),
    "plaster": lambda rng: 0.3 * _noise(rng, 4, 3) + 0.15 * _noise(rng, 64, 2),
    "wood": _wood,
    "planks": _planks,
    "fabric": lambda rng: 0.45 * _noise(rng, 4, 3) + 0.55 * _noise(rng, 128, 1),
    "carpet": lambda rng: 0.4 * _noise(rng, 6, 3) + 0.6 * _noise(rng, 128, 1),
    "tiles": _tiles,
    "marble": lambda rng: np.abs(np.sin(14 * _noise(rng, 2, 6))).astype(np.float32) ** 3,
    "stripes": lambda rng: _grid_lines(int(rng.choice([16, 32, 64])), int(rng.integers(5, 14)), 1),
    "metal": lambda rng: 0.6 * _noise(rng, 128, 1, stretch=64) + 0.1,
    "leaves": lambda rng: _noise(rng, 16, 3),
    "lamp": lambda rng: 0.1 * _noise(rng, 4),
    "check": lambda _: 0.5 * (_grid_lines(64, 32, 0) + _grid_lines(64, 32, 1)),
}
_RGB: dict[Pattern, Callable[[np.random.Generator], NDArray[np.float32]]] = {
    "books": _books,
    "picture": _picture,
    "view": _view,
    "screen": _screen,
}
_VARIANTS = 6
# Seeds of the patterns: another number would change every apartment.
_SEEDS: dict[Pattern, int] = {
    "books": 0, "carpet": 1, "check": 2, "fabric": 3, "lamp": 5, "leaves": 6, "marble": 7, "metal": 8, "picture": 9,
    "plain": 10, "planks": 11, "plaster": 12, "screen": 13, "stripes": 14, "tiles": 15, "view": 16, "wood": 17,
}  # fmt: skip


@lru_cache(maxsize=256)
def _pattern(name: Pattern, variant: int) -> NDArray[np.float32]:
    """A pattern does not depend on the apartment, its colours do: so each is made once per process."""
    rng = np.random.default_rng((_SEEDS[name], variant))
    out = (_TWO_TONE.get(name) or _RGB[name])(rng).astype(np.float32)
    out.setflags(write=False)
    return out


def texture(material: Material) -> NDArray[np.uint8]:
    """Its albedo, (TEXELS, TEXELS, 3) uint8, square-root coded (that keeps dark tones apart)."""
    wide = 64 if material.pattern in _RGB else _VARIANTS
    values = _pattern(material.pattern, material.variant % wide)
    if values.ndim == 2:
        light, dark = np.array(material.light, np.float32), np.array(material.dark, np.float32)
        values = light + (dark - light) * np.clip(values, 0, 1)[..., None]
    return np.asarray(np.sqrt(np.clip(values, 0, 1)) * 255 + 0.5, np.uint8)


def _sums_of_4x4(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint16]:
    """(M, N/4, N/4, 3) sums over blocks of (M, N, N, 3)."""
    count, size = pixels.shape[:2]
    rows = pixels.reshape(count, size // 4, 4, size * 3).sum(axis=2, dtype=np.uint16)
    blocks = rows.reshape(count, size // 4, size // 4, 4, 3)
    return np.asarray(
        blocks[..., 0, :] + blocks[..., 1, :] + blocks[..., 2, :] + blocks[..., 3, :], np.uint16
    )


class Atlas:
    """All materials' textures, with coarser copies for far surfaces.

    Attributes:
        tile_m, gloss, emission: float32 (M,), per material.
    """

    def __init__(self, materials: list[Material]) -> None:
        whole = np.stack([texture(material) for material in materials])  # (M, T, T, 3)
        # Integer sums are many times faster than means of bytes, and 256 bytes fit into 16 bits.
        fours = _sums_of_4x4(whole)
        self._levels = [whole, (fours // 16).astype(np.uint8), (_sums_of_4x4(fours) // 256).astype(np.uint8)]
        self.tile_m = np.array([m.tile_m for m in materials], np.float32)
        self.gloss = np.array([m.gloss for m in materials], np.float32)
        self.emission = np.array([m.emission for m in materials], np.float32)

    @property
    def colors(self) -> NDArray[np.uint8]:
        """(M, 3): each material's mean colour, for a mesh without textures."""
        return np.asarray(self._levels[-1].mean(axis=(1, 2)) + 0.5, np.uint8)

    def sample(
        self,
        material: NDArray[np.int32],
        uv_m: NDArray[np.float32],
        footprint_m: NDArray[np.float32],
        rng: np.random.Generator,
    ) -> NDArray[np.float32]:
        """Linear albedo (N, 3) at texture coordinates (N, 2), metres, seen by a pixel that covers so many metres.

        The point is jittered inside the texel: bilinear filtering on average, for one look-up.
        """
        uv = uv_m / self.tile_m[material, None]
        texels = footprint_m / self.tile_m[material] * TEXELS
        level = (texels > 2).astype(np.int8) + (texels > 8)
        out = np.empty((len(material), 3), np.float32)
        jitter = rng.random(uv.shape, dtype=np.float32) - 0.5
        for index, table in enumerate(self._levels):
            at = np.flatnonzero(level == index)
            if len(at):
                side = table.shape[1]
                cell = np.floor(uv[at] * side + jitter[at]).astype(np.int32) % side
                out[at] = table[material[at], cell[:, 1], cell[:, 0]]
        out *= 1 / 255
        out *= out
        return out
