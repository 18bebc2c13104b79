"""Poses of a camera from /tf and /tf_static, recorded or live."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from m2h_runtime.sources.poses import between

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

TF, TF_STATIC = "/tf", "/tf_static"
DEEPEST = 32
LONGEST_GAP_NS = 250_000_000
"""No pose is made up between two that are further apart: odometry comes at 10 Hz at least."""
JUMP_BACK_NS = 500_000_000
"""Live transforms whose stamps go back further are of a bag that starts again."""


class Found(NamedTuple):
    """What was found out about a frame at one time.

    Attributes:
        pose: float64 (4, 4), of the frame in `root`; None: unknown.
        root: the frame that the pose is in.
        moving: some transform on the way is not static.
        why: there is no pose, in words that stay the same while nothing changes; "" if there is one.
    """

    pose: NDArray[np.float64] | None
    root: str = ""
    moving: bool = False
    why: str = ""


class Transforms:
    """Transforms by child frame.

    Args:
        messages: topic and tf2_msgs/TFMessage of `TF` and `TF_STATIC`, in any order.
        kept_ns: older ones of a frame than this before its newest are forgotten; None: none are.
    """

    def __init__(self, messages: Iterable[tuple[str, Any]] = (), kept_ns: int | None = None) -> None:
        self._kept_ns = kept_ns
        self._tracks: dict[str, _Track] = {}
        for topic, message in messages:
            self.push_message(message, fixed=topic == TF_STATIC)

    def push_message(self, message: Any, *, fixed: bool) -> None:
        """Take a tf2_msgs/TFMessage, of whichever library; `fixed`: from `TF_STATIC`."""
        for one in message.transforms:
            place, turn, stamp = one.transform.translation, one.transform.rotation, one.header.stamp
            self.push(
                one.header.frame_id,
                one.child_frame_id,
                int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec),
                (place.x, place.y, place.z),
                (turn.w, turn.x, turn.y, turn.z),
                fixed=fixed,
            )

    def push(
        self,
        parent: str,
        child: str,
        stamp_ns: int,
        position: Sequence[float],
        quat_wxyz: Sequence[float],
        *,
        fixed: bool = False,
    ) -> None:
        """Take one pose of `child` in `parent`; what is no pose is dropped.

        Args:
            parent: frame.
            child: frame.
            stamp_ns: integer nanoseconds.
            position: (3,), metres.
            quat_wxyz: (4,), parent from child.
            fixed: it holds at any time.
        """
        numbers = np.array((*position, *quat_wxyz), np.float64)
        if not np.isfinite(numbers).all() or np.linalg.norm(numbers[3:]) < 0.5:
            return
        track = self._tracks.get(child)
        if track is None or (track.parent, track.fixed) != (parent, fixed):
            track = self._tracks[child] = _Track(parent, fixed)
        track.add(stamp_ns, numbers, self._kept_ns)

    def world_from(self, frame: str, stamp_ns: int) -> NDArray[np.float64] | None:
        """Pose of a frame in the root of its tree, float64 (4, 4); None where nobody knows it at that time."""
        return self.look_up(frame, stamp_ns).pose

    def look_up(self, frame: str, stamp_ns: int, root: str = "") -> Found:
        """Pose of `frame` in `root`, one of the frames above it; "": the uppermost."""
        if frame not in self._tracks and (frame != root or not root):
            return Found(None, why=f"nobody sends a transform of {frame or 'an image without a frame id'}")
        pose, at, moving = np.eye(4), frame, False
        for _ in range(DEEPEST):
            track = self._tracks.get(at)
            if at == root or track is None:
                break
            step = track.at(stamp_ns)
            if step is None:
                return Found(None, why=f"{track.parent} <- {at}: {track.lack(stamp_ns)}")
            pose, at, moving = step @ pose, track.parent, moving or not track.fixed
        else:
            return Found(None, why=f"the transforms above {frame} go round in a circle")
        if root and at != root:
            return Found(None, why=f"{root} is not above {frame}; the uppermost frame is {at}")
        return Found(pose, at, moving)


class _Track:
    """All poses of one frame in its parent, by time."""

    def __init__(self, parent: str, fixed: bool) -> None:
        self.parent = parent
        self.fixed = fixed
        self._stamps: list[int] = []
        self._poses: list[NDArray[np.float64]] = []  # each (7,): position, quat_wxyz

    def add(self, stamp_ns: int, pose: NDArray[np.float64], kept_ns: int | None) -> None:
        newest_ns = self._stamps[-1] if self._stamps else stamp_ns
        if self.fixed or (kept_ns is not None and newest_ns - stamp_ns > JUMP_BACK_NS):
            self._forget(len(self._stamps))
        place = bisect_left(self._stamps, stamp_ns)
        again = place < len(self._stamps) and self._stamps[place] == stamp_ns
        self._stamps[place : place + again] = [stamp_ns]
        self._poses[place : place + again] = [pose]
        if kept_ns is not None:
            self._forget(bisect_left(self._stamps, self._stamps[-1] - kept_ns))

    def _forget(self, count: int) -> None:
        del self._stamps[:count], self._poses[:count]

    def at(self, stamp_ns: int) -> NDArray[np.float64] | None:
        """float64 (4, 4), between the two neighbours; None outside or in a gap."""
        if self.fixed:
            return _between(self._poses[0], self._poses[0], 0.0)
        after = bisect_left(self._stamps, stamp_ns)
        if after == len(self._stamps):
            return None
        before = after if self._stamps[after] == stamp_ns else after - 1
        step_ns = self._stamps[after] - self._stamps[before]
        if before < 0 or step_ns > LONGEST_GAP_NS:
            return None
        share = (stamp_ns - self._stamps[before]) / step_ns if step_ns else 0.0
        return _between(self._poses[before], self._poses[after], share)

    def lack(self, stamp_ns: int) -> str:
        """Why there is nothing at that time."""
        if stamp_ns > self._stamps[-1]:
            return "the newest transform is older than the image; is it still sent, and by the same clock?"
        if stamp_ns < self._stamps[0]:
            return "the image is older than every transform that is kept"
        return f"the transforms around the image are further apart than {LONGEST_GAP_NS / 1e9:g} s"


def _between(first: NDArray[np.float64], second: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    pair = np.stack((first, second))
    return between(pair[:, :3], pair[:, 3:], share)
