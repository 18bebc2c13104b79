"""`Alignment`: each perception averaged with those before it."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from m2h_runtime.errors import ContractError
from m2h_runtime.label_space import moving_table
from m2h_runtime.pipeline.health import Health, Level
from m2h_runtime.temporal.fusion import Filter, Fused
from m2h_runtime.temporal.gate import Gate
from m2h_runtime.temporal.motion import FIRST_FRAME, Motion, Step
from m2h_runtime.temporal.settings import AlignmentSettings
from m2h_runtime.temporal.solid import judge
from m2h_runtime.views.telling import Teller

if TYPE_CHECKING:
    from collections.abc import Callable

    from m2h_runtime.calibration.camera import CameraModel
    from m2h_runtime.frame import Frame
    from m2h_runtime.perception import Perception
    from m2h_runtime.temporal.solid import Solid

PART = "alignment"
POSES, ROTATION, OFF = "poses", "rotation only", "off"
TURN_MEMORY = 2.0
"""Frames that a history counts as where only the rotation is known: a camera that moves leaves it behind."""
NO_FIT = "what is seen does not fit the pose"
UNKNOWN = "the camera's intrinsics are unknown; give --calibration or a camera_info topic"
DISTORTED = "the lens distorts and the images are used as they are; --rectify straightens them"


class Alignment:
    """Carries depth and labels from frame to frame: warps them by the camera's motion, and averages where they agree.

    With poses (`Frame.world_from_camera`) it warps by them; without, or where they are not believed, by the gyroscope's
    rotation (`Frame.imu`) with a narrower gate and a shorter memory; with neither, perceptions pass unchanged and the
    history starts anew. Every state is told to health, with its reason.

    Edges and normals stay those of the frame. Confidence becomes the mean probability of the published label.

    Args:
        settings: None: the defaults.
        health: told how frames are aligned, as part "alignment"; None makes one.
        clock: monotonic, integer nanoseconds.
    """

    def __init__(
        self,
        settings: AlignmentSettings | None = None,
        health: Health | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._settings = settings or AlignmentSettings()
        self._teller = Teller(health or Health(clock=clock), PART, clock)
        self._motion = Motion()
        self._gate = Gate()
        self._filter: Filter | None = None
        self._made_for: object = None  # what the filter's history depends on
        self._frames: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()

    def reset(self) -> None:
        """Forget the history: the source has started over, or another engine takes the place of this one."""
        self._motion.reset()
        self._gate = Gate()
        self._filter = None

    def align(
        self,
        perception: Perception,
        frame: Frame,
        camera: CameraModel | None,
        *,
        trust: float = 1.0,
        depth_factor: float = 1.0,
    ) -> Perception:
        """What the frame and those before it say together.

        Depth that is not positive and finite becomes 0, and so do depth edges if the settings ask for it. Nothing is
        filled from the history: what a frame does not see has no check.

        Args:
            perception: of `frame`, at the engine's size.
            frame: with its pose, and with `imu` since the latest frame that was aligned.
            camera: of the engine's image (`Prepared.engine_camera`); None: unknown.
            trust: 0..1, what whoever gave the pose thinks of it; below 0.2 it is not used.
            depth_factor: metres per metre of the engine's.

        Raises:
            ContractError: the camera is of another size than the perception.
        """
        solid = judge(
            perception.depth,
            perception.semantics,
            moving_table(perception.label_space, self._settings.moving),
        )
        if camera is None or not camera.ideal:
            self.reset()
            self._say(Step(None, why=UNKNOWN if camera is None else DISTORTED))
            return self._published(perception, solid, None)
        history = self._history_for(camera, depth_factor, perception)
        step = self._motion.step(frame, trust)
        fused, step = self._fuse(history, perception, solid, step, depth_factor)
        self._say(step)
        return self._published(perception, solid, fused)

    def report(self) -> dict[str, Any]:
        """Frames by state and, where there is something to explain, by reason."""
        return {"frames": dict(self._frames), "reasons": dict(self._reasons)}

    def _history_for(self, camera: CameraModel, depth_factor: float, perception: Perception) -> Filter:
        """The filter; a new one where the old one's history means something else."""
        if camera.size != perception.size:
            raise ContractError(
                f"alignment: the camera model is for {camera.width}x{camera.height}, the perception is "
                f"{perception.size[1]}x{perception.size[0]}; give the camera of the engine's image"
            )
        made_for = (camera, depth_factor, perception.label_space)
        if self._filter is None or self._made_for != made_for:
            self.reset()
            self._made_for = made_for
            self._filter = Filter(camera, self._settings.memory)
        return self._filter

    def _fuse(
        self, history: Filter, perception: Perception, solid: Solid, step: Step, depth_factor: float
    ) -> tuple[Fused | None, Step]:
        """The frame with its history, and how that went; None where it has none."""
        if step.pose is not None:
            pose = step.pose.copy()
            pose[:, 3] /= depth_factor
            if self._gate.fits(history.look(pose, solid)):
                gate = self._gate.width(step.metric)
                memory = None if step.metric else TURN_MEMORY
                return history.fuse(perception, solid, gate, step.quality, memory), step
            step = Step(None, why=NO_FIT)
        history.start(perception, solid)
        return None, step

    def _say(self, step: Step) -> None:
        state = OFF if step.pose is None else POSES if step.metric else ROTATION
        self._frames[state] += 1
        if step.why:
            self._reasons[step.why] += 1
        text = state + (f": {step.why}" if step.why else "")
        self._teller.say(Level.OK if step.why in ("", FIRST_FRAME) else Level.DEGRADED, text)

    def _published(self, perception: Perception, solid: Solid, fused: Fused | None) -> Perception:
        depth = solid.depth if fused is None else fused.depth
        kept = cv2.subtract(solid.valid, solid.edge) if self._settings.masked else solid.valid
        if cv2.countNonZero(kept) < kept.size:
            depth = cv2.copyTo(depth, kept, np.zeros_like(depth))
        if fused is None:
            return perception if depth is perception.depth else replace(perception, depth=depth)
        return replace(perception, depth=depth, semantics=fused.semantics, confidence=fused.confidence)
