"""Recorded poses, at any time in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LONGEST_GAP_NS = 100_000_000
"""No pose is made up between two that are further apart."""


class PoseSeries:
    """Poses of a body in the world.

    Args:
        stamps_ns: int64 (N,), rising.
        positions: float64 (N, 3), metres, world.
        quaternions_wxyz: float64 (N, 4), world from body.
    """

    def __init__(
        self,
        stamps_ns: NDArray[np.int64],
        positions: NDArray[np.float64],
        quaternions_wxyz: NDArray[np.float64],
    ) -> None:
        self._stamps_ns = stamps_ns
        self._positions = positions
        self._quaternions = quaternions_wxyz

    def at(self, stamp_ns: int) -> NDArray[np.float64] | None:
        """World from body, float64 (4, 4), between the two neighbours; None outside or in a gap."""
        after = int(np.searchsorted(self._stamps_ns, stamp_ns))
        if after == len(self._stamps_ns):
            return None
        before = after if self._stamps_ns[after] == stamp_ns else after - 1
        step_ns = int(self._stamps_ns[after] - self._stamps_ns[before]) if before >= 0 else -1
        if not 0 <= step_ns <= LONGEST_GAP_NS:
            return None
        share = (stamp_ns - int(self._stamps_ns[before])) / step_ns if step_ns else 0.0
        pair = [before, after]
        return between(self._positions[pair], self._quaternions[pair], share)


def between(
    positions: NDArray[np.float64], quaternions_wxyz: NDArray[np.float64], share: float
) -> NDArray[np.float64]:
    """World from body, float64 (4, 4), between two poses that are close to each other.

    Args:
        positions: float64 (2, 3), metres, world.
        quaternions_wxyz: float64 (2, 4), world from body.
        share: 0: the first pose, 1: the second; a little more: as if the motion went on.
    """
    first, second = quaternions_wxyz
    # q and -q are one rotation. Poses are so close that the chord does for the arc.
    blend = (1 - share) * first + share * (second if first @ second > 0 else -second)
    pose = np.eye(4)
    pose[:3, :3] = _rotation(blend / np.linalg.norm(blend))
    pose[:3, 3] = (1 - share) * positions[0] + share * positions[1]
    return pose


def _rotation(quaternion_wxyz: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) of a unit quaternion."""
    w, x, y, z = quaternion_wxyz
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
