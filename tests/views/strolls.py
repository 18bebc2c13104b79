"""Frames of a simulated walk with exact poses, and the IMU's windows between them; nothing is rendered."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from stand_ins import Clock
from tiny_engine import VIEWS, features_of, picture, twin

from m2h_runtime.calibration.camera import CameraModel
from m2h_runtime.calibration.fit import Fit
from m2h_runtime.frame import Frame
from m2h_runtime.imu import so3
from m2h_runtime.imu.track import ImuCalibration, ImuTrack
from m2h_runtime.pipeline.health import Health
from m2h_runtime.pipeline.prepare import Prepared
from m2h_runtime.simulation.imu import KalibrImu, simulate_imu
from m2h_runtime.simulation.trajectory import BODY_FROM_OPTICAL, Trajectory, inverse, stamps_ns
from m2h_runtime.views import ViewKeeper

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from m2h_runtime.engine.contract import Neighbours, Views
    from m2h_runtime.perception import Perception

FPS = 15.0
DEPTH_M = 3.0
SIZE = (64, 96)
CAMERA = CameraModel(96, 64, 70.0, 70.0, 47.5, 31.5)


def walking(rest_s: float = 0.0, walk_s: float = 8.0, after_s: float = 0.0) -> Trajectory:
    """Stand, walk with sway, turns and nods at 1 m/s, stand again."""
    times = np.linspace(0.0, rest_s + walk_s + after_s, 2001)
    t = np.clip(times - rest_s, 0.0, walk_s)
    begun = t**2 / (t**2 + 1.0)
    positions = np.column_stack((begun * t, 0.2 * begun * np.sin(2 * t), 1.4 + 0.02 * begun * np.sin(5 * t)))
    yaw, pitch = 0.8 * begun * np.sin(0.7 * t), 0.2 * begun * np.sin(1.1 * t)
    return Trajectory(times, positions, yaw, pitch, 0.05 * begun * np.sin(2.5 * t))


def imu_from_camera() -> NDArray[np.float64]:
    """No axis of the one is an axis of the other."""
    transform = np.eye(4)
    transform[:3, :3] = so3.exp(np.array((0.3, -0.2, 0.5))) @ BODY_FROM_OPTICAL
    return transform


def frames(trajectory: Trajectory, *, poses: bool = True, imu: bool = False) -> Iterator[Frame]:
    """One each 1/`FPS` s, with pictures that repeat; `imu` with a standstill at the beginning gives good rotations."""
    samples = simulate_imu(trajectory, KalibrImu(), imu_from_camera(), np.random.default_rng(0))
    track, fed, before = ImuTrack(ImuCalibration(inverse(imu_from_camera()))), 0, None
    times = np.arange(0.01, trajectory.duration_s - 0.01, 1 / FPS)
    for index, (stamp_ns, pose) in enumerate(
        zip(stamps_ns(times).tolist(), trajectory.poses(times), strict=True)
    ):
        while fed < len(samples.stamps_ns) and (track.newest_ns or 0) < stamp_ns:
            track.push(int(samples.stamps_ns[fed]), samples.gyro[fed], samples.accel[fed])
            fed += 1
        yield Frame(
            picture(index % 5),
            stamp_ns,
            index,
            camera=CAMERA,
            imu=track.window(before, stamp_ns) if imu else None,
            world_from_camera=pose if poses else None,
        )
        before = stamp_ns


class Stroll:
    """A `ViewKeeper` on its way: give it frames.

    Attributes:
        handed: by frame, what the keeper handed over.
        texts: by frame, what it said.
    """

    def __init__(self, views: Views = VIEWS) -> None:
        self.clock = Clock()
        self.health = Health(clock=self.clock)
        self.keeper = ViewKeeper(views, self.health, self.clock)
        self.handed: list[Neighbours | None] = []
        self.texts: list[str] = []

    def step(self, frame: Frame, factor: float = 1.0, perceived: bool = True) -> Neighbours | None:
        ready = prepared(frame, factor)
        self.handed.append(self.keeper.neighbours(ready))
        self.texts.append(self.health.parts()["views"].text)
        if perceived:
            self.keeper.remember(ready, perception(), features_of(frame.image))
        self.clock.forward(1000 / FPS)
        return self.handed[-1]

    def over(self, walk: Iterator[Frame]) -> Stroll:
        for frame in walk:
            self.step(frame)
        return self

    @property
    def changes(self) -> list[str]:
        return [change.condition.text for change in self.health.transitions]


def prepared(frame: Frame, factor: float = 1.0) -> Prepared:
    fit = Fit("stretch", SIZE, SIZE)
    return Prepared(frame, frame, frame.image, fit, factor, frame.camera)


def perception() -> Perception:
    """All at `DEPTH_M`."""
    return replace(twin(picture(0)), depth=np.full(SIZE, DEPTH_M, np.float32))
