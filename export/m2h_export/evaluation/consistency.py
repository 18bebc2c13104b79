"""Cross-task consistency: the angle between the normals of the predicted depth and the predicted normals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import ndimage

from m2h_export.evaluation.checks import check_choice
from m2h_export.evaluation.normals import AngleStatistics, angle_deg, unit
from m2h_runtime.arrays import check_array
from m2h_runtime.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Method = Literal["tblr", "sobel", "m2h"]
METHODS = ("tblr", "sobel", "m2h")
RANGE_M = (1e-3, 10.0)
_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)


def normals_of_depth(
    depth: NDArray[np.float32], intrinsics: NDArray[np.float64], method: Method = "tblr"
) -> NDArray[np.float64]:
    """Unit normals (H, W, 3) of a depth map, camera optical frame, facing the camera (n · P < 0).

    Args:
        depth: float32 (H, W), metres along the optical axis.
        intrinsics: (3, 3) camera matrix, pixel centres at integers; unused by "m2h".
        method: "tblr": cross product of central differences of the back-projected points; "sobel": the same with
            Sobel-weighted differences; "m2h": [-dz/du, -dz/dv, 1] of forward differences in pixels (M2H eq. 16a),
            turned towards the camera; its slopes are no metric ones.

    The one-pixel frame has no full neighbourhood and means nothing.
    """
    check_choice("consistency method", method, METHODS)
    check_array("depth", depth, np.float32, (None, None))
    z = depth.astype(np.float64)
    if method == "m2h":
        slope_u, slope_v = np.zeros_like(z), np.zeros_like(z)
        slope_u[:, :-1], slope_v[:-1] = np.diff(z, axis=1), np.diff(z, axis=0)
        return unit(np.stack([slope_u, slope_v, -np.ones_like(z)], axis=-1))
    points = back_project(z, intrinsics)
    # Only the direction of the tangents matters, so the differences need no division.
    across = np.array([1.0, 2.0, 1.0]) if method == "sobel" else np.array([0.0, 1.0, 0.0])
    right = _difference(points, 1, across)
    down = _difference(points, 0, across)
    return unit(-np.cross(right, down))


def back_project(z: NDArray[np.float64], intrinsics: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (H, W, 3) in metres, P = z ((u - cx) / fx, (v - cy) / fy, 1)."""
    v, u = np.indices(z.shape, np.float64)
    fx, fy, cx, cy = intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]
    return np.stack([z * (u - cx) / fx, z * (v - cy) / fy, z], axis=-1)


def _difference(points: NDArray[np.float64], axis: int, across: NDArray[np.float64]) -> NDArray[np.float64]:
    step = ndimage.correlate1d(points, [-1.0, 0.0, 1.0], axis=axis, mode="nearest")
    smoothed: NDArray[np.float64] = ndimage.correlate1d(step, across, axis=1 - axis, mode="nearest")
    return smoothed


class ConsistencyMeter:
    """Pooled angle between the normals of predicted depth and predicted normals.

    Args:
        method: of `normals_of_depth`.
        masked: count only pixels where true depth or true normals are defined, if there are any.
    """

    def __init__(self, method: Method = "tblr", *, masked: bool = False) -> None:
        check_choice("consistency method", method, METHODS)
        self.method: Method = method
        self.masked = masked
        self.angles = AngleStatistics()
        self.images = 0

    def add(
        self,
        depth: NDArray[np.float32],
        normals: NDArray[np.float32],
        intrinsics: NDArray[np.float64],
        defined: NDArray[np.bool_] | None = None,
    ) -> None:
        """Count one picture.

        Args:
            depth: predicted, float32 (H, W), metres.
            normals: predicted, float32 (H, W, 3), camera optical frame, facing the camera.
            intrinsics: (3, 3) at the size of `depth`.
            defined: (H, W), where the truth is defined; used if the meter is `masked`.
        """
        check_array("normals", normals, np.float32, (*depth.shape, 3))
        valid = valid_neighbourhood(depth, self.method)
        if self.masked and defined is not None:
            valid &= defined
        self.angles.add(angle_deg(normals_of_depth(depth, intrinsics, self.method)[valid], normals[valid]))
        self.images += 1

    def merge(self, other: ConsistencyMeter) -> None:
        """Add what another meter of the same variant counted.

        Raises:
            InputError: its variant is another.
        """
        if (other.method, other.masked) != (self.method, self.masked):
            raise InputError("consistency: meters of different variants cannot be merged")
        self.angles.merge(other.angles)
        self.images += other.images

    def result(self) -> dict[str, float]:
        """`mean` and `median` in degrees."""
        told = self.angles.result()
        return {"mean": told["mean"], "median": told["median"]}

    @property
    def pixels(self) -> int:
        """How many pixels counted."""
        return self.angles.count


def valid_neighbourhood(depth: NDArray[np.float32], method: Method = "tblr") -> NDArray[np.bool_]:
    """(H, W): all depths that the method looks at are inside (0.001, 10) m; the one-pixel frame is not valid."""
    inside = (depth > RANGE_M[0]) & (depth < RANGE_M[1])
    around = np.ones((3, 3), bool) if method == "sobel" else _CROSS
    valid: NDArray[np.bool_] = ndimage.binary_erosion(inside, around, border_value=0)
    return valid
