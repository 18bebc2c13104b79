"""The recursive filter: what all frames so far said, as it looks from the latest one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from m2h_runtime.temporal.warp import Warp

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_runtime.calibration.camera import CameraModel
    from m2h_runtime.perception import Perception
    from m2h_runtime.temporal.solid import Solid

SAMPLED = 4
"""The residual is the median over every so manieth pixel of every so manieth row."""
LEAST_SAMPLES = 0.05
"""Share of them that must have a history; fewer tell nothing."""
FAINT = np.float32(1e-3)
"""Probability × 255 that a forgotten label keeps: below 1e-38 every sum would take a hundred times as long."""


class Fused(NamedTuple):
    """What a frame and its history say together.

    Attributes:
        depth: float32 (H, W), metres.
        semantics: uint8 (H, W).
        confidence: uint8 (H, W), mean probability of that class × 255.
    """

    depth: NDArray[np.float32]
    semantics: NDArray[np.uint8]
    confidence: NDArray[np.uint8]


class Filter:
    """Per pixel of the latest view: depth, the number of frames that it stands for, and the two strongest labels.

    A history that stands for W frames, of which the gate leaves M, is averaged with a new frame by M / (M + 1) and
    1 / (M + 1), depth and label probabilities alike. Nothing else is kept, so nothing grows.

    For each frame call `look` and then `fuse`, or `start`. All buffers are made once.

    Args:
        camera: of the views, an ideal pinhole.
        memory: frames that a history may stand for.
    """

    def __init__(self, camera: CameraModel, memory: float) -> None:
        self._memory = memory
        self._warp = Warp(camera)
        # Inverse depth times weight, and weight: a mean over neighbours that heeds how much each is worth, and
        # inverse depth because that is what is linear over the picture of a plane.
        self._depths, self._seen_depths = (np.zeros((*camera.size, 2), np.float32) for _ in range(2))
        # Top label, second label, and the mean probability × 255 of each.
        self._votes, self._seen_votes = (np.zeros((*camera.size, 4), np.float32) for _ in range(2))
        self._planes = [np.zeros(camera.size, np.float32) for _ in range(4)]  # of the votes
        self._difference, self._weight, self._total, self._share, self._spare = (
            np.zeros(camera.size, np.float32) for _ in range(5)
        )

    def look(self, pose: NDArray[np.float64], solid: Solid) -> float | None:
        """Bring the history into this view.

        Args:
            pose: float64 (3, 4), takes points of this frame's optical frame to those of the one before, metres.
            solid: this frame's depth.

        Returns:
            How far the two are apart: the median of |history - frame| / frame; None if they have too little in common.
        """
        self._warp.aim(pose, solid.inverse)
        self._warp.sample(self._depths, self._seen_depths, cv2.INTER_LINEAR)
        cv2.extractChannel(self._seen_depths, 1, self._weight)
        there = cv2.extractChannel(self._seen_depths, 0, self._difference)
        np.maximum(there, np.float32(1e-9), out=there)
        np.divide(self._weight, there, out=there)
        self._warp.farther(there, solid.depth)
        there *= solid.inverse
        np.clip(there, -1, 1, out=there)  # beyond every gate, and its square is finite
        known = (self._weight[::SAMPLED, ::SAMPLED] > 0.5) & (solid.usable[::SAMPLED, ::SAMPLED] > 0)
        if known.mean() < LEAST_SAMPLES:
            return None
        return float(np.median(np.abs(there[::SAMPLED, ::SAMPLED][known])))

    def start(self, perception: Perception, solid: Solid) -> None:
        """Forget the history: this frame is the first."""
        self._keep_depth(solid.inverse, solid.usable, 1.0)
        labels, said = perception.semantics.astype(np.float32), perception.confidence.astype(np.float32)
        nothing = np.zeros_like(said)
        cv2.merge([labels, nothing, said, nothing], self._votes)

    def fuse(
        self, perception: Perception, solid: Solid, gate: float, quality: float, memory: float | None = None
    ) -> Fused:
        """Average this frame with the history that `look` brought here, and keep that as the new history.

        Args:
            perception: this frame's labels.
            solid: this frame's depth.
            gate: relative difference from which on history and frame are two surfaces; history counts less from about
                half of it on.
            quality: of the pose, 0..1: the history's weight is multiplied by it.
            memory: history counts at most as so many frames this time; None: no other limit than always.
        """
        left = self._left(gate, quality)
        if memory is not None:
            np.minimum(left, memory, out=left)
        left *= solid.usable > 0
        np.add(left, 1, out=self._total)
        np.divide(left, self._total, out=self._share)
        depth = np.multiply(self._share, self._difference)
        depth *= solid.depth
        depth += solid.depth
        semantics, confidence = self._vote(perception)
        weight = np.minimum(self._total, self._memory, out=self._total)
        self._keep_depth(np.reciprocal(depth, out=self._spare), solid.usable, weight)
        return Fused(depth, semantics, confidence)

    def _left(self, gate: float, quality: float) -> NDArray[np.float32]:
        """float32 (H, W), how many frames the history still counts as."""
        left = np.multiply(self._difference, self._difference, out=self._spare)
        left *= left  # flat where they agree, then steep: most of what agrees counts fully
        left *= -1 / gate**4
        left += 1
        np.maximum(left, 0, out=left)
        left *= self._weight
        left *= quality
        return left

    def _keep_depth(
        self, inverse: NDArray[np.float32], usable: NDArray[np.uint8], weight: NDArray[np.float32] | float
    ) -> None:
        kept = np.multiply(usable > 0, weight, dtype=np.float32)
        cv2.merge([cv2.multiply(inverse, kept), kept], self._depths)

    def _vote(self, perception: Perception) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Labels and their mean probabilities × 255.

        Two labels a pixel are enough to tell who wins: a third one takes the second's place when it is the stronger.
        """
        self._warp.sample(self._votes, self._seen_votes, cv2.INTER_NEAREST)
        top, second, top_said, second_said = cv2.split(self._seen_votes, self._planes)
        label = perception.semantics.astype(np.float32)
        probable = np.maximum(perception.confidence, 1)  # 0 would lose to FAINT
        said = np.divide(probable, self._total, dtype=np.float32)
        for remembered in (top_said, second_said):
            remembered *= self._share
            np.maximum(remembered, FAINT, out=remembered)
        is_top = top == label
        is_second = (second == label) > is_top
        top_said += said * is_top
        second_said += said * is_second
        takes = (said > second_said) > (is_top | is_second)
        np.copyto(second, label, where=takes)
        np.copyto(second_said, said, where=takes)
        overtakes = second_said > top_said
        winner = np.where(overtakes, second, top)
        winner_said = np.maximum(top_said, second_said)
        loser = np.where(overtakes, top, second)
        cv2.merge([winner, loser, winner_said, np.minimum(top_said, second_said)], self._votes)
        return winner.astype(np.uint8), np.rint(winner_said).astype(np.uint8)
