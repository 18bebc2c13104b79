"""The camera's pose from landmarks and where they are in its picture, given what is expected of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from m2h_runtime.imu import so3

if TYPE_CHECKING:
    from numpy.typing import NDArray

STEPS = 8
SMALL = 1e-4
"""m and rad: a step that is smaller is the last one."""
OUTLIER = 3.0
"""Standard deviations."""
NEAREST_M = 0.05
USUAL = 1.386
"""Median of the squared distance of two normal numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class Prior:
    """What is expected before looking.

    Attributes:
        pose: float64 (4, 4), world from camera.
        turn_sd: of its rotation, rad.
        step_sd: of its position, metres.
    """

    pose: NDArray[np.float64]
    turn_sd: float
    step_sd: float

    @property
    def covariance(self) -> NDArray[np.float64]:
        """float64 (6, 6), position and rotation."""
        return np.diag(np.repeat((self.step_sd**2, self.turn_sd**2), 3))


@dataclass(frozen=True, slots=True, eq=False)
class Sightings:
    """N landmarks that are seen in a picture.

    Attributes:
        points: float64 (N, 3), where they are, metres, world.
        rays: float64 (N, 2), x/z and y/z where they are seen.
        sd: float64 (N,), of that, in the same unit.
    """

    points: NDArray[np.float64]
    rays: NDArray[np.float64]
    sd: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """What is found.

    Attributes:
        pose: float64 (4, 4), world from camera.
        covariance: float64 (6, 6) of the position, m^2, and of a rotation about the world's axes, rad^2, given the
            landmarks.
        errors: float64 (N,), from where each landmark is seen to where it should be, x/z; infinite behind the camera.
        inliers: bool (N,).
    """

    pose: NDArray[np.float64]
    covariance: NDArray[np.float64]
    errors: NDArray[np.float64]
    inliers: NDArray[np.bool_]

    @property
    def share(self) -> float:
        """Of inliers, 0..1."""
        return float(self.inliers.mean())

    @property
    def residual(self) -> float:
        """Median error of the inliers, x/z; infinite if there are none."""
        return float(np.median(self.errors[self.inliers])) if self.inliers.any() else np.inf


def solve(seen: Sightings, prior: Prior) -> Solution:
    """The pose that is expected, corrected; or the one that most landmarks agree on, if they contradict that."""
    near = refine(seen, prior, prior.pose)
    if near.share > 0.5:
        return near
    start = search(seen)
    if start is None:
        return near
    far = refine(seen, prior, start)
    return far if far.share > near.share else near


def refine(seen: Sightings, prior: Prior, start: NDArray[np.float64]) -> Solution:
    """The most likely pose, by Gauss-Newton from `start` (4, 4) with Cauchy's weights.

    OpenCV's `solvePnPRefineLM` knows neither of weights nor of what is expected.
    """
    pose = start.copy()
    tight = np.repeat((prior.step_sd**-2, prior.turn_sd**-2), 3)
    turn = so3.log(prior.pose[:3, :3] @ pose[:3, :3].T)
    away = np.concatenate((prior.pose[:3, 3] - pose[:3, 3], turn))
    for _ in range(STEPS):
        slopes, misses = _linear(seen, pose)
        far = (misses * misses).sum(axis=1) / seen.sd**2
        weights = np.repeat(1 / (seen.sd**2 * (1 + far / OUTLIER**2)), 2)
        normal = slopes.T @ (slopes * weights[:, None]) + np.diag(tight)
        step = np.linalg.solve(normal, slopes.T @ (weights * misses.ravel()) + tight * away)
        pose[:3, 3] += step[:3]
        pose[:3, :3] = so3.exp(step[3:]) @ pose[:3, :3]
        away -= step
        if np.abs(step).max() < SMALL:
            break
    errors = reprojection(seen, pose)
    # By as much as the residuals exceed what was expected of them, so does the pose.
    worse = max(1.0, float(np.median((errors / seen.sd) ** 2)) / USUAL)
    return Solution(pose, np.linalg.inv(normal) * worse, errors, errors < OUTLIER * seen.sd)


def search(seen: Sightings) -> NDArray[np.float64] | None:
    """A pose (4, 4) that most landmarks agree with, from nothing; None: there is none."""
    found, turn, shift, _ = cv2.solvePnPRansac(
        seen.points,
        np.ascontiguousarray(seen.rays),
        np.eye(3),
        None,
        flags=cv2.SOLVEPNP_P3P,
        reprojectionError=OUTLIER * float(np.median(seen.sd)),
        iterationsCount=200,
        confidence=0.999,
    )
    if not found or not np.isfinite(shift).all():
        return None
    pose = np.eye(4)
    pose[:3, :3] = cv2.Rodrigues(turn)[0].T
    pose[:3, 3] = -pose[:3, :3] @ shift[:, 0]
    return pose


def project(points: NDArray[np.float64], pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """x/z and y/z, float64 (N, 2), of points (N, 3) seen from `pose` (4, 4)."""
    there = (points - pose[:3, 3]) @ pose[:3, :3]
    return np.asarray(there[:, :2] / np.maximum(there[:, 2:], NEAREST_M))


def turned(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The angle between two poses (4, 4), rad."""
    return float(np.linalg.norm(so3.log(one[:3, :3].T @ other[:3, :3])))


def reprojection(seen: Sightings, pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 (N,), between where landmarks are seen and where they should be; infinite behind the camera."""
    ahead = (seen.points - pose[:3, 3]) @ pose[:3, 2] > NEAREST_M
    return np.where(ahead, np.linalg.norm(project(seen.points, pose) - seen.rays, axis=1), np.inf)


def _linear(seen: Sightings, pose: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How projections change with the pose, (2 N, 6) by position and rotation, and what they miss, (N, 2)."""
    back = pose[:3, :3].T
    away = seen.points - pose[:3, 3]
    there = away @ pose[:3, :3]
    depth = np.maximum(there[:, 2], NEAREST_M)
    flat = there[:, :2] / depth[:, None]
    moved = (back[None, :2] - flat[:, :, None] * back[None, 2:]) / depth[:, None, None]  # with the point
    turned = moved @ so3.hat(away)
    return np.concatenate((-moved, turned), axis=2).reshape(-1, 6), seen.rays - flat
