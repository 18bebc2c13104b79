"""`OdometryTrack`: a robot's odometry, where it can be trusted, as poses of the camera."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from m2h_runtime.sources.poses import between
from m2h_runtime.sources.recording import Complaints

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

log = logging.getLogger("m2h")

SECOND_NS = 1_000_000_000
KEPT_NS = 10 * SECOND_NS
LONGEST_GAP_NS = SECOND_NS // 4
"""No pose is made up between two that are further apart: odometry comes at 10 Hz at least."""
AHEAD_NS = SECOND_NS // 10
"""So long after the newest message its motion is taken to go on: live images are there before their odometry."""
FASTEST_M_S, FASTEST_RAD_S = 5.0, 10.0
"""What moves faster has jumped: a reset, or a loop that was closed."""
NOISE_M, NOISE_RAD = 0.02, 0.01
"""Two messages may differ by so much, however close their stamps."""
LOST_M2 = 100.0
"""Variance of x or y from which on the robot is lost. Those of z and of the angles tell nothing: drivers of robots on
wheels give them as 1e6 and 1e3."""
SILENCE_NS = 7 * SECOND_NS // 2
"""After a jump, or when it was lost, nothing is trusted for so long: until no keyframe from before is used any more."""
JUMP_BACK_NS = SECOND_NS // 2
"""Further back is a recording that starts over; less is a message that comes too late."""

GRACE_NS = CALM_NS = SECOND_NS
"""What is missing in the first second is not told, and a fault is over when it has not happened for a second."""

CAMERA_IN_BODY = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]], np.float64)
"""Pose of the optical frame of a camera that looks ahead in a body with x forward, y left, z up (REP 103)."""


class _Sample(NamedTuple):
    stamp_ns: int
    position: NDArray[np.float64]
    quat_wxyz: NDArray[np.float64]


class OdometryTrack:
    """The odometry of a robot that carries the camera. Push from one thread, ask from another; nothing here waits.

    Where the camera sits on what the odometry is of, the message's child frame, is decided once and logged:

    - its name ends in "optical" or "optical_frame", or is the image's frame: it is the camera's optical frame;
    - otherwise, with a calibration of the IMU: it is the IMU;
    - otherwise, its name holds "imu": that cannot be known, and there are no poses;
    - otherwise: x is forward, y left, z up, and the camera looks ahead from its origin (base_link, camera_link).

    Args:
        camera_from_imu: float64 (4, 4), of the calibration (Kalibr's T_cam_imu); None: unknown.
        health: told why there are no poses, and None when there are again.
    """

    def __init__(
        self,
        camera_from_imu: NDArray[np.float64] | None = None,
        health: Callable[[str | None], None] = lambda _: None,
    ) -> None:
        self._imu_from_camera: NDArray[np.float64] | None = None
        if camera_from_imu is not None:
            self._imu_from_camera = np.linalg.inv(camera_from_imu).astype(np.float64)
        self._complaints = Complaints(health)
        self._samples: deque[_Sample] = deque()
        self._child = ""
        self._body_from_camera: NDArray[np.float64] | None = None
        self._decided_for: tuple[str, str] | None = None
        self._distrust: tuple[int, str] | None = None  # until which stamp, and why
        self._asked_ns: int | None = None  # the first image's stamp
        self._ill_ns: int | None = None  # the latest one without a pose
        self._lock = threading.Lock()

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the newest message; None if there is none."""
        with self._lock:
            return self._samples[-1].stamp_ns if self._samples else None

    def reset(self) -> None:
        """Forget all messages: what comes is of another run."""
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        self._samples.clear()
        self._distrust = self._asked_ns = self._ill_ns = None

    def push_message(self, message: Any, stamp_ns: int) -> None:
        """Take a nav_msgs/Odometry, of whichever library."""
        place, turn = message.pose.pose.position, message.pose.pose.orientation
        self.push(
            stamp_ns,
            (place.x, place.y, place.z),
            (turn.w, turn.x, turn.y, turn.z),
            message.child_frame_id,
            max(float(message.pose.covariance[0]), float(message.pose.covariance[7])),
        )

    def push(
        self,
        stamp_ns: int,
        position: Sequence[float],
        quat_wxyz: Sequence[float],
        child_frame: str,
        variance_m2: float = 0.0,
    ) -> None:
        """Take one pose. One that cannot be trusted is dropped; nothing is raised.

        Args:
            stamp_ns: integer nanoseconds on the images' clock.
            position: (3,) of the child frame, metres, world.
            quat_wxyz: (4,) world from child frame.
            child_frame: its name.
            variance_m2: the larger one of x and y; 0: not known.
        """
        sample = _Sample(stamp_ns, np.array(position, np.float64), np.array(quat_wxyz, np.float64))
        with self._lock:
            self._child = child_frame
            newest = self._samples[-1] if self._samples else None
            if newest is not None and newest.stamp_ns - JUMP_BACK_NS <= stamp_ns <= newest.stamp_ns:
                return
            if newest is not None and stamp_ns < newest.stamp_ns:
                self._forget()
                newest = None
            lost = _lost(sample, variance_m2)
            if (why := lost or (newest and _jump(newest, sample))) is not None:
                self._samples.clear()
                self._distrust = stamp_ns + SILENCE_NS, why
            if lost is None:
                self._keep(sample)

    def _keep(self, sample: _Sample) -> None:
        length = float(np.linalg.norm(sample.quat_wxyz))
        self._samples.append(sample._replace(quat_wxyz=sample.quat_wxyz / length))
        while sample.stamp_ns - self._samples[0].stamp_ns > KEPT_NS:
            self._samples.popleft()

    def at(self, stamp_ns: int, image_frame: str) -> NDArray[np.float64] | None:
        """World from camera, float64 (4, 4), at an image's stamp; None if nobody knows or nobody should trust it.

        Args:
            stamp_ns: of the image.
            image_frame: its frame id.
        """
        with self._lock:
            pose, why = self._world_from_body(stamp_ns)
            if pose is not None and self._decided_for != (self._child, image_frame):
                self._decide(image_frame)
            mount = self._body_from_camera
        if pose is not None and mount is None:
            why = f"{self._child}: where this IMU lies to the camera is unknown; give --calibration with T_cam_imu"
        self._tell(why, stamp_ns)
        return None if pose is None or mount is None else pose @ mount

    def _tell(self, why: str | None, stamp_ns: int) -> None:
        if self._asked_ns is None:
            self._asked_ns = stamp_ns
        if why is not None:
            self._ill_ns = stamp_ns
            if stamp_ns - self._asked_ns >= GRACE_NS:
                self._complaints.say(why)
        elif self._ill_ns is None or stamp_ns - self._ill_ns >= CALM_NS:
            self._complaints.say(None)

    def _world_from_body(self, stamp_ns: int) -> tuple[NDArray[np.float64] | None, str | None]:
        """The pose, or why there is none."""
        if self._distrust is not None and stamp_ns < self._distrust[0]:
            return None, f"{self._distrust[1]}, so there are no poses for {SILENCE_NS / 1e9:g} s"
        pair = self._around(stamp_ns)
        if pair is None:
            return None, "no message at the time of the images; is it published, and by the same clock?"
        first, second = pair
        share = (stamp_ns - first.stamp_ns) / (second.stamp_ns - first.stamp_ns)
        positions = np.stack((first.position, second.position))
        return between(positions, np.stack((first.quat_wxyz, second.quat_wxyz)), share), None

    def _around(self, stamp_ns: int) -> tuple[_Sample, _Sample] | None:
        """The two samples before and after, or the latest two shortly before it."""
        samples = reversed(self._samples)
        later = next(samples, None)
        if later is None or stamp_ns - later.stamp_ns > AHEAD_NS:
            return None
        for earlier in samples:
            if earlier.stamp_ns <= stamp_ns:
                return (earlier, later) if later.stamp_ns - earlier.stamp_ns <= LONGEST_GAP_NS else None
            later = earlier
        return None

    def _decide(self, image_frame: str) -> None:
        """Where the camera sits on the child frame."""
        child = self._child
        self._decided_for = (child, image_frame)
        if child == image_frame or child.endswith(("optical", "optical_frame")):
            self._body_from_camera = np.eye(4, dtype=np.float64)
            log.warning("odometry: of %s, taken for the camera's optical frame", child)
        elif self._imu_from_camera is not None:
            self._body_from_camera = self._imu_from_camera
            log.warning("odometry: of %s, taken for the IMU of the calibration", child)
        elif "imu" in child.lower():
            self._body_from_camera = None
        else:
            self._body_from_camera = CAMERA_IN_BODY
            log.warning(
                "odometry: of %s, taken for x forward, y left, z up, with the camera looking ahead from its origin; "
                "--calibration with T_cam_imu says better",
                child or "a frame without a name",
            )


def _lost(sample: _Sample, variance_m2: float) -> str | None:
    """Why a message is no pose, in words that stay the same."""
    numbers = float(sample.position.sum() + sample.quat_wxyz.sum())
    if not np.isfinite(numbers) or np.linalg.norm(sample.quat_wxyz) < 0.5:
        return "it is lost (its pose is no pose)"
    if not variance_m2 <= LOST_M2:  # also true for NaN
        return f"it is lost (its variance is beyond {LOST_M2:g} m^2)"
    return None


def _jump(before: _Sample, sample: _Sample) -> str | None:
    """Whether this is no motion, in words that stay the same."""
    step_s = (sample.stamp_ns - before.stamp_ns) / 1e9
    way_m = float(np.linalg.norm(sample.position - before.position))
    half = abs(float(sample.quat_wxyz @ before.quat_wxyz)) / float(np.linalg.norm(sample.quat_wxyz))
    turn_rad = 2 * float(np.arccos(min(1.0, half)))
    if way_m > FASTEST_M_S * step_s + NOISE_M or turn_rad > FASTEST_RAD_S * step_s + NOISE_RAD:
        return f"it jumped (faster than {FASTEST_M_S:g} m/s or {FASTEST_RAD_S:g} rad/s)"
    return None
