"""`FreeSpace`: the space that rays have passed through, in coarse cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from m2h_runtime.mapping.blocks import EDGE, OFFSETS, VOXELS, BlockStore, packed
from m2h_runtime.mapping.look import NEAR_M

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_runtime.mapping.look import Look

CELL_M = 0.1
MOST = 250
STRIDE_M = 0.4
"""Rays are sampled this often for the blocks that they cross, 0.8 m wide."""
PIXEL_STEP = 8


class FreeSpace:
    """Counts, for cells of `CELL_M`, the images that looked through them.

    It is coarser than the surface's field, so a frame's whole view costs about what its surfaces cost.

    Attributes:
        blocks: "seen" per cell: images that looked through it, up to `MOST`. Cell (i, j, k) has its middle at
            (i, j, k) * CELL_M.
    """

    def __init__(self) -> None:
        self.blocks = BlockStore({"seen": (np.uint8, (), 0)})

    def carve(self, look: Look) -> None:
        """Count what an image looked through; cells that a surface may touch are not among it."""
        rays, reach = look.points(PIXEL_STEP)
        if not len(reach):
            return
        rows = self.blocks.make(_blocks_along(look.eye, rays, np.abs(reach)))
        project = look.to_pixels
        start = (self.blocks.places[rows] * EDGE * CELL_M) @ project[:, :3].T + project[:, 3]
        step = OFFSETS * CELL_M @ project[:, :3].T
        uz, vz, z = (
            np.add.outer(start[:, axis].astype(np.float32), step[:, axis].astype(np.float32)).reshape(-1)
            for axis in range(3)
        )
        height, width = look.reach.shape
        inverse = np.float32(1) / np.maximum(z, np.float32(NEAR_M))
        u = (uz * inverse + np.float32(0.5)).astype(np.int32)
        v = (vz * inverse + np.float32(0.5)).astype(np.int32)
        inside = np.flatnonzero((u.view(np.uint32) < width) & (v.view(np.uint32) < height) & (z > NEAR_M))
        reach_there = np.abs(look.reach[v[inside], u[inside]])
        through = inside[reach_there > z[inside] + CELL_M]
        seen = self.blocks.arrays["seen"].reshape(-1)
        cells = rows[through // VOXELS] * VOXELS + through % VOXELS
        seen[cells] += seen[cells] < MOST

    def cells(self, least: int = 1) -> NDArray[np.int64]:
        """int64 (N, 3): cells that at least so many images looked through."""
        block, voxel = np.nonzero(self.blocks.arrays["seen"][: self.blocks.count] >= least)
        return np.asarray(self.blocks.places[block] * EDGE + OFFSETS[voxel], np.int64)


def _blocks_along(
    eye: NDArray[np.float64], rays: NDArray[np.float64], reach: NDArray[np.float64]
) -> NDArray[np.int64]:
    """`packed` places of the blocks that the rays (N, 3) cross on their way to `reach` (N,) metres."""
    steps = np.arange(0.0, float(reach.max()) + STRIDE_M, STRIDE_M)
    along = np.minimum(steps[:, None], reach)  # (steps, N)
    points = eye + along[..., None] * rays
    # A cell belongs to the block of its lower corner; its middle is half a cell lower than that of a voxel's cube.
    return np.unique(packed(np.floor(points.reshape(-1, 3) / (EDGE * CELL_M)).astype(np.int64)))
