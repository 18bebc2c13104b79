"""Colours and materials that belong together in one home, drawn from its seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m2h_runtime.simulation.materials import Color, Material, Pattern, hsv, shade

if TYPE_CHECKING:
    import numpy as np


class Palette:
    """Draws materials. Every call advances the generator, so a home follows from its seed alone."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self._woods = [
            hsv(rng.uniform(0.055, 0.1), rng.uniform(0.35, 0.65), rng.uniform(0.3, 0.85)) for _ in range(3)
        ]

    def _variant(self) -> int:
        return int(self.rng.integers(64))

    def wood(self) -> Material:
        """One of the home's three woods, or painted."""
        rng = self.rng
        if rng.random() < 0.25:
            value = rng.uniform(0.7, 0.95) if rng.random() < 0.8 else rng.uniform(0.12, 0.3)
            color = hsv(rng.random(), 0.06, value)
            return Material("plain", color, shade(color, 0.85), 1.0, 0.15, variant=self._variant())
        color = shade(self._woods[int(rng.integers(3))], rng.uniform(0.85, 1.15))
        return Material(
            "wood", color, shade(color, 0.5), rng.uniform(0.6, 1.2), 0.12, variant=self._variant()
        )

    def fabric(self, saturation: float = 0.7) -> Material:
        """Cloth of any colour, now and then patterned."""
        rng = self.rng
        color = hsv(rng.random(), saturation * rng.random() ** 0.7, rng.uniform(0.25, 0.9))
        patterns: list[Pattern] = ["fabric", "fabric", "fabric", "stripes", "check"]
        pattern = patterns[int(rng.integers(5))]
        dark = shade(color, 0.6) if pattern == "fabric" else shade(color, rng.uniform(0.3, 1.8))
        return Material(pattern, color, dark, rng.uniform(0.3, 0.6), variant=self._variant())

    def linen(self) -> Material:
        """Light cloth: sheets, pillows, towels."""
        color = hsv(self.rng.random(), 0.25 * self.rng.random(), self.rng.uniform(0.75, 0.97))
        return Material("fabric", color, shade(color, 0.8), 0.6, variant=self._variant())

    def paint(self) -> Material:
        """A wall's colour: mostly pale."""
        rng = self.rng
        if rng.random() < 0.75:
            color = hsv(rng.uniform(0.04, 0.6), 0.18 * rng.random(), rng.uniform(0.72, 0.97))
        else:
            color = hsv(rng.random(), rng.uniform(0.15, 0.5), rng.uniform(0.5, 0.85))
        return Material("plaster", color, shade(color, 0.82), rng.uniform(1.0, 2.0), variant=self._variant())

    def floor(self, *, wet: bool = False) -> Material:
        """Planks, carpet or tiles; tiles where it gets wet."""
        rng = self.rng
        kind = "tiles" if wet else ("planks", "planks", "planks", "carpet", "tiles")[int(rng.integers(5))]
        if kind == "planks":
            color = shade(self._woods[int(rng.integers(3))], rng.uniform(0.8, 1.2))
            return Material(
                "planks", color, shade(color, 0.55), rng.uniform(0.9, 1.4), 0.25, variant=self._variant()
            )
        if kind == "carpet":
            color = hsv(rng.random(), 0.35 * rng.random(), rng.uniform(0.35, 0.75))
            return Material("carpet", color, shade(color, 0.65), 0.7, variant=self._variant())
        return self.tiles()

    def tiles(self) -> Material:
        """Ceramic tiles with joints."""
        color = hsv(self.rng.random(), 0.2 * self.rng.random(), self.rng.uniform(0.6, 0.95))
        dark = shade(color, self.rng.uniform(0.35, 0.75))
        return Material("tiles", color, dark, self.rng.uniform(0.6, 1.2), 0.35, variant=self._variant())

    def ceiling(self) -> Material:
        """White, or nearly."""
        color = hsv(self.rng.uniform(0.05, 0.2), 0.05 * self.rng.random(), self.rng.uniform(0.86, 0.99))
        return Material("plaster", color, shade(color, 0.93), 2.0, variant=self._variant())

    def lacquer(self) -> Material:
        """Kitchen fronts, cabinets: white, grey, or a strong colour."""
        rng = self.rng
        saturation = rng.uniform(0.3, 0.7) if rng.random() < 0.25 else 0.06
        color = hsv(rng.random(), saturation, rng.uniform(0.45, 0.95))
        return Material("plain", color, shade(color, 0.9), 1.0, 0.3, variant=self._variant())

    def stone(self) -> Material:
        """Worktops."""
        color = hsv(self.rng.uniform(0.05, 0.6), 0.1, self.rng.uniform(0.2, 0.8))
        return Material(
            "marble", color, shade(color, self.rng.uniform(0.5, 1.6)), 0.8, 0.4, variant=self._variant()
        )

    def metal(self) -> Material:
        """Steel, light or dark."""
        color = hsv(0.6, 0.04, self.rng.uniform(0.3, 0.8))
        return Material("metal", color, shade(color, 0.7), 0.5, 0.6, variant=self._variant())

    def ceramic(self) -> Material:
        """Bathroom white."""
        color = hsv(0.12, 0.03, self.rng.uniform(0.9, 0.99))
        return Material("plain", color, shade(color, 0.96), 1.0, 0.5, variant=self._variant())

    def leaf(self) -> Material:
        """Greens."""
        color = hsv(self.rng.uniform(0.22, 0.38), self.rng.uniform(0.45, 0.8), self.rng.uniform(0.3, 0.65))
        return Material("leaves", color, shade(color, 0.45), 0.25, 0.1, variant=self._variant())

    def pot(self) -> Material:
        """Terracotta or glaze."""
        hue = 0.05 if self.rng.random() < 0.6 else self.rng.random()
        color = hsv(hue, self.rng.uniform(0.2, 0.6), self.rng.uniform(0.4, 0.8))
        return Material("plain", color, shade(color, 0.8), 0.4, 0.2, variant=self._variant())

    def printed(self, pattern: Pattern, tile_m: float, emission: float = 0.0, gloss: float = 0.0) -> Material:
        """A surface that carries a picture of its own: books, paintings, screens, the view from a window."""
        white: Color = (1.0, 1.0, 1.0)
        return Material(pattern, white, white, tile_m, gloss, emission, self._variant())

    def glowing(self, strength: float) -> Material:
        """A lampshade or bulb that is on."""
        color = hsv(self.rng.uniform(0.07, 0.14), self.rng.uniform(0.05, 0.3), 0.99)
        return Material("lamp", color, shade(color, 0.9), 0.5, 0.0, strength)
