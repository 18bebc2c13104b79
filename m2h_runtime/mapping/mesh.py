"""`Mesh`: a surface of triangles whose corners have colours and labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from m2h_runtime.arrays import check_array
from m2h_runtime.mapping.votes import NO_LABEL

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles in the world frame (z up), metres.

    Attributes:
        vertices: float32 (N, 3).
        faces: int32 (M, 3), corners counter-clockwise as seen from the free side.
        colors: uint8 (N, 3) RGB.
        labels: uint8 (N,), class id in the label space of the perceptions, `NO_LABEL` (255) where no two
            looks agree.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]
    colors: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def __post_init__(self) -> None:
        """Check that the arrays fit each other."""
        count = len(check_array("mesh vertices", self.vertices, np.float32, (None, 3)))
        check_array("mesh faces", self.faces, np.int32, (None, 3))
        check_array("mesh colors", self.colors, np.uint8, (count, 3))
        check_array("mesh labels", self.labels, np.uint8, (count,))

    @property
    def areas(self) -> NDArray[np.float32]:
        """float32 (M,), area of each face, m^2."""
        a, b, c = (self.vertices[self.faces[:, corner]] for corner in range(3))
        return np.asarray(np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2, np.float32)

    def coarser(self, cell_m: float) -> Mesh:
        """The same surface with one vertex for all in a cell of `cell_m`, and without the triangles that this folds."""
        cells = np.floor(self.vertices / cell_m).astype(np.int64)
        _, first, number = np.unique(cells, axis=0, return_index=True, return_inverse=True)
        faces = number.reshape(-1)[self.faces]
        a, b, c = faces.T
        faces = np.unique(faces[(a != b) & (b != c) & (c != a)], axis=0).reshape(-1, 3)
        return Mesh(self.vertices[first], np.asarray(faces, np.int32), self.colors[first], self.labels[first])

    def sampled(
        self, per_m2: float, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Points drawn evenly over the surface, float32 (K, 3), and the face of each; `per_m2` on a square metre."""
        areas = self.areas.astype(np.float64)
        total = float(areas.sum())
        if total == 0:
            return np.empty((0, 3), np.float32), np.empty(0, np.int64)
        face = rng.choice(len(areas), round(total * per_m2), p=areas / total)
        u, v = rng.random((2, len(face), 1))
        flip = u + v > 1
        u, v = np.where(flip, 1 - u, u), np.where(flip, 1 - v, v)
        a, b, c = (self.vertices[self.faces[face, corner]] for corner in range(3))
        return np.asarray(a + u * (b - a) + v * (c - a), np.float32), face


def empty_mesh() -> Mesh:
    """No triangle at all."""
    return Mesh(
        np.empty((0, 3), np.float32),
        np.empty((0, 3), np.int32),
        np.empty((0, 3), np.uint8),
        np.full(0, NO_LABEL, np.uint8),
    )
