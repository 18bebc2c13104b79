"""The latest keyframes, and which of them show most about a frame."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from m2h_runtime.views.overlap import overlap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from m2h_runtime.calibration.camera import CameraModel
    from m2h_runtime.views.place import Place

CAPACITY = 8
"""Keyframes that are kept: they span a fifth of the depth in motion and four seconds at rest."""
LEAST, BEST_FROM, BEST_TO = 0.01, 0.05, 0.15
"""Baselines, as parts of the scene's depth. Below the first a pixel hardly moves; within the other two the views
differ enough to measure depth and little enough to be matched."""
LEAST_OVERLAP = 0.4
TURNED = 0.05
"""Rotations that differ less in every number show the same."""
OLDEST_S, OLDEST_TURN_S = 3.0, 1.0
"""Rooms change and odometry drifts; a gyroscope's rotation without a translation is soon no pose at all."""
APART, SHARED, LATEST_S = BEST_FROM / 2, 0.8, 0.5
"""A frame becomes a keyframe that is farther than this from the newest one, as a part of the depth, or shares less
of its picture, or is later."""


@dataclass(frozen=True, slots=True, eq=False)
class Keyframe:
    """A frame that later ones can be compared with.

    Attributes:
        features: float32 (1, K, h, w), what the engine's `features` were.
        place: of the camera.
        stamp_ns: the frame's.
        depth_m: median depth of its perception, metres.
    """

    features: NDArray[np.float32]
    place: Place
    stamp_ns: int
    depth_m: float


@dataclass(frozen=True, slots=True, eq=False)
class Neighbour:
    """A keyframe seen from a frame.

    Attributes:
        keyframe: which.
        pose: float64 (3, 4), takes points of the frame's optical frame to the keyframe's, metres.
        metric: False: only the rotation is known.
        baseline_m: how far the two are apart; 0 if only the rotation is known.
        age_s: how much earlier the keyframe is.
        shared: of the picture, 0..1, see `overlap`.
        score: what it is worth; 0: nothing.
    """

    keyframe: Keyframe
    pose: NDArray[np.float64]
    metric: bool
    baseline_m: float
    age_s: float
    shared: float
    score: float


class Keyframes:
    """A ring of the latest keyframes.

    A frame is kept when the newest keyframe has become too far, not every n-th frame: frames of a robot that stands are
    all the same, and would push out those from where it came; a fast one would leave gaps. Half a second later at the
    latest one is kept anyway, so that there always is a young one.
    """

    def __init__(self) -> None:
        self._ring: deque[Keyframe] = deque(maxlen=CAPACITY)

    def __len__(self) -> int:
        return len(self._ring)

    def clear(self) -> None:
        """Forget them all."""
        self._ring.clear()

    def seen_from(self, place: Place, stamp_ns: int, camera: CameraModel) -> list[Neighbour]:
        """All keyframes whose way from `place` is known, the most useful one first.

        Args:
            place: of the frame.
            stamp_ns: the frame's.
            camera: of the engine's image.
        """
        seen = [seen_from(keyframe, place, stamp_ns, camera) for keyframe in self._ring]
        return sorted((one for one in seen if one is not None), key=lambda one: -one.score)

    def need(self, place: Place, stamp_ns: int, camera: CameraModel) -> bool:
        """Is it time to `keep` the frame at `place`: the newest keyframe is too far, or its way is not known."""
        if not self._ring:
            return True
        newest = seen_from(self._ring[-1], place, stamp_ns, camera)
        return newest is None or is_too_far(newest)

    def keep(self, keyframe: Keyframe) -> None:
        """Take it in; the oldest one leaves a full ring."""
        self._ring.append(keyframe)


def is_too_far(newest: Neighbour) -> bool:
    """The frame that it is seen from should be the next keyframe."""
    return (
        newest.baseline_m > APART * newest.keyframe.depth_m
        or newest.shared < SHARED
        or newest.age_s >= LATEST_S
    )


def seen_from(keyframe: Keyframe, place: Place, stamp_ns: int, camera: CameraModel) -> Neighbour | None:
    """What a keyframe is worth to a frame; None: the way to it is not known."""
    relation = place.relation(keyframe.place)
    if relation is None:
        return None
    baseline_m = float(np.linalg.norm(relation.pose[:, 3]))
    age_s = (stamp_ns - keyframe.stamp_ns) / 1e9
    shared = overlap(relation.pose, camera, keyframe.depth_m)
    worth = baseline_worth(baseline_m / keyframe.depth_m) if relation.metric else 1.0
    worth *= freshness(age_s, OLDEST_S if relation.metric else OLDEST_TURN_S)
    score = worth * shared if shared >= LEAST_OVERLAP else 0.0
    return Neighbour(keyframe, relation.pose, relation.metric, baseline_m, age_s, shared, score)


def baseline_worth(part: float) -> float:
    """What a baseline is worth, 0..1: 0 up to `LEAST` of the depth, 1 from `BEST_FROM` to `BEST_TO`, then less."""
    if part <= LEAST:
        return 0.0
    return min(1.0, (part - LEAST) / (BEST_FROM - LEAST), BEST_TO / part)


def freshness(age_s: float, oldest_s: float) -> float:
    """1 for a keyframe of now, a half for the oldest that is used, then 0."""
    return 1.0 - 0.5 * age_s / oldest_s if 0 <= age_s <= oldest_s else 0.0


def best(seen: Sequence[Neighbour], count: int) -> list[Neighbour]:
    """The `count` most useful ones of `seen`, which is in order; none that is worth nothing, and no view twice."""
    chosen: list[Neighbour] = []
    for one in seen:
        if len(chosen) == count or one.score <= 0:
            break
        if not any(_alike(one, other) for other in chosen):
            chosen.append(one)
    return chosen


def _alike(one: Neighbour, other: Neighbour) -> bool:
    """Both were taken from one place, into one direction: while the robot stood."""
    apart_m = float(np.linalg.norm(one.pose[:, 3] - other.pose[:, 3]))
    turned = float(np.abs(one.pose[:, :3] - other.pose[:, :3]).max())
    return apart_m <= LEAST * one.keyframe.depth_m and turned <= TURNED
