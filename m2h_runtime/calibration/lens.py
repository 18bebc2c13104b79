"""Both OpenCV lens families behind one pair of functions: point to pixel, and pixel to point."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_runtime.calibration.camera import CameraModel

_ZERO = np.zeros(3)


def project(camera: CameraModel, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pixels (N, 2) of `points` (N, 3), camera optical frame, z > 0."""
    return _project(camera, points.reshape(-1, 1, 3), _ZERO, _ZERO)[0].reshape(-1, 2)


def project_with_jacobian(
    camera: CameraModel, points: NDArray[np.float64], pose: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Pixels of `points` (N, 3) of a board at `pose` (6,) = rotation vector and translation, and their derivatives.

    Returns:
        Pixels (N, 2); derivatives (2 N, K) by fx, fy, cx, cy and the lens coefficients; (2 N, 6) by the pose.
    """
    pixels, jacobian = _project(camera, points.reshape(-1, 1, 3), pose[:3], pose[3:])
    if camera.distortion_model == "equidistant":  # f, c, coefficients, rotation, translation, skew
        by_lens, by_pose = jacobian[:, :8], jacobian[:, 8:14]
    else:  # rotation, translation, f, c, coefficients
        by_lens, by_pose = jacobian[:, 6 : 10 + len(camera.distortion)], jacobian[:, :6]
    return pixels.reshape(-1, 2), by_lens, by_pose


def unproject(camera: CameraModel, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """The points (N, 2) at z = 1 that `pixels` (N, 2) see; wrong for rays at 90 degrees or more from the axis."""
    undistort = (
        cv2.fisheye.undistortPoints if camera.distortion_model == "equidistant" else cv2.undistortPoints
    )
    flat: NDArray[np.float64] = undistort(
        pixels.reshape(-1, 1, 2), camera.matrix, np.array(camera.distortion)
    )
    return flat.reshape(-1, 2)


def _project(
    camera: CameraModel,
    points: NDArray[np.float64],
    rotation: NDArray[np.float64],
    shift: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    coefficients = np.array(camera.distortion, np.float64)
    project = cv2.fisheye.projectPoints if camera.distortion_model == "equidistant" else cv2.projectPoints
    pixels, jacobian = project(points, rotation, shift, camera.matrix, coefficients)
    return pixels, jacobian
