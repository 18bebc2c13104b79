"""`Look`: one depth image, ready to be laid over voxels: what each pixel says about space, and where voxels project."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from m2h_runtime.errors import ContractError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_runtime.calibration.camera import CameraModel

STEP = 0.05
"""A pixel whose inverse depth bends by more than this share of itself lies on a depth edge. Planes do not bend, however
slanted they are, since their inverse depth is linear in the image."""
NEAR_M = 0.05
"""What is nearer to the camera's plane is not looked at."""


@dataclass(frozen=True, eq=False)
class Look:
    """One image's depth as evidence.

    Attributes:
        reach: float32 (H, W), metres along the optical axis: the magnitude is how far the way is free, 0 where nothing
            is known; positive where it ends at a surface to be mapped, negative where it does not.
        facing: float32 (H, W), cosine between ray and surface normal, 1 is head-on.
        eye: float64 (3,), the camera's place in the world, metres.
        to_pixels: float64 (3, 4), world points (homogeneous) to (u z, v z, z).
        rays: float64 (3, 3), pixels (u, v, 1) to world directions with z = 1 in the camera.
        focal_px: pixels.
    """

    reach: NDArray[np.float32]
    facing: NDArray[np.float32]
    eye: NDArray[np.float64]
    to_pixels: NDArray[np.float64]
    rays: NDArray[np.float64]
    focal_px: float

    def points(self, step: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Every `step`-th pixel that knows something: (N, 3) world directions with z = 1, and (N,) its `reach`."""
        v, u = np.nonzero(self.reach[::step, ::step])
        pixels = np.stack([u * step, v * step, np.ones(len(u))], axis=1)
        rays = np.asarray(pixels @ self.rays.T, np.float64)
        return rays, self.reach[v * step, u * step].astype(np.float64)


def look_at(
    depth: NDArray[np.float32],
    ignored: NDArray[np.bool_] | None,
    camera: CameraModel,
    world_from_camera: NDArray[np.float64],
    max_depth_m: float,
) -> Look:
    """Prepare one depth image.

    Args:
        depth: float32 (H, W), metres along the optical axis; not finite or <= 0 means "unknown".
        ignored: bool (H, W), pixels that make no surface (what moves); the way to them is free all the same.
        camera: an ideal pinhole of the depth's size.
        world_from_camera: float64 (4, 4), pose of the optical frame.
        max_depth_m: surfaces farther away are not believed, the way up to here is.

    Raises:
        ContractError: the camera is of another size or its lens distorts.
    """
    if camera.size != depth.shape or not camera.ideal:
        raise ContractError(
            f"mapping: needs depth {depth.shape[1]}x{depth.shape[0]} with an ideal camera of that size, got a "
            f"{camera.distortion_model} camera of {camera.width}x{camera.height}; rectify the images first"
        )
    known = np.isfinite(depth) & (depth > NEAR_M)
    inverse = np.divide(1.0, depth, out=np.zeros_like(depth), where=known)
    known &= ~_bends(inverse)
    reach = np.where(known, np.minimum(depth, max_depth_m), 0).astype(np.float32)
    open_way = depth > max_depth_m
    if ignored is not None:
        open_way |= ignored
    reach[open_way] *= -1
    rotation, eye = world_from_camera[:3, :3], world_from_camera[:3, 3]
    project = camera.matrix @ rotation.T
    to_pixels = np.concatenate([project, -(project @ eye)[:, None]], axis=1)
    rays = rotation @ np.linalg.inv(camera.matrix)
    return Look(reach, _facing(inverse, camera), eye, to_pixels, rays, max(camera.fx, camera.fy))


def _bends(inverse: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where inverse depth jumps, on both sides of the step. Beside unknown pixels, too: 0 is a jump."""
    padded = cv2.copyMakeBorder(inverse, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    down = np.abs(padded[:-2, 1:-1] + padded[2:, 1:-1] - 2 * inverse)
    across = np.abs(padded[1:-1, :-2] + padded[1:-1, 2:] - 2 * inverse)
    bent: NDArray[np.bool_] = np.maximum(down, across) > STEP * inverse
    bent[[0, -1]] = bent[[1, -2]]  # replicated borders bend, though nothing does
    bent[:, [0, -1]] = bent[:, [1, -2]]
    return bent


def _facing(inverse: NDArray[np.float32], camera: CameraModel) -> NDArray[np.float32]:
    """Cosine of ray and normal: a plane n·p = c has 1 / z = n·(x, y, 1) / c, so the gradient of 1 / z is the normal."""
    a = cv2.Scharr(inverse, cv2.CV_32F, 1, 0, scale=camera.fx / 32)
    b = cv2.Scharr(inverse, cv2.CV_32F, 0, 1, scale=camera.fy / 32)
    x = ((np.arange(camera.width) - camera.cx) / camera.fx).astype(np.float32)
    y = ((np.arange(camera.height) - camera.cy) / camera.fy).astype(np.float32)[:, None]
    c = inverse - a * x - b * y
    length = np.sqrt(a * a + b * b + c * c) * np.sqrt(x * x + y * y + 1)
    facing = np.divide(inverse, length, out=np.zeros_like(inverse), where=length > 0)
    return np.asarray(facing, np.float32)
