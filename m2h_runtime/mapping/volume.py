"""`Volume`: depth images with poses fused into a truncated signed distance field with labels and colours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from m2h_runtime.arrays import check_array
from m2h_runtime.errors import ContractError
from m2h_runtime.mapping.blocks import EDGE, OFFSETS, VOXELS, BlockStore, packed
from m2h_runtime.mapping.free_space import FreeSpace
from m2h_runtime.mapping.look import NEAR_M, look_at
from m2h_runtime.mapping.surface import Surface
from m2h_runtime.mapping.votes import KEPT, NO_LABEL, vote

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from numpy.typing import NDArray

    from m2h_runtime.calibration.camera import CameraModel
    from m2h_runtime.mapping.look import Look
    from m2h_runtime.mapping.mesh import Mesh

VOXEL_M = 0.05
TRUNCATION_VOXELS = 3.0
MAX_DEPTH_M = 5.0
MOST_WEIGHT = 50.0
"""So many good looks make a voxel's mind up; after that new ones count as one in so many."""
FULL_WEIGHT_M = 1.0
"""Up to here a look counts fully, farther away with the square of the distance less: depth's error grows with it."""
LEAST_FACING = 0.1
"""Looks that graze a surface (below 6 degrees) tell nothing about it."""
PIXEL_STEP = 2
"""Blocks are made for every so-manyth pixel: at 5 m such a step is still far below a block's size."""
AT_A_TIME = 256
"""Blocks that are worked on at once: their voxels fit a small processor's cache."""
COLORED_VOXELS = 1.5
"""Voxels nearer to the surface than this are coloured and labelled: all that the mesh asks."""


