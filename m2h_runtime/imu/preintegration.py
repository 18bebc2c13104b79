"""Gyroscope samples to one relative rotation.

After Forster, Carlone, Dellaert and Scaramuzza, "On-Manifold Preintegration for Real-Time Visual-Inertial Odometry"
(IEEE T-RO 33(1), 2017). Frame i is the first sample's IMU frame, frame j the last one's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from m2h_runtime.imu import so3

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Preintegration:
    """The rotation over N samples.

    Attributes:
        steps: float64 (N - 1, 3), rotation vector from each sample to the next, rad.
        durations_s: float64 (N - 1,), seconds from each sample to the next.
        rotations: float64 (N, 3, 3), from sample 0 to each: takes vectors of sample k's IMU frame to sample 0's.
    """

    steps: NDArray[np.float64]
    durations_s: NDArray[np.float64]
    rotations: NDArray[np.float64]

    @property
    def rotation(self) -> NDArray[np.float64]:
        """Delta R_ij of eq. 33, (3, 3): takes vectors of the last IMU frame to the first one."""
        last: NDArray[np.float64] = self.rotations[-1]
        return last

    @property
    def duration_s(self) -> float:
        """Seconds from the first sample to the last."""
        return float(self.durations_s.sum())

    @cached_property
    def bias_jacobian(self) -> NDArray[np.float64]:
        """(3, 3), how the rotation changes with the bias: - sum over k of Delta R_k+1,j^T J_r(k) dt_k (appendix B)."""
        to_last = self.rotation.T @ self.rotations[1:]  # Delta R_k+1,j transposed
        terms = to_last @ so3.right_jacobian(self.steps) * self.durations_s[:, None, None]
        total: NDArray[np.float64] = -terms.sum(axis=0)
        return total

    def corrected(self, bias_change: NDArray[np.float64]) -> NDArray[np.float64]:
        """The rotation (3, 3) had the bias been larger by `bias_change` (3,) rad/s; first order, eq. 44."""
        return self.rotation @ so3.exp(self.bias_jacobian @ bias_change)


def preintegrate(
    stamps_ns: NDArray[np.int64], gyro: NDArray[np.float64], bias: NDArray[np.float64]
) -> Preintegration:
    """Integrate the angular velocity from the first stamp to the last.

    Between two samples it is taken as constant at their mean: the mid-point rule, third order in the step.

    Args:
        stamps_ns: int64 (N,), increasing, N >= 2.
        gyro: float64 (N, 3), rad/s.
        bias: float64 (3,), part of `gyro`, rad/s.
    """
    durations_s = np.diff(stamps_ns) * 1e-9
    steps = ((gyro[1:] + gyro[:-1]) / 2 - bias) * durations_s[:, None]
    return Preintegration(steps, durations_s, _products(so3.exp(steps)))


def _products(factors: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N + 1, 3, 3): the product of the first k of the N `factors`, for k from 0.

    A prefix scan: log2 N multiplications of whole stacks instead of N of single matrices.
    """
    count = len(factors)
    result = np.empty((count + 1, 3, 3))
    result[0], result[1:] = np.eye(3), factors
    reach = 1
    while reach <= count:
        result[reach:] = result[:-reach] @ result[reach:]
        reach *= 2
    return result
