"""`VisualOdometry`: follows points of the room from frame to frame, and solves for the camera's pose."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from m2h_runtime.odometry import landmarks
from m2h_runtime.odometry.corners import corners
from m2h_runtime.odometry.depths import look_at
from m2h_runtime.odometry.drift import Drift
from m2h_runtime.odometry.estimate import Estimate
from m2h_runtime.odometry.flow import follow
from m2h_runtime.odometry.motion import Motion
from m2h_runtime.odometry.pose import Sightings, project, search, solve, turned
from m2h_runtime.odometry.quality import CONFLICT, quality
from m2h_runtime.pipeline.health import Level
from m2h_runtime.views.telling import Teller

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from m2h_runtime.calibration.camera import CameraModel
    from m2h_runtime.frame import Frame
    from m2h_runtime.imu.window import ImuWindow
    from m2h_runtime.odometry.estimate import State
    from m2h_runtime.odometry.motion import Expected
    from m2h_runtime.odometry.pose import Solution
    from m2h_runtime.perception import Perception
    from m2h_runtime.pipeline.health import Health

PART = "visual odometry"
WIDTH = 320
"""Larger pictures are made so many pixels wide: 640 takes longer and is no better (docs/odometry.md)."""
LEAST = 12
"""Inliers that make a pose."""
LEAST_SHARE = 0.35
"""Of the points that could be followed."""
WORST_PX = 5.0
"""Median residual of the inliers."""
FREE_SD = 0.02
"""rad: how well pictures alone know a rotation."""
WANTED = 60
"""With fewer landmarks new ones are looked for."""
HOLD_NS = 300_000_000
"""A blow or a hand before the lens may take so long; then the room is mapped anew."""
WEIGHT = 0.1
"""Of what a network says about a landmark once more: its faults are alike from frame to frame."""
FARTHEST = 5.0
"""Standard deviations that a camera may be from where it is expected: a wall of tiles fits at every tile."""
LEVEL_S = 10.0
"""The world's tilt follows gravity with this time constant."""

FEW = "too few points can be followed; a blank wall, darkness or blur?"
DISAGREE = "the points do not move as those of one room"
CONTRARY = "the pictures turn otherwise than the gyroscope; do its extrinsics and clock fit?"
JUMPED = "the points would have the camera jump; does a pattern repeat itself?"
DRIFTS = "its metres are those of the network's depth, and it drifts; odometry of the robot's own is better"
UNAIDED = "frames come without a rotation from the IMU, so turns are less exact and fast ones are lost"

log = logging.getLogger("m2h")


@dataclass(frozen=True, slots=True, eq=False)
class _Fix:
    """A pose from landmarks.

    Attributes:
        solution: of the landmarks that could be followed.
        pixels: float32 (N, 2), where all landmarks are.
        alive: bool (N,), of all landmarks the inliers.
        turned_rad: away from the rotation that was expected.
    """

    solution: Solution
    pixels: NDArray[np.float32]
    alive: NDArray[np.bool_]
    turned_rad: float


