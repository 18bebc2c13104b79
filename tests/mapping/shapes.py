"""A sphere and boxes, seen exactly: depth images without a renderer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from m2h_runtime.calibration.camera import CameraModel

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

CAMERA = CameraModel(128, 96, 100.0, 100.0, 63.5, 47.5)
FAR = 1e9


def looking(eye: Sequence[float], target: Sequence[float]) -> NDArray[np.float64]:
    """World from a camera at `eye` that looks at `target`, upright unless it looks straight up or down."""
    forward = np.subtract(target, eye).astype(float)
    forward /= np.linalg.norm(forward)
    up = (0.0, 0.0, 1.0) if abs(forward[2]) < 0.99 else (0.0, 1.0, 0.0)
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    pose[:3, 3] = eye
    return pose


def around(distance: float) -> Iterator[NDArray[np.float64]]:
    """Poses that look at the origin from the faces and corners of a cube."""
    for x in (-1, 0, 1):
        for y in (-1, 0, 1):
            for z in (-1, 0, 1):
                if (length := np.linalg.norm((x, y, z))) in (1.0, np.sqrt(3)):
                    yield looking(np.array((x, y, z)) * distance / length, (0, 0, 0))


def rays(pose: NDArray[np.float64], camera: CameraModel = CAMERA) -> NDArray[np.float64]:
    """World directions (H, W, 3) with depth 1."""
    v, u = np.mgrid[: camera.height, : camera.width]
    flat = np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones(u.shape)], axis=-1)
    return flat @ pose[:3, :3].T


def sphere_depth(pose: NDArray[np.float64], radius: float) -> NDArray[np.float32]:
    """A sphere around the origin; 0 beside it."""
    way, eye = rays(pose), pose[:3, 3]
    a, b, c = (way**2).sum(-1), way @ eye, eye @ eye - radius**2
    root = b * b - a * c
    depth = (-b - np.sqrt(np.maximum(root, 0))) / a
    return np.where(root > 0, depth, 0).astype(np.float32)


def box_depth(
    pose: NDArray[np.float64],
    low: Sequence[float],
    high: Sequence[float],
    camera: CameraModel = CAMERA,
) -> NDArray[np.float64]:
    """The first face of a box that each ray meets, from outside or inside; `FAR` where there is none."""
    way, eye = rays(pose, camera), pose[:3, 3]
    way = np.where(np.abs(way) < 1e-12, 1e-12, way)
    sides = np.stack([(np.asarray(side) - eye) / way for side in (low, high)])
    enter, leave = sides.min(axis=0).max(axis=-1), sides.max(axis=0).min(axis=-1)
    hit = np.where(enter > 1e-6, enter, leave)
    return np.where((enter <= leave) & (hit > 1e-6), hit, FAR)


def box_distance(points: NDArray[np.float32], half: float) -> NDArray[np.float64]:
    """From points to the surface of a cube around the origin with edges of 2 `half`."""
    q = np.abs(points) - half
    outside = np.linalg.norm(np.maximum(q, 0), axis=1)
    return np.abs(outside + np.minimum(q.max(axis=1), 0))
