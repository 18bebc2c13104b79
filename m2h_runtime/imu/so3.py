"""Rotations and rotation vectors: exponential map, logarithm and right Jacobian, each safe at every angle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMALL = 1e-3
"""Below this angle, rad, a series is exact and the closed form loses digits."""


def hat(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Skew matrices (..., 3, 3) of vectors (..., 3): times another vector, each gives the cross product."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    result = np.zeros((*vectors.shape, 3))
    result[..., 0, 1], result[..., 0, 2], result[..., 1, 2] = -z, y, -x
    result[..., 1, 0], result[..., 2, 0], result[..., 2, 1] = z, -y, x
    return result


def exp(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation matrices (..., 3, 3) of rotation vectors (..., 3), rad.

    Rodrigues' formula I + a K + b K², with a = sin t / t and b = (1 - cos t) / t² written as sinc: no case at t = 0.
    """
    angle = np.sqrt((vectors * vectors).sum(-1))[..., None, None]
    skew = hat(vectors)
    half = np.sinc(angle / (2 * np.pi))
    result: NDArray[np.float64] = np.eye(3) + np.sinc(angle / np.pi) * skew + half * half / 2 * (skew @ skew)
    return result


def log(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation vector (3,) of a rotation matrix (3, 3), rad, at most pi long.

    By way of the unit quaternion from its largest component (Shepperd 1978), which stays exact near 0 and near pi.
    """
    trace = np.trace(rotation)
    squares = np.array((trace, *np.diag(rotation)))  # of w, x, y, z, but for the same scale and shift
    largest = int(np.argmax(squares))
    skew = rotation - rotation.T
    column = np.array((0.0, skew[2, 1], skew[0, 2], skew[1, 0]))
    if largest:
        i = largest - 1
        column = np.array((column[largest], *(rotation[i] + rotation[:, i])))
        column[largest] = 1 + 2 * rotation[i, i] - trace
    else:
        column[0] = 1 + trace
    quaternion = column / np.linalg.norm(column) * (1 if column[0] >= 0 else -1)
    sine = np.linalg.norm(quaternion[1:])
    # angle / sin(angle / 2) tends to 2 at 0
    scale = 2 * np.arctan2(sine, quaternion[0]) / sine if sine > 0 else 2.0
    vector: NDArray[np.float64] = scale * quaternion[1:]
    return vector


def right_jacobian(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 3, 3) J with exp(v + d) = exp(v) exp(J d) for small d (Forster et al. 2017, eq. 7 and 8)."""
    angle = np.sqrt((vectors * vectors).sum(-1))[..., None, None]
    skew = hat(vectors)
    half = np.sinc(angle / (2 * np.pi))
    safe = np.maximum(angle, SMALL)
    third = np.where(angle < SMALL, (1 - angle**2 / 20) / 6, (safe - np.sin(safe)) / safe**3)
    result: NDArray[np.float64] = np.eye(3) - half * half / 2 * skew + third * (skew @ skew)
    return result
