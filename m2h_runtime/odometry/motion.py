"""`Motion`: how the camera moved lately, and so where it is expected next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from m2h_runtime.imu import so3
from m2h_runtime.odometry.pose import Prior

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_runtime.frame import Frame

LEVEL_START = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]], np.float64)
"""World from camera of a level camera that looks along x."""
ACCEL, TURN_ACCEL = 10.0, 10.0
"""m/s^2 and rad/s^2: how much the motion of a hand or a drone may change between two frames."""
STEP_SD, TURN_SD = 0.01, 0.005
"""m and rad: and by so much however close they are."""
GYRO_SD, GYRO_SHARE = 3e-4, 0.01
"""rad, and as a part of the turn: a gyroscope between two frames, with clocks that differ by some ms and extrinsics by
half a degree."""
NEWEST = 0.4
"""What the latest velocity counts."""
LOST_M_S, LOST_RAD_S = 1.0, 1.0
"""How fast it may have gone, and turned without a gyroscope, while it was lost."""


@dataclass(frozen=True, slots=True, eq=False)
class Expected:
    """What is expected of a frame.

    Attributes:
        prior: its pose.
        gyroscope: the rotation is measured, not guessed.
    """

    prior: Prior
    gyroscope: bool


class Motion:
    """The latest pose, known or not, and the latest that was known.

    Attributes:
        pose: float64 (4, 4), world from camera, of the latest frame.
        stamp_ns: its stamp; None before the first.
        known: float64 (4, 4), the latest pose that landmarks gave.
    """

    def __init__(self) -> None:
        self.pose = LEVEL_START.copy()
        self.known = self.pose
        self.stamp_ns: int | None = None
        self._known_ns: int | None = None
        self._velocity = np.zeros(3)
        self._spin = np.zeros(3)  # in the camera, rad/s
        self._perceived: tuple[int, NDArray[np.float64]] | None = None
        self._levelled = False

    def expected(self, frame: Frame) -> Expected:
        """Where the camera should be: the position as it went on, the rotation from the gyroscope if there is one."""
        step_s, lost_s = self._since(self.stamp_ns, frame), self._since(self._known_ns, frame)
        lost_s = max(0.0, lost_s - step_s)
        pose = self.pose.copy()
        pose[:3, 3] += self._velocity * step_s
        step_sd = STEP_SD + ACCEL * step_s**2 + LOST_M_S * lost_s
        turn = self._gyroscope(frame)
        if turn is None:
            pose[:3, :3] = pose[:3, :3] @ so3.exp(self._spin * step_s)
            turn_sd = TURN_SD + TURN_ACCEL * step_s**2 + LOST_RAD_S * lost_s
            return Expected(Prior(pose, turn_sd, step_sd), gyroscope=False)
        pose[:3, :3], turned = turn
        return Expected(Prior(pose, GYRO_SD + GYRO_SHARE * turned, step_sd), gyroscope=True)

    def _since(self, stamp_ns: int | None, frame: Frame) -> float:
        return 0.0 if stamp_ns is None else (frame.stamp_ns - stamp_ns) / 1e9

    def _gyroscope(self, frame: Frame) -> tuple[NDArray[np.float64], float] | None:
        """The rotation at a frame (3, 3), and how far it is from where its IMU's window begins, rad."""
        imu = frame.imu
        if imu is None or not imu.complete or imu.camera_rotation is None or self._perceived is None:
            return None
        began_ns, rotation = self._perceived
        if int(imu.stamps_ns[0]) != began_ns:
            return None
        return rotation @ imu.camera_rotation.T, float(np.linalg.norm(so3.log(imu.camera_rotation)))

    def found(self, pose: NDArray[np.float64], frame: Frame) -> None:
        """Landmarks give this pose."""
        passed_s = self._since(self._known_ns, frame)
        if passed_s > 0:
            velocity = (pose[:3, 3] - self.known[:3, 3]) / passed_s
            self._velocity = self._velocity + NEWEST * (velocity - self._velocity)
            self._spin = so3.log(self.known[:3, :3].T @ pose[:3, :3]) / passed_s
        self.pose = self.known = pose
        self.stamp_ns = self._known_ns = frame.stamp_ns

    def missed(self, expected: Expected, frame: Frame) -> None:
        """Nothing says more than what was expected."""
        self.pose, self.stamp_ns = expected.prior.pose, frame.stamp_ns

    @property
    def lost_ns(self) -> int:
        """For how long no landmarks have given a pose."""
        return 0 if self.stamp_ns is None or self._known_ns is None else self.stamp_ns - self._known_ns

    def rest(self) -> None:
        """Nothing is known of how it goes on."""
        self.known = self.pose
        self._velocity, self._spin = np.zeros(3), np.zeros(3)

    def anchor(self) -> None:
        """The landmarks of what comes are seen from here."""
        self._known_ns = self.stamp_ns

    def perceived(self) -> None:
        """The engine has perceived the latest frame: the next IMU window begins there."""
        if self.stamp_ns is not None:
            self._perceived = self.stamp_ns, self.pose[:3, :3]

    def tilt(self, down: NDArray[np.float64], share: float) -> NDArray[np.float64]:
        """The rotation of the world (3, 3) that brings z towards up, by `share` of the way; the first time all of it.

        Args:
            down: float64 (3,), direction of gravity in the camera, unit length.
            share: 0..1.
        """
        up = -self.pose[:3, :3] @ down
        axis = np.cross(up, (0.0, 0.0, 1.0))
        sine = float(np.linalg.norm(axis))
        angle = np.arctan2(sine, up[2]) * (share if self._levelled else 1.0)
        self._levelled = True
        return so3.exp(axis * (angle / sine if sine > 0 else 0.0))

    def turn(self, rotation: NDArray[np.float64]) -> None:
        """Rotate the world (3, 3) about the camera."""
        about = self.pose[:3, 3]
        self.pose, self.known = _turned(self.pose, rotation, about), _turned(self.known, rotation, about)
        self._velocity = rotation @ self._velocity
        if self._perceived is not None:
            self._perceived = self._perceived[0], rotation @ self._perceived[1]


def _turned(
    pose: NDArray[np.float64], rotation: NDArray[np.float64], about: NDArray[np.float64]
) -> NDArray[np.float64]:
    turned = np.eye(4)
    turned[:3, :3] = rotation @ pose[:3, :3]
    turned[:3, 3] = about + rotation @ (pose[:3, 3] - about)
    return turned
