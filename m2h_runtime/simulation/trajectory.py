"""A camera's motion as a continuous function of time, with its exact derivatives.

World frame: x and y horizontal, z up, metres. Body frame: x forward, y left, z up. Camera optical frame: x right,
y down, z forward (REP 103). Body and optical frame share their origin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from m2h_runtime.errors import InputError
from m2h_runtime.simulation.libraries import require

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

BODY_FROM_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
"""Rotation that takes optical coordinates to body coordinates."""

START_NS = 1_600_000_000_000_000_000
"""Stamp of a trajectory's time 0; not 0, which tf2 takes for "the latest"."""

DEGREE = 5  # quintic: acceleration and angular acceleration are smooth too
MIN_SAMPLES = DEGREE + 1
MAX_PITCH = np.deg2rad(80.0)  # yaw and roll are one and the same at 90 degrees


def stamps_ns(times: ArrayLike, start_ns: int = START_NS) -> NDArray[np.int64]:
    """Integer nanosecond stamps of trajectory `times` (seconds)."""
    result: NDArray[np.int64] = np.rint(np.asarray(times, np.float64) * 1e9).astype(np.int64) + start_ns
    return result


def check_rigid(name: str, transform: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `transform` as (4, 4) float64 if it is a rotation with a translation.

    Raises:
        InputError: it is something else.
    """
    matrix = np.asarray(transform, np.float64)
    if (
        matrix.shape != (4, 4)
        or not np.allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-6)
        or np.linalg.det(matrix[:3, :3]) < 0
        or not np.allclose(matrix[3], (0, 0, 0, 1))
    ):
        raise InputError(
            f"{name}: is not a rigid transform; give a (4, 4) matrix of rotation and translation"
        )
    return matrix


def inverse(transform: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of one rigid transform (4, 4) or of many (..., 4, 4)."""
    rotation = np.swapaxes(transform[..., :3, :3], -1, -2)
    result = np.zeros_like(transform)
    result[..., :3, :3] = rotation
    result[..., :3, 3] = -np.einsum("...ij,...j->...i", rotation, transform[..., :3, 3])
    result[..., 3, 3] = 1.0
    return result


class Trajectory:
    """Quintic splines through samples of position, yaw, pitch and roll: four times continuously differentiable.

    The orientation is R_z(yaw) R_y(-pitch) R_x(roll) for the body frame, so yaw turns left and positive pitch looks
    up. Every method takes one time or an array of times of any shape, in seconds within [0, `duration_s`], and puts
    that shape before its own axes.

    Args:
        times: (N,) seconds, increasing from 0, N >= 6.
        positions: (N, 3) metres, world.
        yaw: (N,) radians, without jumps of 2 pi.
        pitch: (N,) radians, positive is up, within 80 degrees.
        roll: (N,) radians, positive lowers the right side.

    Raises:
        InputError: shapes or values are other than stated.
    """

    def __init__(
        self,
        times: NDArray[np.float64],
        positions: NDArray[np.float64],
        yaw: NDArray[np.float64],
        pitch: NDArray[np.float64],
        roll: NDArray[np.float64],
    ) -> None:
        _check_samples(times, positions, yaw, pitch, roll)
        samples = np.column_stack((positions, yaw, -np.asarray(pitch), roll))
        self._spline = require("scipy.interpolate").make_interp_spline(times, samples, k=DEGREE)
        self._derivatives = [self._spline, self._spline.derivative(1), self._spline.derivative(2)]
        self.duration_s = float(times[-1])

    @property
    def length_m(self) -> float:
        """Length of the camera's way, metres; the integral of the speed over steps of 5 ms."""
        steps = max(2, round(self.duration_s / 0.005) + 1)
        times = np.linspace(0.0, self.duration_s, steps)
        speed = np.linalg.norm(self.velocity(times), axis=-1)
        return float((speed[1:] + speed[:-1]).sum() / 2 * (times[1] - times[0]))

    def pose(self, t: float) -> NDArray[np.float64]:
        """world_from_camera of the optical frame at time `t`, (4, 4)."""
        return self.poses(t)

    def poses(self, ts: ArrayLike) -> NDArray[np.float64]:
        """world_from_camera of the optical frame at times `ts`, (..., 4, 4)."""
        values = self._evaluate(ts, 0)
        result = np.zeros((*values.shape[:-1], 4, 4))
        result[..., :3, :3] = _rotation(values[..., 3:]) @ BODY_FROM_OPTICAL
        result[..., :3, 3] = values[..., :3]
        result[..., 3, 3] = 1.0
        return result

    def velocity(self, ts: ArrayLike) -> NDArray[np.float64]:
        """Of the camera in the world frame, (..., 3), m/s."""
        return self._evaluate(ts, 1)[..., :3]

    def acceleration(self, ts: ArrayLike) -> NDArray[np.float64]:
        """Of the camera in the world frame, (..., 3), m/s^2, without gravity."""
        return self._evaluate(ts, 2)[..., :3]

    def angular_velocity(self, ts: ArrayLike) -> NDArray[np.float64]:
        """Of the camera relative to the world, in the optical frame, (..., 3), rad/s."""
        angles, rates = (self._evaluate(ts, order)[..., 3:] for order in (0, 1))
        return np.asarray(_body_rates(angles, rates) @ BODY_FROM_OPTICAL)

    def angular_acceleration(self, ts: ArrayLike) -> NDArray[np.float64]:
        """Time derivative of `angular_velocity`, in the optical frame, (..., 3), rad/s^2."""
        angles, rates, accelerations = (self._evaluate(ts, order)[..., 3:] for order in (0, 1, 2))
        return np.asarray(_body_accelerations(angles, rates, accelerations) @ BODY_FROM_OPTICAL)

    def angles(self, ts: ArrayLike) -> NDArray[np.float64]:
        """Yaw, pitch (positive is up) and roll, (..., 3), radians."""
        return self._evaluate(ts, 0)[..., 3:] * (1.0, -1.0, 1.0)

    def _evaluate(self, ts: ArrayLike, order: int) -> NDArray[np.float64]:
        """(..., 6): x, y, z, yaw, nose-down pitch, roll, or their derivative of that order."""
        times = np.asarray(ts, np.float64)
        slack = 1e-9  # a time that was rounded to nanoseconds
        if times.size and (times.min() < -slack or times.max() > self.duration_s + slack):
            raise InputError(
                f"trajectory: asked for {times.min():.3f} to {times.max():.3f} s, but it lasts from 0 to "
                f"{self.duration_s:.3f} s; ask for times within"
            )
        result: NDArray[np.float64] = self._derivatives[order](np.clip(times, 0.0, self.duration_s))
        return result


def _check_samples(
    times: NDArray[np.float64], positions: NDArray[np.float64], *angles: NDArray[np.float64]
) -> None:
    count = len(times)
    if count < MIN_SAMPLES or times[0] != 0.0 or not (np.diff(times) > 0).all():
        raise InputError(f"trajectory: times must increase from 0 and be {MIN_SAMPLES} or more; got {count}")
    if np.shape(positions) != (count, 3) or any(np.shape(angle) != (count,) for angle in angles):
        raise InputError(f"trajectory: {count} times need ({count}, 3) positions and ({count},) angles")
    if not all(np.isfinite(values).all() for values in (times, positions, *angles)):
        raise InputError("trajectory: a sample is not finite; give finite positions and angles")
    if np.abs(angles[1]).max() > MAX_PITCH:
        raise InputError("trajectory: pitch beyond 80 degrees; keep the camera nearer to the horizon")


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """world_from_body R_z R_y R_x of (..., 3) yaw, nose-down pitch, roll; (..., 3, 3)."""
    (cy, cp, cr), (sy, sp, sr) = (np.moveaxis(f(angles), -1, 0) for f in (np.cos, np.sin))
    rows = (
        (cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr),
        (sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr),
        (-sp, cp * sr, cp * cr),
    )
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def _body_rates(angles: NDArray[np.float64], rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angular velocity in the body frame from the rates of yaw, nose-down pitch and roll (Diebel 2006, 5.6.4)."""
    (_, pitch, roll), (dy, dp, dr) = np.moveaxis(angles, -1, 0), np.moveaxis(rates, -1, 0)
    return np.stack(
        (
            dr - dy * np.sin(pitch),
            dp * np.cos(roll) + dy * np.cos(pitch) * np.sin(roll),
            -dp * np.sin(roll) + dy * np.cos(pitch) * np.cos(roll),
        ),
        axis=-1,
    )


def _body_accelerations(
    angles: NDArray[np.float64], rates: NDArray[np.float64], accelerations: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Time derivative of `_body_rates`: its own form on the second derivatives, plus the products of rates."""
    (_, pitch, roll), (dy, dp, dr) = np.moveaxis(angles, -1, 0), np.moveaxis(rates, -1, 0)
    (cp, cr), (sp, sr) = ((f(pitch), f(roll)) for f in (np.cos, np.sin))
    products = np.stack(
        (
            -dy * dp * cp,
            -dp * dr * sr - dy * dp * sp * sr + dy * dr * cp * cr,
            -dp * dr * cr - dy * dp * sp * cr - dy * dr * cp * sr,
        ),
        axis=-1,
    )
    return np.asarray(_body_rates(angles, accelerations) + products)