class Volume:
    """A map that grows by one depth image at a time. The world frame is that of the poses: z up, metres.

    Args:
        voxel_m: edge of a voxel, metres.
        truncation_m: the field is kept within this distance of the surface; None: `TRUNCATION_VOXELS` voxels. More is
            kinder to noisy depth, less to thin walls.
        max_depth_m: depth beyond this makes no surface.
        ignored_labels: pixels with these labels make no surface (what moves, what is invalid).

    Attributes:
        blocks: the field: "distance" (metres, > 0 in front), "weight", "color", "labels", "votes" per voxel. Voxel
            (i, j, k) of the world lies at (i, j, k) * voxel_m.
        free: the space that is known to be free.
        frames: depth images so far.

    Raises:
        ContractError: a size is not positive.
    """

    def __init__(
        self,
        voxel_m: float = VOXEL_M,
        truncation_m: float | None = None,
        max_depth_m: float = MAX_DEPTH_M,
        ignored_labels: Collection[int] = (),
    ) -> None:
        self.voxel_m = voxel_m
        self.truncation_m = TRUNCATION_VOXELS * voxel_m if truncation_m is None else truncation_m
        self.max_depth_m = max_depth_m
        if not min(voxel_m, self.truncation_m - voxel_m, max_depth_m) > 0:
            raise ContractError(
                f"mapping: needs a positive voxel and depth and a truncation above a voxel, got voxel {voxel_m:g} m, "
                f"truncation {self.truncation_m:g} m, depth {max_depth_m:g} m"
            )
        self._behind_m = self.truncation_m - voxel_m
        self._ignored = np.zeros(256, np.bool_)
        self._ignored[list(ignored_labels)] = True
        self.blocks = BlockStore(
            {
                "distance": (np.float32, (), 0),
                "weight": (np.float32, (), 0),
                "color": (np.uint8, (3,), 0),
                "labels": (np.uint8, (KEPT,), NO_LABEL),
                "votes": (np.uint16, (KEPT,), 0),
            }
        )
        self.free = FreeSpace()
        self.frames = 0
        self._surface = Surface(self.blocks, voxel_m)

    def integrate(
        self,
        depth: NDArray[np.float32],
        labels: NDArray[np.uint8] | None,
        rgb: NDArray[np.uint8] | None,
        camera: CameraModel,
        world_from_camera: NDArray[np.float64],
    ) -> None:
        """Fuse one image.

        Args:
            depth: float32 (H, W), metres along the optical axis; 0, NaN and infinity mean "unknown".
            labels: uint8 (H, W), class ids; None: no votes.
            rgb: uint8 (H, W, 3); None: no colour.
            camera: an ideal pinhole of the same size.
            world_from_camera: float64 (4, 4), pose of the camera's optical frame.

        Raises:
            ContractError: an array has another shape or dtype, the camera does not fit, or the pose is not finite.
        """
        height, width = check_array("mapping depth", depth, np.float32, (None, None)).shape
        check_array("mapping pose", world_from_camera, np.float64, (4, 4))
        if not np.isfinite(world_from_camera).all():
            raise ContractError("mapping: the pose is not finite; leave out frames without one")
        if labels is not None:
            check_array("mapping labels", labels, np.uint8, (height, width))
        if rgb is not None:
            check_array("mapping rgb", rgb, np.uint8, (height, width, 3))
        ignored = None if labels is None else self._ignored[labels]
        look = look_at(depth, ignored, camera, world_from_camera, self.max_depth_m)
        self._fuse(look, labels, rgb)
        self.free.carve(look)
        self.frames += 1

    def mesh(self) -> Mesh:
        """The surface as it is now; only what has changed since the last call is made anew.

        Raises:
            InputError: scikit-image is not installed.
        """
        return self._surface.mesh()

    def _fuse(self, look: Look, labels: NDArray[np.uint8] | None, rgb: NDArray[np.uint8] | None) -> None:
        near = self.blocks.make(self._blocks_at_surfaces(look))
        rows = np.union1d(near, self._blocks_in_free_space(look))
        for part in _parts(rows):
            flat, pixels, distance, weight = self._evidence(part, look)
            self._blend(flat, distance, weight)
            seen = np.abs(distance) < COLORED_VOXELS * self.voxel_m
            flat, pixels, weight = flat[seen], pixels[seen], weight[seen]
            if rgb is not None:
                self._paint(flat, rgb.reshape(-1, 3)[pixels], weight)
            if labels is not None:
                kept, votes = self.blocks.arrays["labels"], self.blocks.arrays["votes"]
                vote(kept.reshape(-1, KEPT), votes.reshape(-1, KEPT), flat, labels.reshape(-1)[pixels])
        self._surface.touch(rows)

    def _blocks_at_surfaces(self, look: Look) -> NDArray[np.int64]:
        """`packed` places of the blocks that a surface's truncated distance reaches into."""
        rays, reach = look.points(PIXEL_STEP)
        rays, reach = rays[reach > 0], reach[reach > 0]
        edge_m = EDGE * self.voxel_m
        steps = np.linspace(
            -self.truncation_m, self.truncation_m, 1 + int(2 * self.truncation_m / edge_m + 1)
        )
        keys = [
            np.unique(packed(np.floor((look.eye + rays * (reach + s)[:, None]) / edge_m).astype(np.int64)))
            for s in steps
        ]
        return np.unique(np.concatenate(keys))

    def _blocks_in_free_space(self, look: Look) -> NDArray[np.int64]:
        """Rows of the blocks whose middle is seen through: what was there once is gone, or never was."""
        places = self.blocks.places[: self.blocks.count]
        middles = np.asarray((places + 0.5) * EDGE * self.voxel_m, np.float64)
        u, v, z = _project(look, middles)
        height, width = look.reach.shape
        # A block that the image's border cuts has its middle outside, by half a block at most.
        margin = look.focal_px * EDGE * self.voxel_m / 2 / np.maximum(z, NEAR_M)
        across, down = np.abs(u - (width - 1) / 2), np.abs(v - (height - 1) / 2)
        inside = (z > NEAR_M) & (across < width / 2 + margin) & (down < height / 2 + margin)
        candidates = np.flatnonzero(inside)
        rows, columns = np.clip(v[candidates], 0, height - 1), np.clip(u[candidates], 0, width - 1)
        reach = np.abs(look.reach[rows, columns])
        return candidates[reach > z[candidates] + self.truncation_m]

    def _evidence(
        self, rows: NDArray[np.int64], look: Look
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
        """What the image says about the voxels of some blocks.

        Returns:
            Of those that it says something about: their index among all voxels (N,), their pixel (N,), the distance
            to the surface in metres (N,), at most the truncation, and how much that counts (N,).
        """
        height, width = look.reach.shape
        to_pixels = look.to_pixels
        corners = self.blocks.places[rows] * EDGE * self.voxel_m
        start = (corners @ to_pixels[:, :3].T + to_pixels[:, 3]).astype(np.float32)
        step = (OFFSETS * self.voxel_m @ to_pixels[:, :3].T).astype(np.float32)
        uz, vz, z = (np.add.outer(start[:, axis], step[:, axis]) for axis in range(3))
        inverse = np.float32(1) / np.maximum(z, np.float32(NEAR_M))
        u = (uz * inverse + np.float32(0.5)).astype(np.int32)
        v = (vz * inverse + np.float32(0.5)).astype(np.int32)
        # As unsigned numbers the negative ones are huge: one comparison for both sides.
        inside = (u.view(np.uint32) < width) & (v.view(np.uint32) < height) & (z > NEAR_M)
        index = np.flatnonzero(inside)
        pixels = v.reshape(-1)[index] * np.int64(width) + u.reshape(-1)[index]
        depth = z.reshape(-1)[index]
        reach, facing = look.reach.reshape(-1)[pixels], look.facing.reshape(-1)[pixels]
        distance = (np.abs(reach) - depth) * np.maximum(facing, np.float32(LEAST_FACING))
        limit = np.float32(self.truncation_m)
        solid = (reach > 0) & (distance > -np.float32(self._behind_m)) & (facing > LEAST_FACING)
        chosen = np.flatnonzero(solid | ((reach != 0) & (distance >= limit)))
        index, pixels, distance = index[chosen], pixels[chosen], np.minimum(distance[chosen], limit)
        weight = self._trust(depth[chosen], facing[chosen], distance)
        return rows[index // VOXELS] * VOXELS + index % VOXELS, pixels, distance, weight

    def _trust(
        self, depth: NDArray[np.float32], facing: NDArray[np.float32], distance: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """How much a look counts: less from far and aslant, and behind the surface ever less.

        What lies behind has not been seen. There the weight falls to 0, so that the two sides of a thin wall do not
        push each other away.
        """
        near = np.float32(FULL_WEIGHT_M) / np.maximum(depth, np.float32(FULL_WEIGHT_M))
        behind = np.clip(1 + distance / np.float32(self._behind_m), np.float32(1e-3), np.float32(1))
        trust = near * near * np.maximum(facing, np.float32(LEAST_FACING)) * behind
        return np.asarray(trust, np.float32)

    def _blend(
        self, flat: NDArray[np.int64], distance: NDArray[np.float32], weight: NDArray[np.float32]
    ) -> None:
        distances = self.blocks.arrays["distance"].reshape(-1)
        weights = self.blocks.arrays["weight"].reshape(-1)
        before = weights[flat]
        total = before + weight
        distances[flat] = (distances[flat] * before + distance * weight) / total
        weights[flat] = np.minimum(total, np.float32(MOST_WEIGHT))

    def _paint(self, flat: NDArray[np.int64], colors: NDArray[np.uint8], weight: NDArray[np.float32]) -> None:
        """Mix `colors` (N, 3) into voxels that already hold the new weight."""
        painted = self.blocks.arrays["color"].reshape(-1, 3)
        share = (weight / self.blocks.arrays["weight"].reshape(-1)[flat])[:, None]
        old = painted[flat].astype(np.float32)
        painted[flat] = (old + (colors - old) * share + np.float32(0.5)).astype(np.uint8)


def _project(
    look: Look, points: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Nearest pixel column and row of world points (N, 3), and their depth; columns of what is behind mean nothing."""
    uz, vz, z = look.to_pixels[:, :3] @ points.T + look.to_pixels[:, 3:]
    safe = np.maximum(z, NEAR_M)
    return np.rint(uz / safe).astype(np.int64), np.rint(vz / safe).astype(np.int64), z


def _parts(rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(rows), AT_A_TIME):
        yield rows[start : start + AT_A_TIME]
