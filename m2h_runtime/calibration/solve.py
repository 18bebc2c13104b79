"""From views of a board to a camera: OpenCV's calibration, without the views that do not fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import cv2
import numpy as np

from m2h_runtime.calibration.camera import CameraModel
from m2h_runtime.calibration.lens import project_with_jacobian
from m2h_runtime.errors import CalibrationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from m2h_runtime.calibration.board import Board
    from m2h_runtime.calibration.views import View

Lens = Literal["plumb_bob", "equidistant"]
LENSES: tuple[Lens, ...] = get_args(Lens)
FEWEST_VIEWS = 8
OUTLIER = 2.5
"""A view whose error is so many times the median view's is dropped..."""
HARMLESS_PX = 0.3
"""... unless it is below this."""
ROUNDS = 3
PARAMETERS: dict[Lens, tuple[str, ...]] = {
    "plumb_bob": ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2"),
    "equidistant": ("fx", "fy", "cx", "cy", "k1", "k2", "k3", "k4"),
}


@dataclass(frozen=True)
class Solution:
    """What was solved for.

    Attributes:
        camera: the calibrated camera.
        views: those that it was calibrated with.
        residuals: by view, float64 (N, 2), found minus projected corners, pixels.
        dropped: the views that did not fit, with their error in pixels.
        deviations: standard deviation of each parameter, in its own unit.
    """

    camera: CameraModel
    views: list[View]
    residuals: list[NDArray[np.float64]]
    dropped: list[tuple[View, float]]
    deviations: dict[str, float]

    @property
    def rms_px(self) -> float:
        """Root mean square distance between found and projected corners, pixels."""
        return rms(np.concatenate(self.residuals))

    @property
    def values(self) -> dict[str, float]:
        """The parameters by name."""
        camera = self.camera
        numbers = (camera.fx, camera.fy, camera.cx, camera.cy, *camera.distortion)
        return dict(zip(self.deviations, numbers, strict=False))  # k3 of plumb_bob is 0 and has no name


def rms(residuals: NDArray[np.float64]) -> float:
    """Root mean square length of residuals (N, 2)."""
    return float(np.sqrt(np.mean(np.sum(residuals**2, axis=1))))


def solve(views: Sequence[View], board: Board, size: tuple[int, int], lens: Lens) -> Solution:
    """Calibrate; drop the views that fit much worse than the others and calibrate again.

    Args:
        views: of the board.
        board: the board.
        size: (H, W) of the images.
        lens: "plumb_bob" (k3 is held at 0, so that Kalibr's radtan can say the same) or "equidistant" for wide lenses.

    Raises:
        CalibrationError: there are too few views, or they contradict each other so much that nothing was found.
    """
    used, dropped = list(views), []
    for _ in range(ROUNDS):
        if len(used) < FEWEST_VIEWS:
            raise CalibrationError(
                f"only {len(used)} usable views of the board, at least {FEWEST_VIEWS} are needed; "
                "move it slowly through the whole picture, near and far, tilted to all sides"
            )
        camera, poses = _calibrate(used, board, size, lens)
        residuals = [_residuals(camera, view, board, pose) for view, pose in zip(used, poses, strict=True)]
        errors = np.array([rms(r) for r in residuals])
        bad = errors > max(HARMLESS_PX, OUTLIER * float(np.median(errors)))
        if not bad.any():
            break
        dropped += [(view, float(e)) for view, e, out in zip(used, errors, bad, strict=True) if out]
        used = [view for view, out in zip(used, bad, strict=True) if not out]
    else:
        raise CalibrationError(
            f"the views contradict each other: {len(dropped)} of {len(views)} fit badly, and still some do; "
            "is the board flat, its description right, the focus and zoom fixed?"
        )
    deviations = _deviations(camera, used, board, poses, residuals)
    return Solution(camera, used, residuals, dropped, dict(zip(PARAMETERS[lens], deviations, strict=True)))


def _calibrate(
    views: Sequence[View], board: Board, size: tuple[int, int], lens: Lens
) -> tuple[CameraModel, NDArray[np.float64]]:
    """The camera, and (N, 6) rotation vectors and translations of the board."""
    points = [board.points[view.corners.ids].astype(np.float32) for view in views]
    pixels = [view.corners.pixels.astype(np.float32) for view in views]
    try:
        found = _fisheye(points, pixels, size) if lens == "equidistant" else _pinhole(points, pixels, size)
    except cv2.error as error:
        raise CalibrationError(
            f"OpenCV finds no {lens} camera for these {len(views)} views ({' '.join(str(error).split())[-120:]}); "
            "check the board's description and record more and other views"
        ) from error
    _, k, coefficients, rotations, shifts = found
    fx, fy, cx, cy = (float(number) for number in (k[0, 0], k[1, 1], k[0, 2], k[1, 2]))
    distortion = tuple(
        float(number) for number in np.ravel(coefficients)[: 4 if lens == "equidistant" else 5]
    )
    camera = CameraModel(size[1], size[0], fx, fy, cx, cy, lens, distortion)
    return camera, np.concatenate([np.reshape(rotations, (-1, 3)), np.reshape(shifts, (-1, 3))], axis=1)


def _pinhole(points: list[Any], pixels: list[Any], size: tuple[int, int]) -> Any:
    return cv2.calibrateCamera(points, pixels, size[::-1], None, None, flags=cv2.CALIB_FIX_K3)


def _fisheye(points: list[Any], pixels: list[Any], size: tuple[int, int]) -> Any:
    flags = cv2.fisheye if hasattr(cv2.fisheye, "CALIB_FIX_SKEW") else cv2  # OpenCV 5 moved them
    return cv2.fisheye.calibrate(
        [np.reshape(p, (1, -1, 3)) for p in points],  # rows, or OpenCV 5 refuses them
        [np.reshape(p, (1, -1, 2)) for p in pixels],
        size[::-1],
        np.zeros((3, 3)),
        np.zeros((4, 1)),
        flags=flags.CALIB_RECOMPUTE_EXTRINSIC | flags.CALIB_FIX_SKEW,
        criteria=(cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 100, 1e-8),
    )


def _residuals(
    camera: CameraModel, view: View, board: Board, pose: NDArray[np.float64]
) -> NDArray[np.float64]:
    return view.corners.pixels - project_with_jacobian(camera, board.points[view.corners.ids], pose)[0]


def _deviations(
    camera: CameraModel,
    views: Sequence[View],
    board: Board,
    poses: NDArray[np.float64],
    residuals: list[NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Standard deviations of the lens's 8 parameters, from the curvature of the error at its minimum.

    Each view's pose is eliminated (Schur complement): what it could have absorbed says nothing about the lens.
    """
    information = np.zeros((8, 8))
    for view, pose in zip(views, poses, strict=True):
        _, by_lens, by_pose = project_with_jacobian(camera, board.points[view.corners.ids], pose)
        free = by_lens[:, :8] - by_pose @ np.linalg.lstsq(by_pose, by_lens[:, :8], rcond=None)[0]
        information += free.T @ free
    flat = np.concatenate(residuals).ravel()
    variance = float(flat @ flat) / max(1, flat.size - 8 - 6 * len(views))
    deviations: NDArray[np.float64] = np.sqrt(variance * np.diag(np.linalg.pinv(information)))
    return deviations
