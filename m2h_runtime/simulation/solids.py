"""A model under construction: boxes, cylinders, cushions and sheets, each with a material and a label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from m2h_runtime.simulation.materials import Material

_BOX_CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
_BOX_QUADS = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
BOX_SIDES = ("-x", "+x", "-y", "+y", "-z", "+z")


@dataclass(frozen=True)
class Piece:
    """A triangle mesh of one material and one label.

    Attributes:
        vertices: (V, 3) float64, metres, the model's frame.
        faces: (F, 3) int, either orientation.
        label: NYUv2-40 class id (1..40).
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]
    material: Material
    label: int


def rotation_z(angle: float) -> NDArray[np.float64]:
    """(3, 3) rotation about z, radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def rotation_x(angle: float) -> NDArray[np.float64]:
    """(3, 3) rotation about x, radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


class Model:
    """A thing being built, in its own frame: x to its right, front towards -y, z up, on the floor at the origin."""

    def __init__(self, label: int) -> None:
        self.label = label
        self.pieces: list[Piece] = []

    def add(
        self, vertices: ArrayLike, faces: ArrayLike, material: Material, label: int | None = None
    ) -> Model:
        """Any triangle mesh; `label` where it is not the model's own."""
        self.pieces.append(
            Piece(np.asarray(vertices, float), np.asarray(faces, int), material, label or self.label)
        )
        return self

    def box(
        self,
        centre: ArrayLike,
        size: ArrayLike,
        material: Material,
        label: int | None = None,
        *,
        rotation: NDArray[np.float64] | None = None,
        sides: Sequence[str] = BOX_SIDES,
        top: float = 1.0,
    ) -> Model:
        """A box of `size` about `centre`; only its `sides`; its top is scaled by `top` in x and y."""
        corners = _BOX_CORNERS * np.asarray(size, float)
        corners[_BOX_CORNERS[:, 2] > 0, :2] *= top
        if rotation is not None:
            corners = corners @ rotation.T
        quads = [_BOX_QUADS[BOX_SIDES.index(side)] for side in sides]
        faces = [t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))]
        return self.add(corners + np.asarray(centre, float), faces, material, label)

    def block(
        self, x: float, y: float, z: float, size: ArrayLike, material: Material, label: int | None = None
    ) -> Model:
        """A box that stands on height `z` with its footprint's centre at (x, y)."""
        size = np.asarray(size, float)
        return self.box((x, y, z + size[2] / 2), size, material, label)

    def cylinder(
        self,
        base: ArrayLike,
        radius: float,
        height: float,
        material: Material,
        label: int | None = None,
        *,
        top_radius: float | None = None,
        segments: int = 14,
        rotation: NDArray[np.float64] | None = None,
    ) -> Model:
        """A closed cylinder or cone frustum up from `base`, the centre of its lower disc."""
        angle = np.arange(segments) * 2 * np.pi / segments
        ring = np.stack([np.cos(angle), np.sin(angle), np.zeros(segments)], axis=1)
        upper = ring * (radius if top_radius is None else top_radius) + np.array((0, 0, height))
        vertices = np.concatenate([ring * radius, upper, [[0, 0, 0], [0, 0, height]]])
        faces = []
        for i in range(segments):
            j = (i + 1) % segments
            faces += [(i, j, segments + j), (i, segments + j, segments + i)]
            faces += [(2 * segments, j, i), (2 * segments + 1, segments + i, segments + j)]
        if rotation is not None:
            vertices = vertices @ rotation.T
        return self.add(vertices + np.asarray(base, float), faces, material, label)

    def cushion(
        self,
        centre: ArrayLike,
        size: ArrayLike,
        material: Material,
        label: int | None = None,
        *,
        roundness: float = 0.35,
        rotation: NDArray[np.float64] | None = None,
        rings: int = 8,
        segments: int = 16,
    ) -> Model:
        """A superellipsoid: a pillow at a small `roundness`, an ellipsoid at 1."""
        u = np.linspace(-np.pi / 2, np.pi / 2, rings + 1)[:, None]
        v = (np.arange(segments) * 2 * np.pi / segments)[None, :]

        def power(x: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.asarray(np.sign(x) * np.abs(x) ** roundness)

        x, y = power(np.cos(u)) * power(np.cos(v)), power(np.cos(u)) * power(np.sin(v))
        z = power(np.sin(u)) * np.ones_like(v)
        vertices = np.stack([x, y, z], axis=-1).reshape(-1, 3) * np.asarray(size, float) / 2
        faces = []
        for r in range(rings):
            for s in range(segments):
                a, b = r * segments + s, r * segments + (s + 1) % segments
                faces += [(a, b, b + segments), (a, b + segments, a + segments)]
        if rotation is not None:
            vertices = vertices @ rotation.T
        return self.add(vertices + np.asarray(centre, float), faces, material, label)

    def sheet(
        self, points: NDArray[np.float64], height: float, material: Material, label: int | None = None
    ) -> Model:
        """A vertical sheet `height` high over a polyline (N, 3) of foot points: curtains, towels."""
        count = len(points)
        vertices = np.concatenate([points, points + np.array((0, 0, height))])
        faces = [
            t for i in range(count - 1) for t in ((i, i + 1, count + i + 1), (i, count + i + 1, count + i))
        ]
        return self.add(vertices, faces, material, label)

    def include(self, other: Model, at: ArrayLike, angle: float = 0.0) -> Model:
        """Another model, turned about z and set down at `at`; it keeps its labels."""
        turn = rotation_z(angle)
        for piece in other.pieces:
            vertices = piece.vertices @ turn.T + np.asarray(at, float)
            self.pieces.append(Piece(vertices, piece.faces, piece.material, piece.label))
        return self

    @property
    def bounds(self) -> NDArray[np.float64]:
        """(2, 3): least and greatest coordinates."""
        every = np.concatenate([piece.vertices for piece in self.pieces])
        return np.stack([every.min(axis=0), every.max(axis=0)])