class VisualOdometry:
    """The camera's way through a room that stands still, in metres of the network's depth.

    For each frame call `track`; or `locate` before the engine perceives it, which needs the picture alone, and `learn`
    after. A source that has poses of its own has them alone: from its first one on, until `reset`, there is nothing.

    Args:
        health: told how it is, as part "visual odometry".
        clock: monotonic, integer nanoseconds.
    """

    def __init__(self, health: Health, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._health = health
        self._teller = Teller(health, PART, clock)
        self._segment = -1
        self._warned: set[str] = set()
        self.reset()

    def reset(self) -> None:
        """Forget the room and the way: the source has started over."""
        self._segment += 1
        self._offered = False
        self._source_camera: CameraModel | None = None
        self._camera: CameraModel | None = None  # of the pictures that are worked on
        self._picture: NDArray[np.uint8] | None = None  # the latest; None: it cannot be worked on
        self._reference: NDArray[np.uint8] | None = None  # the one that the landmarks' pixels are in
        self._landmarks = landmarks.none()
        self._motion = Motion()
        self._drift = Drift()
        self._relative = np.zeros((6, 6))  # covariance of the pose, given the landmarks
        self._state: State = "starting"

    def track(
        self, frame: Frame, perception: Perception, camera: CameraModel | None, depth_factor: float = 1.0
    ) -> Estimate | None:
        """`locate` and `learn`."""
        estimate = self.locate(frame)
        self.learn(perception, camera, depth_factor)
        return estimate

    def locate(self, frame: Frame) -> Estimate | None:
        """Where the camera is.

        Args:
            frame: with an undistorted picture. If its stamp is before the latest one's, all begins anew.

        Returns:
            None where the source has poses of its own, the camera's intrinsics are unknown or its lens distorts.
        """
        before_ns = self._motion.stamp_ns
        if before_ns is not None and frame.stamp_ns < before_ns:
            self.reset()
        if not self._usable(frame):
            self._picture = None
            return None
        self._picture = self._shrunk(frame.image)
        expected = self._motion.expected(frame)
        fix = self._fix(self._picture, expected)
        estimate = (
            self._missed(fix, expected, frame) if isinstance(fix, str) else self._found(fix, expected, frame)
        )
        self._tell(estimate, expected.gyroscope)
        return estimate

    def learn(self, perception: Perception, camera: CameraModel | None, depth_factor: float = 1.0) -> None:
        """Take in what the engine says about the frame of the latest `locate`.

        Args:
            perception: of that frame.
            camera: intrinsics of its pixels; None: unknown.
            depth_factor: what its depth is to be multiplied by to be metres of this camera.
        """
        if self._picture is None or camera is None:
            return
        self._motion.perceived()
        if self._state == "tracking":
            look = look_at(perception, camera, self._rays(self._landmarks.pixels), depth_factor)
            self._landmarks.measure(self._motion.pose, look.depths, WEIGHT)
            self._landmarks = self._landmarks.keep(~look.moving)
        elif len(self._landmarks) and self._motion.lost_ns <= HOLD_NS:
            return
        else:
            self._give_up()
        if len(self._landmarks) < WANTED:
            self._map(self._picture, perception, camera, depth_factor)

    def _usable(self, frame: Frame) -> bool:
        pose, camera = frame.world_from_camera, frame.camera
        if self._offered or (pose is not None and np.isfinite(pose).all()):
            self._offered = True
            self._health.ok(PART, "off: the source has poses of its own")
            return False
        if camera is None or not camera.ideal:
            self._teller.say(Level.DEGRADED, _blind(camera))
            return False
        if camera != self._source_camera:
            if self._source_camera is not None:
                self.reset()
            self._source_camera = camera
            width = min(WIDTH, camera.width)
            self._camera = camera.resized((round(camera.height * width / camera.width), width))
        return True

    def _shrunk(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8 (h, w), gray, at the size that is worked on."""
        camera = self._pinhole
        gray: NDArray[np.uint8] = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        if gray.shape != camera.size:
            gray = cv2.resize(gray, (camera.width, camera.height), interpolation=cv2.INTER_AREA)
        return gray

    def _fix(self, picture: NDArray[np.uint8], expected: Expected) -> _Fix | str:
        """The pose that the landmarks give, or why they give none."""
        known, prior = self._landmarks, expected.prior
        if self._reference is None or not len(known):
            return FEW
        points = known.points
        moved = project(points, prior.pose) - project(points, self._motion.known)
        guess = known.pixels + (moved * (self._pinhole.fx, self._pinhole.fy)).astype(np.float32)
        wrong_px = self._pinhole.fx * (prior.turn_sd + prior.step_sd / float(np.median(known.depths)))
        pixels, found = follow(self._reference, picture, known.pixels, guess, wrong_px)
        if np.count_nonzero(found) < LEAST:
            return FEW
        seen = self._sightings(found, points, pixels, prior.pose)
        solution = solve(seen, prior)
        if (why := self._objection(seen, solution, expected)) is not None:
            return why
        alive = found.copy()
        alive[found] = solution.inliers
        return _Fix(solution, pixels, alive, turned(prior.pose, solution.pose))

    def _objection(self, seen: Sightings, solution: Solution, expected: Expected) -> str | None:
        """Why a solution is none."""
        prior, why = expected.prior, None
        agree = np.count_nonzero(solution.inliers) >= LEAST and solution.share >= LEAST_SHARE
        if not agree or self._pinhole.fx * solution.residual > WORST_PX:
            why = DISAGREE
        elif np.linalg.norm(solution.pose[:3, 3] - prior.pose[:3, 3]) > FARTHEST * prior.step_sd:
            why = JUMPED
        if not expected.gyroscope:
            return why
        free = search(seen) if why is not None else None
        contrary = free is not None and turned(prior.pose, free) > CONFLICT * prior.turn_sd + FREE_SD
        return CONTRARY if contrary or turned(prior.pose, solution.pose) > CONFLICT * prior.turn_sd else why

    def _sightings(
        self,
        found: NDArray[np.bool_],
        points: NDArray[np.float64],
        pixels: NDArray[np.float32],
        pose: NDArray[np.float64],
    ) -> Sightings:
        """The farther the camera has gone from where a landmark was seen first, the more a wrong depth shows."""
        known, points = self._landmarks, points[found]
        parallax = project(points, pose) - project(pose[:3, 3] + known.rays[found], pose)
        sd = np.hypot(
            known.pixel_sd[found] / self._pinhole.fx,
            np.linalg.norm(parallax, axis=1) * known.depth_sd[found],
        )
        return Sightings(points, self._rays(pixels[found]), sd)

    def _found(self, fix: _Fix, expected: Expected, frame: Frame) -> Estimate:
        of, solution = len(self._landmarks), fix.solution
        before_ns = self._motion.stamp_ns
        self._landmarks.pixels = fix.pixels
        self._landmarks = self._landmarks.keep(fix.alive)
        self._reference = self._picture
        self._relative = solution.covariance
        self._motion.found(solution.pose, frame)
        self._state = "tracking"
        if frame.imu is not None and before_ns is not None:
            self._level(frame.imu, (frame.stamp_ns - before_ns) / 1e9)
        inliers = len(self._landmarks)
        residual_px = self._pinhole.fx * solution.residual
        conflict = fix.turned_rad / expected.prior.turn_sd if expected.gyroscope else 0.0
        return replace(
            self._estimate(frame),
            quality=quality(inliers, of, residual_px, conflict),
            inliers=inliers,
            residual_px=residual_px,
            disagreement_rad=fix.turned_rad if expected.gyroscope else None,
        )

    def _missed(self, why: str, expected: Expected, frame: Frame) -> Estimate:
        if self._state == "tracking":
            self._state = "lost"
        if self._state == "lost":
            self._relative = expected.prior.covariance
        first = self._motion.stamp_ns is None
        self._motion.missed(expected, frame)
        return self._estimate(frame, "" if first else why)

    def _estimate(self, frame: Frame, why: str = "") -> Estimate:
        pose = self._motion.pose
        covariance = self._drift.at(pose, self._relative)
        return Estimate(
            frame.stamp_ns, frame.frame_id, pose.copy(), covariance, 0.0, self._state, why, self._segment
        )

    def _level(self, imu: ImuWindow, passed_s: float) -> None:
        if imu.gravity is None:
            return
        rotation = self._motion.tilt(imu.gravity, min(1.0, passed_s / LEVEL_S))
        self._motion.turn(rotation)
        self._landmarks.turn(rotation, self._motion.pose[:3, 3])

    def _give_up(self) -> None:
        """What was mapped is out of sight."""
        self._landmarks = landmarks.none()
        self._motion.rest()

    def _map(
        self, picture: NDArray[np.uint8], perception: Perception, camera: CameraModel, depth_factor: float
    ) -> None:
        """New landmarks beside those that are there, if it is enough of them together."""
        pixels, pixel_sd = corners(picture, self._landmarks.pixels)
        rays = self._rays(pixels)
        depths = look_at(perception, camera, rays, depth_factor).depths
        good = np.isfinite(depths)
        total = np.count_nonzero(good) + len(self._landmarks)
        if total < LEAST:
            return
        if self._state == "lost":
            self._segment += 1
        pose = self._motion.pose
        new = landmarks.seen(pose, pixels[good], rays[good], depths[good], pixel_sd[good])
        self._drift.mapped(pose, self._relative, len(new) / total)
        self._landmarks = self._landmarks.join(new)
        self._reference = picture
        self._motion.anchor()

    def _tell(self, estimate: Estimate, gyroscope: bool) -> None:
        if estimate.state == "lost":
            self._teller.say(Level.DEGRADED, f"lost: {estimate.why}")
        elif estimate.state == "tracking":
            self._warn_once(DRIFTS)
            if not gyroscope:
                self._warn_once(UNAIDED)
            self._teller.say(Level.OK, f"tracking {estimate.inliers} landmarks")
        elif estimate.why:
            self._teller.say(Level.DEGRADED, f"not started: {estimate.why}")

    def _warn_once(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            log.warning("visual odometry: %s", text)

    @property
    def _pinhole(self) -> CameraModel:
        """Of the pictures that are worked on."""
        assert self._camera is not None  # noqa: S101  # `_usable` has set it
        return self._camera

    def _rays(self, pixels: NDArray[np.float32]) -> NDArray[np.float64]:
        """x/z and y/z of pixels (N, 2)."""
        camera = self._pinhole
        rays: NDArray[np.float64] = (pixels.astype(np.float64) - (camera.cx, camera.cy)) / (
            camera.fx,
            camera.fy,
        )
        return rays


def _blind(camera: CameraModel | None) -> str:
    if camera is None:
        return "off: the camera's intrinsics are unknown; give --calibration or a camera_info topic"
    return "off: the lens distorts and the images are used as they are; --rectify straightens them"
