"""How much of a picture another camera sees."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_runtime.calibration.camera import CameraModel

GRID = 8
"""So many points across and down stand for the picture."""


def overlap(pose: NDArray[np.float64], camera: CameraModel, depth_m: float) -> float:
    """Share of the picture, 0..1, that the neighbour's picture shows, too, if all lies at one depth.

    Args:
        pose: float64 (3, 4), takes points of the camera's optical frame to the neighbour's.
        camera: of both pictures, an ideal pinhole.
        depth_m: along the optical axis, metres.
    """
    x, y, z = depth_m * (pose[:, :3] @ _rays(camera)) + pose[:, 3:]
    ahead = np.where(z > 1e-6, z, np.nan)
    across, down = camera.fx * x / ahead + camera.cx, camera.fy * y / ahead + camera.cy
    inside = (np.abs(2 * across + 1 - camera.width) <= camera.width) & (
        np.abs(2 * down + 1 - camera.height) <= camera.height
    )
    return float(inside.mean())


@lru_cache(maxsize=2)
def _rays(camera: CameraModel) -> NDArray[np.float64]:
    """(3, `GRID` squared), x/z, y/z and 1 of pixels spread evenly over the picture."""
    columns = (np.arange(GRID) + 0.5) * camera.width / GRID - 0.5
    rows = (np.arange(GRID) + 0.5) * camera.height / GRID - 0.5
    u, v = (grid.ravel() for grid in np.meshgrid(columns, rows))
    return np.stack(((u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones(GRID * GRID)))
