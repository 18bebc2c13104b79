"""Do two views fit together: the points of one, seen by the camera of the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_export.data.sample import Sample


def share_that_fits(first: Sample, second: Sample, second_from_first: NDArray[np.float32]) -> float:
    """Of the points that fall into the second picture: how many lie where it says that a surface is (2 %).

    What one sees and the other does not is a misfit, so a true pair does not reach 1.
    """
    assert first.depth is not None and first.intrinsics is not None
    assert second.depth is not None and second.intrinsics is not None
    height, width = first.depth.shape
    v, u = np.mgrid[:height, :width].reshape(2, -1)
    rays = np.linalg.solve(first.intrinsics, np.stack([u, v, np.ones_like(u)]))
    points = second_from_first[:3, :3] @ (rays * first.depth.ravel()) + second_from_first[:3, 3:]
    x, y, z = second.intrinsics @ points
    column, row = (np.round(q / z).astype(int) for q in (x, y))
    inside = (z > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    assert inside.mean() > 0.2
    seen = second.depth[row[inside], column[inside]]
    return float((np.abs(seen - z[inside]) < 0.02 * seen).mean())
