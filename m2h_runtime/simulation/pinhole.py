"""The simulated camera's geometry: a pinhole with plumb-bob distortion."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Pinhole:
    """Intrinsics of a picture, pixel centres at integers.

    Attributes:
        width, height: pixels.
        fx, fy, cx, cy: pixels.
        distortion: (k1, k2, p1, p2) as ROS `plumb_bob` and OpenCV have them; zeros are an ideal lens.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)

    @classmethod
    def of_view(
        cls,
        width: int,
        height: int,
        horizontal_deg: float,
        distortion: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0),
    ) -> Pinhole:
        """Square pixels, centred, with a horizontal field of view in degrees (before distortion)."""
        f = width / 2 / np.tan(np.radians(horizontal_deg) / 2)
        return cls(width, height, float(f), float(f), (width - 1) / 2, (height - 1) / 2, distortion)

    @property
    def matrix(self) -> NDArray[np.float64]:
        """(3, 3) camera matrix."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1.0]])

    @cached_property
    def rays(self) -> NDArray[np.float32]:
        """(H·W, 3) float32: the point at z = 1 that each pixel sees, camera optical frame, row-major."""
        v, u = np.mgrid[0 : self.height, 0 : self.width].astype(np.float64)
        points = np.stack([u, v], axis=-1).reshape(-1, 1, 2)
        flat = cv2.undistortPoints(points, self.matrix, np.array(self.distortion)).reshape(-1, 2)
        rays = np.concatenate([flat, np.ones((len(flat), 1))], axis=1).astype(np.float32)
        rays.setflags(write=False)
        return rays
