"""`Surface`: the triangles of a field of distances, made anew only where the field has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from m2h_runtime.libraries import require
from m2h_runtime.mapping.blocks import EDGE, BlockStore, packed, unpacked
from m2h_runtime.mapping.mesh import Mesh, empty_mesh
from m2h_runtime.mapping.votes import winners

if TYPE_CHECKING:
    from numpy.typing import NDArray

REGION = 4
"""Blocks along a region. Regions are meshed as wholes: one call for 64 blocks costs little more than for one."""
SPAN = REGION * EDGE
LEAST_WEIGHT = 0.005
"""Voxels that know less than from one look aslant from 5 m make no surface."""
SNAP = 1e-4
"""A corner that is nearer to a voxel than this share of its edge is taken to be on it."""

_AROUND = np.stack(np.meshgrid(*[np.arange(REGION + 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
_BELOW = -np.stack(np.meshgrid(*[np.arange(2)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)


class _Part(NamedTuple):
    """Triangles of one region: corners in voxels of the world (N, 3) float64, faces, colours and labels."""

    corners: NDArray[np.float64]
    faces: NDArray[np.int64]
    colors: NDArray[np.uint8]
    labels: NDArray[np.uint8]


class Surface:
    """The mesh of a block store with "distance", "weight", "color", "labels" and "votes".

    A region is meshed together with the first layer of voxels of its upper neighbours. The last corners of one region
    are therefore exactly the first of the next, and one corner takes their place: there is no seam.

    Args:
        blocks: the field.
        voxel_m: edge of a voxel.
    """

    def __init__(self, blocks: BlockStore, voxel_m: float) -> None:
        self._blocks = blocks
        self._voxel_m = voxel_m
        self._parts: dict[int, _Part] = {}
        self._changed: set[int] = set()
        self._mesh = empty_mesh()

    def touch(self, rows: NDArray[np.int64]) -> None:
        """Blocks `rows` have changed."""
        places = self._blocks.places[rows]
        # The first layer of a block closes the gap to the blocks below it.
        touched = (places[:, None] + _BELOW).reshape(-1, 3) // REGION
        self._changed.update(np.unique(packed(touched)).tolist())

    def mesh(self) -> Mesh:
        """All triangles.

        Raises:
            InputError: scikit-image is not installed.
        """
        if self._changed:
            for key in self._changed:
                self._parts[key] = self._meshed(unpacked(np.array([key]))[0])
            self._changed.clear()
            self._mesh = self._joined()
        return self._mesh

    def _meshed(self, region: NDArray[np.int64]) -> _Part:
        rows = self._blocks.find(region * REGION + _AROUND)
        distance, weight = self._dense("distance", rows), self._dense("weight", rows)
        known = weight[: SPAN + 1, : SPAN + 1, : SPAN + 1] > LEAST_WEIGHT
        field = np.ascontiguousarray(distance[: SPAN + 1, : SPAN + 1, : SPAN + 1])
        cubes = _all_corners(known)
        below, above = field < 0, field > 0
        if not ((below & known).any() and (above & known).any() and cubes.any()):
            return _EMPTY
        return self._triangles(region, rows, field, cubes)

    def _triangles(
        self,
        region: NDArray[np.int64],
        rows: NDArray[np.int64],
        field: NDArray[np.float32],
        cubes: NDArray[np.bool_],
    ) -> _Part:
        measure = require("skimage.measure", "a mesh", "mapping")
        mask = np.zeros(field.shape, np.bool_)
        mask[1:, 1:, 1:] = cubes  # scikit-image asks a cube's last corner
        try:
            corners, faces, _, _ = measure.marching_cubes(
                field, 0.0, mask=mask, gradient_direction="descent", allow_degenerate=False
            )
        except (RuntimeError, ValueError):  # no surface in these cubes
            return _EMPTY
        nearest = np.rint(corners).astype(np.int64)
        inside = np.minimum(nearest, SPAN)
        block, offset = inside // EDGE, inside % EDGE
        row = rows[block @ np.array([(REGION + 1) ** 2, REGION + 1, 1])]
        voxel = offset @ np.array([EDGE * EDGE, EDGE, 1])
        arrays = self._blocks.arrays
        labels = winners(arrays["labels"][row, voxel], arrays["votes"][row, voxel])
        return _Part(
            corners.astype(np.float64) + region * SPAN,
            faces.astype(np.int64),
            arrays["color"][row, voxel],
            labels,
        )

    def _dense(self, name: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """A field over the blocks `rows` of a region and its upper neighbours as one cube; 0 where there is none."""
        values = self._blocks.arrays[name][rows]
        values[rows < 0] = 0
        side = REGION + 1
        cube = values.reshape(side, side, side, EDGE, EDGE, EDGE).transpose(0, 3, 1, 4, 2, 5)
        return np.asarray(cube.reshape(side * EDGE, side * EDGE, side * EDGE))

    def _joined(self) -> Mesh:
        parts = [part for part in self._parts.values() if len(part.faces)]
        if not parts:
            return empty_mesh()
        starts = np.cumsum([0, *(len(part.corners) for part in parts[:-1])])
        corners = np.concatenate([part.corners for part in parts])
        faces = np.concatenate([part.faces + start for part, start in zip(parts, starts, strict=True)])
        first, number = _merged(corners)
        faces = number[faces]
        a, b, c = faces.T
        faces = faces[(a != b) & (b != c) & (c != a)]
        colors, labels = (np.concatenate([part[n] for part in parts])[first] for n in (2, 3))
        vertices = (corners[first] * self._voxel_m).astype(np.float32)
        return Mesh(vertices, faces.astype(np.int32), colors, labels)


def _merged(corners: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Corners that are one: the first of each, and for every corner which it is.

    A corner lies on an edge between two voxels. The edge tells it apart, exactly; its place on the edge is a real
    number that two regions may round differently.
    """
    whole = np.rint(corners)
    on_voxel = np.abs(corners - whole) < SNAP
    axis = np.where(on_voxel.all(axis=1), 3, np.argmin(on_voxel, axis=1))
    inner = (~on_voxel).sum(axis=1) > 1  # inside a cube: of one region alone
    base = np.where(on_voxel, whole, np.floor(corners)).astype(np.int64)
    own = np.where(inner, np.arange(1, len(corners) + 1), 0)
    keys = np.stack([packed(base), axis, own], axis=1)
    _, first, number = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    return first, number.reshape(-1)


def _all_corners(known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """By cube: all eight corners are known."""
    pairs = known[:-1] & known[1:]
    squares = pairs[:, :-1] & pairs[:, 1:]
    return np.asarray(squares[:, :, :-1] & squares[:, :, 1:])


_EMPTY = _Part(
    np.empty((0, 3)), np.empty((0, 3), np.int64), np.empty((0, 3), np.uint8), np.empty(0, np.uint8)
)
