"""`CameraModel`: what turns a pixel into a ray."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from m2h_runtime.errors import CalibrationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Distortion = Literal["none", "plumb_bob", "rational_polynomial", "equidistant"]
"""Lens models by their ROS names. Kalibr's radtan is plumb_bob without k3; equidistant is OpenCV's fisheye."""

COEFFICIENTS: dict[str, tuple[int, ...]] = {
    "none": (0,),
    "plumb_bob": (4, 5),
    "rational_polynomial": (8, 12, 14),
    "equidistant": (4,),
}
"""How many coefficients each lens model may have, in OpenCV's order."""


@dataclass(frozen=True, slots=True)
class CameraModel:
    """Intrinsics of images of one size; pixel centres at integers, as OpenCV and ROS have them.

    Attributes:
        width: pixels.
        height: pixels.
        fx: focal length, pixels.
        fy: focal length, pixels.
        cx: principal point, pixels.
        cy: principal point, pixels.
        distortion_model: lens model; "none" is an ideal pinhole, and so are rectified images.
        distortion: its coefficients in OpenCV's order; as many as `COEFFICIENTS` allows.

    Raises:
        CalibrationError: a number is not finite, a size or a focal length not positive, or the coefficients do not
            fit the model.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion_model: Distortion = "none"
    distortion: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        numbers = (self.fx, self.fy, self.cx, self.cy, *self.distortion)
        if not np.all(np.isfinite(numbers)) or min(self.width, self.height, self.fx, self.fy) <= 0:
            raise CalibrationError(
                f"camera model: needs a positive size and focal length and finite numbers, got {self.width}x"
                f"{self.height}, fx {self.fx:g}, fy {self.fy:g}, cx {self.cx:g}, cy {self.cy:g}"
            )
        if self.distortion_model not in get_args(Distortion):
            raise CalibrationError(
                f"camera model: no lens model {self.distortion_model!r}; there are {', '.join(COEFFICIENTS)}"
            )
        allowed = COEFFICIENTS[self.distortion_model]
        if len(self.distortion) not in allowed:
            raise CalibrationError(
                f"camera model: {self.distortion_model} has {' or '.join(map(str, allowed))} coefficients, "
                f"got {len(self.distortion)}"
            )

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.height, self.width

    @property
    def matrix(self) -> NDArray[np.float64]:
        """K, float64 (3, 3)."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1.0]])

    @property
    def ideal(self) -> bool:
        """Every pixel's ray is K^-1 (u, v, 1). An equidistant lens never is ideal: its r is f θ, not f tan θ."""
        return self.distortion_model != "equidistant" and not any(self.distortion)

    def resized(self, size: tuple[int, int]) -> CameraModel:
        """Of the same image scaled to `size` = (H, W).

        A pixel is an area, so its centre moves as u' = (u + 1/2) s - 1/2; scaling cx alone is off by half a pixel.
        """
        height, width = size
        sx, sy = width / self.width, height / self.height
        return replace(
            self,
            width=width,
            height=height,
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=(self.cx + 0.5) * sx - 0.5,
            cy=(self.cy + 0.5) * sy - 0.5,
        )

    def window(self, top: int, left: int, size: tuple[int, int]) -> CameraModel:
        """Of the image's window of `size` = (H, W) whose corner is at (top, left); may reach outside (padding)."""
        return replace(self, height=size[0], width=size[1], cx=self.cx - left, cy=self.cy - top)
