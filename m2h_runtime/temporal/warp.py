"""Where each pixel of a frame was in the frame before, and how depths there read from here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_runtime.calibration.camera import CameraModel


class Warp:
    """Backward warping between two views of one pinhole camera; the buffers are made once and filled by `aim`.

    A pixel p = (u, v, 1) at depth d here is K R K⁻¹ p + K t / d there, up to scale: with the inverse depth that is a
    row plus a column plus one multiple per pixel, and nothing is scattered, so there are no holes.

    Args:
        camera: of both views, an ideal pinhole.
    """

    def __init__(self, camera: CameraModel) -> None:
        self._matrix = camera.matrix
        self._inverse = np.linalg.inv(camera.matrix)
        self._columns = np.arange(camera.width, dtype=np.float32)[None]
        self._rows = np.arange(camera.height, dtype=np.float32)[:, None]
        self._x, self._y, self._z, self._slope, self._spare = (
            np.empty(camera.size, np.float32) for _ in range(5)
        )

    def aim(self, pose: NDArray[np.float64], inverse_depth: NDArray[np.float32]) -> None:
        """Set the way between the views.

        Args:
            pose: float64 (3, 4), takes points of this frame's optical frame to the earlier one's, metres.
            inverse_depth: float32 (H, W), 1 / metres, of this frame; finite.
        """
        turn = self._matrix @ pose[:, :3] @ self._inverse
        shift = self._matrix @ pose[:, 3]
        for plane, row, constant in zip((self._x, self._y, self._z), turn, shift, strict=True):
            self._linear(plane, row)
            if constant:
                plane += np.multiply(inverse_depth, np.float32(constant), out=self._spare)
        np.maximum(
            self._z, np.float32(1e-6), out=self._z
        )  # what lies behind lands far outside of the picture
        self._x /= self._z
        self._y /= self._z
        back = (self._matrix @ pose[:, :3].T @ self._inverse)[2].astype(np.float32)
        np.multiply(self._x, back[0], out=self._slope)
        self._slope += np.multiply(self._y, back[1], out=self._spare)
        self._slope += back[2]

    def _linear(self, plane: NDArray[np.float32], row: NDArray[np.float64]) -> None:
        across, down, constant = row.astype(np.float32)
        np.add(across * self._columns, down * self._rows + constant, out=plane)

    def sample(self, planes: NDArray[np.float32], out: NDArray[np.float32], mode: int) -> None:
        """`planes` (H, W, C) of the earlier view as seen from here, into `out`; 0 outside of its picture.

        Args:
            planes: float32.
            out: as `planes`.
            mode: cv2.INTER_LINEAR or cv2.INTER_NEAREST.
        """
        cv2.remap(planes, self._x, self._y, mode, dst=out, borderMode=cv2.BORDER_CONSTANT, borderValue=0)

    def farther(self, there: NDArray[np.float32], depth: NDArray[np.float32]) -> None:
        """Turn depths of the earlier view into how much farther they are than `depth`, along this view's axis, metres.

        A point at depth d here lies at d s there. One at depth D on the same ray of the earlier camera lies at
        d + (D - d s) g here, with g = the third row of K Rᵀ K⁻¹ times its pixel: exact, and linear in D.

        Args:
            there: float32 (H, W), D in metres, sampled where `aim` says; overwritten.
            depth: float32 (H, W), d in metres, which `aim` was given the inverse of.
        """
        there -= np.multiply(depth, self._z, out=self._spare)
        there *= self._slope
