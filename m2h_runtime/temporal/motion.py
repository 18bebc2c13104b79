"""The camera's motion since the frame before, as far as it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from m2h_runtime.imu import so3
from m2h_runtime.temporal.stillness import moved
from m2h_runtime.views.place import follow

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_runtime.frame import Frame
    from m2h_runtime.views.place import Place

FASTEST_M_S, FASTEST_RAD_S = 5.0, 10.0
HARDEST_M_S2, NOISE_M = 10.0, 0.02
"""A camera that accelerates more than this, with so much noise in its positions, has jumped."""
APART_RAD, APART_SHARE = 0.01, 0.05
"""A pose that turned otherwise than the gyroscope by so much, and this share of the turn, is wrong; on the way there it
counts less and less."""
POSE_GAP_S, TURN_GAP_S = 1.0, 0.25
"""Frames further apart have too little in common; without a translation they have sooner."""
LEAST_TRUST = 0.2

FIRST_FRAME, STARTED_OVER = "this is the first frame", "the stamps jumped back"
JUMPED, DISAGREES = "the pose jumped", "the pose disagrees with the gyroscope"
STALE = "the pose stands still and the picture does not"
MISTRUSTED, NO_POSE = "who gave the pose does not trust it", "no pose at this stamp"
GAP = f"no perception for more than {POSE_GAP_S:g} s"


@dataclass(frozen=True, slots=True)
class Step:
    """How the camera moved.

    Attributes:
        pose: float64 (3, 4), takes points of this frame's optical frame to the earlier one's, metres; None: unknown.
        metric: False: only the rotation is known, and the translation is 0.
        quality: 0..1, how good that is.
        why: it is no better, in words that stay the same; "" where it is a pose.
    """

    pose: NDArray[np.float64] | None
    metric: bool = False
    quality: float = 0.0
    why: str = ""


class Motion:
    """Judges each frame's pose by the one before, by how a camera can move, and by the gyroscope.

    A pose that is not believed is replaced by the gyroscope's rotation, if `Frame.imu` has one. The next one is judged
    by the poses after the jump, so a loop that was closed costs one frame.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """The next frame is the first."""
        self._before: Place | None = None
        self._image: NDArray[np.uint8] | None = None
        self._stamp_ns = 0
        self._velocity: NDArray[np.float64] | None = None  # (3,) m/s, world, of the step before
        self._step_s = 0.0

    def step(self, frame: Frame, trust: float) -> Step:
        """From the latest frame that this was asked about to `frame`.

        Args:
            frame: with `imu` since that frame.
            trust: 0..1, what whoever knows the pose thinks of it.
        """
        before, here = self._before, follow(self._before, frame)
        elapsed_s = (frame.stamp_ns - self._stamp_ns) / 1e9
        image, self._image = self._image, frame.image
        self._before, self._stamp_ns = here, frame.stamp_ns
        if before is None or image is None or elapsed_s <= 0:
            self._velocity = None
            return Step(None, why=STARTED_OVER if before else FIRST_FRAME)
        turn = _turn(before, here)
        relation = here.relation(before)
        why = NO_POSE
        if relation is not None and relation.metric and before.world_from_camera is not None:
            apart = _apart(relation.pose, turn)
            way_m = before.world_from_camera[:3, :3] @ relation.pose[:, 3]
            why = self._doubt(relation.pose, way_m, elapsed_s, trust) or (DISAGREES if apart >= 1 else "")
            if not why and turn is None and _same(before, here) and moved(image, frame.image):
                why = STALE
            if not why:
                return Step(relation.pose, metric=True, quality=min(1.0, trust) * (1 - apart**2))
        self._velocity = None
        if turn is not None and elapsed_s <= TURN_GAP_S:
            return Step(np.column_stack((turn, np.zeros(3))), quality=1.0, why=why)
        if why == NO_POSE:
            why += ", and " + _no_turn(frame, elapsed_s)
        return Step(None, why=why)

    def _doubt(
        self, pose: NDArray[np.float64], way_m: NDArray[np.float64], elapsed_s: float, trust: float
    ) -> str:
        """Why the poses are not believed; "" if they are. Remembers the velocity.

        Args:
            pose: as `Step.pose`.
            way_m: (3,) what the camera moved, world.
            elapsed_s: in that time.
            trust: as `step` has it.
        """
        if elapsed_s > POSE_GAP_S:
            return GAP
        if not trust >= LEAST_TRUST:  # also true for NaN
            return MISTRUSTED
        turned_rad = float(np.linalg.norm(so3.log(pose[:, :3])))
        too_fast = np.linalg.norm(way_m) > FASTEST_M_S * elapsed_s + NOISE_M
        if too_fast or turned_rad > FASTEST_RAD_S * elapsed_s + APART_RAD:
            return JUMPED
        expected, self._velocity = self._velocity, way_m / elapsed_s
        between_s, self._step_s = (elapsed_s + self._step_s) / 2, elapsed_s
        if expected is None:
            return ""
        most_m_s = HARDEST_M_S2 * between_s + NOISE_M / elapsed_s
        return JUMPED if np.linalg.norm(way_m / elapsed_s - expected) > most_m_s else ""


def _same(before: Place, here: Place) -> bool:
    """Bit by bit: the robot stands, or nobody updates its pose."""
    return np.array_equal(before.world_from_camera, here.world_from_camera)  # type: ignore[arg-type]


def _turn(before: Place, here: Place) -> NDArray[np.float64] | None:
    """(3, 3), takes vectors of `here` to `before`, by the gyroscope; None: unknown."""
    return before.camera_from_start @ here.camera_from_start.T if before.chain == here.chain else None


def _apart(pose: NDArray[np.float64], turn: NDArray[np.float64] | None) -> float:
    """How far the pose's rotation is from the gyroscope's, as a share of what is too far; 0 without a gyroscope."""
    if turn is None:
        return 0.0
    limit_rad = APART_RAD + APART_SHARE * float(np.linalg.norm(so3.log(turn)))
    return float(np.linalg.norm(so3.log(turn.T @ pose[:, :3]))) / limit_rad


def _no_turn(frame: Frame, elapsed_s: float) -> str:
    if elapsed_s > TURN_GAP_S:
        return f"frames more than {TURN_GAP_S:g} s apart"
    return "no IMU" if frame.imu is None else "no rotation from the IMU (extrinsics, or missing samples)"
