"""Poses of a camera from a bag's /tf and /tf_static."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from m2h_runtime.sources.poses import PoseSeries

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

TF, TF_STATIC = "/tf", "/tf_static"
DEEPEST = 32


class Transforms:
    """All transforms of a recording, by child frame.

    Args:
        messages: topic and message of `TF` and `TF_STATIC`, in any order.
    """

    def __init__(self, messages: Iterable[tuple[str, Any]]) -> None:
        rows: dict[str, list[tuple[int, tuple[float, ...], tuple[float, ...]]]] = {}
        self._parents: dict[str, str] = {}
        fixed = set()
        for topic, message in messages:
            for one in message.transforms:
                child = one.child_frame_id
                self._parents[child] = one.header.frame_id
                place, turn, stamp = one.transform.translation, one.transform.rotation, one.header.stamp
                stamp_ns = int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)
                quat_wxyz = (turn.w, turn.x, turn.y, turn.z)
                rows.setdefault(child, []).append((stamp_ns, (place.x, place.y, place.z), quat_wxyz))
                if topic == TF_STATIC:
                    fixed.add(child)
        self._series = {child: _series(found) for child, found in rows.items() if child not in fixed}
        self._fixed = {child: _pose(rows[child][-1]) for child in fixed}

    def world_from(self, frame: str, stamp_ns: int) -> NDArray[np.float64] | None:
        """Pose of a frame in the root of its tree, float64 (4, 4); None where nobody knows it at that time."""
        if frame not in self._parents:
            return None
        pose = np.eye(4)
        for _ in range(DEEPEST):
            if frame not in self._parents:
                return pose
            step = self._fixed.get(frame)
            step = self._series[frame].at(stamp_ns) if step is None else step
            if step is None:
                return None
            pose, frame = step @ pose, self._parents[frame]
        return None  # a loop


def _series(rows: list[tuple[int, tuple[float, ...], tuple[float, ...]]]) -> PoseSeries:
    by_stamp = {row[0]: row for row in rows}
    ordered = [by_stamp[stamp] for stamp in sorted(by_stamp)]
    stamps = np.array([row[0] for row in ordered], np.int64)
    return PoseSeries(stamps, np.array([row[1] for row in ordered]), np.array([row[2] for row in ordered]))


def _pose(row: tuple[int, tuple[float, ...], tuple[float, ...]]) -> NDArray[np.float64]:
    pose = _series([row]).at(row[0])
    assert pose is not None  # noqa: S101  # asked for the very stamp that is there
    return pose
