"""`ViewKeeper`: the neighbours of every frame, and how many views the engine perceives it from."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from m2h_runtime.engine.contract import Neighbours
from m2h_runtime.pipeline.health import Level
from m2h_runtime.views.keyframes import LEAST, Keyframe, Keyframes, best
from m2h_runtime.views.place import follow
from m2h_runtime.views.telling import Teller

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from m2h_runtime.calibration.camera import CameraModel
    from m2h_runtime.engine.contract import Views
    from m2h_runtime.perception import Perception
    from m2h_runtime.pipeline.health import Health
    from m2h_runtime.pipeline.prepare import Prepared
    from m2h_runtime.views.keyframes import Neighbour
    from m2h_runtime.views.place import Place

PART = "views"
SINGLE, ROTATION = "single view", "rotation only"
SEVERAL = ("two views", "three views", "four views")
BASELINES = 36_000
"""The median is over the latest so many baselines."""
SAMPLED = 8
"""The median depth is of every so manieth pixel of every so manieth row."""


@dataclass(frozen=True, slots=True)
class Sight:
    """From how many views a frame is perceived.

    Attributes:
        state: "single view", "rotation only" or "two views" (three, four).
        why: the same words from frame to frame; "" where there is nothing to explain.
        level: how good that is.
        figures: what changes all the time; "" where `level` is not ok.
    """

    state: str
    why: str
    level: Level
    figures: str = ""

    @property
    def text(self) -> str:
        """For a person."""
        return self.state + (f": {self.why}" if self.why else "") + self.figures


class ViewKeeper:
    """Knows the latest keyframes of a stream and chooses each frame's neighbours among them.

    For each frame call `neighbours`, and `remember` if the engine has perceived it.

    Args:
        views: what the engine takes.
        health: told from how many views it perceives, as part "views".
        clock: monotonic, integer nanoseconds.
    """

    def __init__(self, views: Views, health: Health, clock: Callable[[], int]) -> None:
        self._count = views.neighbours
        self._keyframes = Keyframes()
        self._teller = Teller(health, PART, clock)
        self._camera: CameraModel | None = None
        self._before: Place | None = None  # of the frame that was perceived before
        self._here: Place | None = None
        self._sight = Sight(SINGLE, "no keyframe yet", Level.OK)
        self._frames: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._baselines_m: deque[float] = deque(maxlen=BASELINES)
        self._chosen: list[Neighbour] = []

    def clear(self) -> None:
        """Forget the keyframes: the source has started over, or another engine takes its place."""
        self._keyframes.clear()
        self._before = None

    def neighbours(self, ready: Prepared) -> Neighbours | None:
        """What to hand the engine with this frame; None: nothing, it perceives a single view.

        Poses are divided by the frame's depth factor, so that planes, like the depth that comes out, are in the
        network's own metres: the factor that makes them this camera's is applied behind the engine.
        """
        frame, camera = ready.frame, ready.engine_camera
        if camera != self._camera:
            self.clear()
            self._camera = camera
        here = self._here = follow(self._before, frame)
        self._chosen = []
        if camera is None or not camera.ideal:
            self._sight = _blind(camera)
        else:
            seen = self._keyframes.seen_from(here, frame.stamp_ns, camera)
            self._chosen = best(seen, self._count)
            posed = here.world_from_camera is not None
            self._sight = _sight(self._chosen, seen, posed, frame.imu is not None, len(self._keyframes))
        self._teller.say(self._sight.level, self._sight.text)
        if not self._chosen or camera is None:
            return None
        return _handed(self._chosen, camera, self._count, ready.depth_factor)

    def remember(self, ready: Prepared, perception: Perception, features: NDArray[np.float32] | None) -> None:
        """Count the frame of the latest `neighbours`, and keep it as a keyframe if one is due.

        Args:
            ready: as it was given to `neighbours`.
            perception: what the engine made of it.
            features: float32 (1, K, h, w), the engine's own of this frame; None: it has none.
        """
        here, stamp_ns = self._here, ready.frame.stamp_ns
        self._before = here
        self._frames[self._sight.state] += 1
        self._reasons[self._sight.text if self._sight.why else ""] += 1
        self._baselines_m += [one.baseline_m for one in self._chosen if one.metric]
        camera = self._camera
        if here is None or features is None or camera is None or not camera.ideal:
            return
        if self._keyframes.need(here, stamp_ns, camera) and np.isfinite(features.sum()):
            depth = ready.fit.inner(perception.depth)[::SAMPLED, ::SAMPLED]
            depth_m = float(np.median(depth)) * ready.depth_factor
            self._keyframes.keep(Keyframe(features, here, stamp_ns, depth_m))

    def report(self) -> dict[str, Any]:
        """Frames by state and, where something is to be explained, by reason; median baseline in metres or None."""
        baselines_m = list(self._baselines_m)
        return {
            "frames": dict(self._frames),
            "reasons": {why: count for why, count in self._reasons.items() if why},
            "median_baseline_m": round(float(np.median(baselines_m)), 4) if baselines_m else None,
        }


def _handed(chosen: Sequence[Neighbour], camera: CameraModel, count: int, depth_factor: float) -> Neighbours:
    """The tensors; where there are fewer neighbours than `count`, the frame itself is the others."""
    poses = np.tile(np.eye(3, 4, dtype=np.float32), (count, 1, 1))
    for pose, one in zip(poses, chosen, strict=False):
        pose[:] = one.pose
        pose[:, 3] /= depth_factor
    features = chosen[0].keyframe.features
    if count > 1:
        maps = [one.keyframe.features for one in chosen]
        features = np.concatenate([*maps, *[features] * (count - len(maps))])
    return Neighbours(features, poses, np.array((camera.fx, camera.fy, camera.cx, camera.cy), np.float32))


def _blind(camera: CameraModel | None) -> Sight:
    """Without a pinhole's intrinsics no view can be compared with another."""
    why = "the camera's intrinsics are unknown; give --calibration or a camera_info topic"
    if camera is not None:
        why = "the lens distorts and the images are used as they are; --rectify straightens them"
    return Sight(SINGLE, why, Level.DEGRADED)


def _sight(
    chosen: Sequence[Neighbour], seen: Sequence[Neighbour], posed: bool, imu: bool, keyframes: int
) -> Sight:
    if chosen and chosen[0].metric:
        first = chosen[0]
        figures = f", baseline {first.baseline_m:.2f} m, {first.age_s:.1f} s ago"
        return Sight(SEVERAL[min(len(chosen), len(SEVERAL)) - 1], "", Level.OK, figures)
    if chosen:
        return Sight(ROTATION, "no pose at this stamp (gyroscope)", Level.DEGRADED)
    if not keyframes:
        return Sight(SINGLE, "no keyframe yet", Level.OK)
    if not posed and not seen:
        also = "no rotation from the IMU (extrinsics, or missing samples)" if imu else "no IMU"
        return Sight(SINGLE, f"no pose and {also}", Level.DEGRADED)
    return Sight(SINGLE, _out_of_reach(seen), Level.OK)


def _out_of_reach(seen: Sequence[Neighbour]) -> str:
    if not seen:
        return "no keyframe with a pose yet"
    if all(one.metric and one.baseline_m <= LEAST * one.keyframe.depth_m for one in seen):
        return "the camera has hardly moved"
    return "no keyframe shows enough of this"
