"""`Drift`: how uncertain a pose has become since the start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from m2h_runtime.imu import so3

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCALE_SD = 0.1
"""Of the network's depths altogether, as a part of them: it does not average out, so it grows with the way."""


class Drift:
    """New landmarks inherit the uncertainty of the pose that they were seen from.

    Covariances are float64 (6, 6) of position, m^2, and of a rotation about the world's axes, rad^2.
    """

    def __init__(self) -> None:
        self._map = np.zeros((6, 6))
        self._position = np.zeros(3)

    def at(self, pose: NDArray[np.float64], relative: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of `pose` (4, 4), which the landmarks give with the covariance `relative`."""
        total = self._carried(pose) + relative
        total[:3, :3] += SCALE_SD**2 * np.outer(pose[:3, 3], pose[:3, 3])
        return total

    def mapped(self, pose: NDArray[np.float64], relative: NDArray[np.float64], share: float) -> None:
        """So large a part of the landmarks, 0..1, was seen from `pose` first."""
        self._map = self._carried(pose) + share * relative
        self._position = pose[:3, 3].copy()

    def _carried(self, pose: NDArray[np.float64]) -> NDArray[np.float64]:
        """The map's, at `pose`: a rotation of the map moves what is far from where it was made."""
        lever = np.eye(6)
        lever[:3, 3:] = -so3.hat(pose[:3, 3] - self._position)
        return np.asarray(lever @ self._map @ lever.T)
