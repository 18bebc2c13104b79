"""A walk through a simulated apartment, rendered as it is watched."""

from __future__ import annotations

import fcntl
import math
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from m2h_runtime.calibration.camera import CameraModel
from m2h_runtime.errors import InputError, M2HError, SourceError
from m2h_runtime.frame import Frame
from m2h_runtime.imu.calibration import ImuCalibration
from m2h_runtime.imu.track import ImuTrack
from m2h_runtime.simulation.libraries import require
from m2h_runtime.simulation.processes import deaf_to_interrupts
from m2h_runtime.sources.base import EndOfStream
from m2h_runtime.sources.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from numpy.typing import NDArray

    from m2h_runtime.simulation.walk import Style

ANY = "apartment"
"""Name of a walk that is good to try: by hand through the first apartment reserved for tests."""

PIPE_BYTES = 1 << 20
"""The renderer works ahead by as many frames as this holds: four of 320x240."""

IMU_HZ = 200.0


@dataclass(frozen=True)
class Walk:
    """Which walk to take.

    Attributes:
        seed: of the apartment.
        style: how the camera is carried.
        duration_s: seconds.
        fps: frames a second.
        size: (height, width) of the frames.
        keep_pace: leave out the frames that cannot be rendered in time.
    """

    seed: int
    style: Style
    duration_s: float
    fps: float
    size: tuple[int, int]
    keep_pace: bool


class Step(NamedTuple):
    """What the renderer sends: frame `number` of the walk, and the motion since the one before.

    Attributes:
        number: of the frame; it was taken `number` / fps seconds after the start.
        image: uint8 (H, W, 3) RGB.
        world_from_camera: float64 (4, 4).
        stamps_ns: int64 (N,), of the IMU samples, from the walk's start; one at or after the frame's is among them.
        gyro: float64 (N, 3), rad/s.
        accel: float64 (N, 3), m/s^2.
    """

    number: int
    image: NDArray[np.uint8]
    world_from_camera: NDArray[np.float64]
    stamps_ns: NDArray[np.int64]
    gyro: NDArray[np.float64]
    accel: NDArray[np.float64]


def parse_name(name: str) -> tuple[int, Style]:
    """Seed and style of "9001-drone", "9001" (by hand) or "apartment".

    Raises:
        InputError: it is none of these.
    """
    from m2h_runtime.simulation.episode import STYLES, reserved_seeds  # other sources need none of it

    if name == ANY:
        return reserved_seeds()["test"][0], "handheld"
    match = re.fullmatch(rf"(\d{{1,9}})(?:-({'|'.join(STYLES)}))?", name)
    if match is None:
        raise InputError(
            f"simulation {name!r}: give {ANY}, or an apartment's seed and how it is walked, as in 9001-handheld; "
            f"there are {', '.join(STYLES)}"
        )
    style = next((style for style in STYLES if style == match[2]), STYLES[0])
    return int(match[1]), style


class SimulationSource(Recording):
    """Frames of a walk, stamped with its own time: integer nanoseconds from its start, 1/`fps` s apart.

    Each has its intrinsics and its true pose, and there is an IMU of 200 Hz on the camera, with noise and biases.

    A process of its own renders some frames ahead of the reader. It starts with the source, so the apartment is
    built while others are still being opened; what goes wrong there is raised by `read`.

    Args:
        name: which walk, see `parse_name`.
        size: (height, width) of the frames.
        fps: frames a second.
        duration_s: length of the walk, seconds.
        keep_pace: leave out the frames that cannot be rendered in time; for a reader that plays the walk at its own
            pace. Otherwise every frame comes, however long it takes.
        health: told what is wrong with the IMU samples, and None when all is well again.

    Raises:
        InputError: no such walk, or the extra `simulation` is not installed.
    """

    def __init__(
        self,
        name: str = ANY,
        size: tuple[int, int] = (240, 320),
        fps: float = 30.0,
        duration_s: float = 60.0,
        *,
        keep_pace: bool = False,
        health: Callable[[str | None], None] | None = None,
    ) -> None:
        super().__init__()
        self.walk = Walk(*parse_name(name), duration_s, fps, size, keep_pace)
        self.fps = fps
        self._camera = _camera(size)
        self.imu = ImuTrack(ImuCalibration(_imu_from_camera().T, nominal_rate_hz=IMU_HZ), health)
        for library in ("scipy", "embreex"):
            require(library)
        context = get_context("spawn")
        self._frames, sink = context.Pipe(duplex=False)
        self._sequence = 0
        self._over = False
        self._process = context.Process(target=_render, args=(sink, self.walk), name="renderer", daemon=True)
        with deaf_to_interrupts():
            self._process.start()
        sink.close()  # so that the renderer's death ends the stream

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame of the walk; see `Source.read`.

        Raises:
            EndOfStream: the walk is over.
            SourceError: the renderer died.
            InputError: this apartment cannot be walked like this.
        """
        if self._over:
            raise EndOfStream
        if not self._frames.poll(timeout_s):
            return None
        try:
            message = self._frames.recv()
        except (EOFError, OSError) as error:
            raise SourceError(f"{self.describe()}: {self._death()}") from error
        if isinstance(message, M2HError):
            raise message
        if message is None:
            self._over = True
            raise EndOfStream
        return self._frame(message)

    def _frame(self, step: Step) -> Frame:
        if self.imu is not None:
            stamps_ns = (step.stamps_ns + self.shift_ns).tolist()
            for stamp_ns, gyro, accel in zip(stamps_ns, step.gyro, step.accel, strict=True):
                self.imu.push(stamp_ns, gyro, accel)
        frame = Frame(
            step.image,
            round(step.number * 1e9 / self.walk.fps) + self.shift_ns,
            self._sequence,
            camera=self._camera,
            world_from_camera=step.world_from_camera,
        )
        self._sequence += 1
        return frame

    def _death(self) -> str:
        self._process.join(1.0)
        code = self._process.exitcode
        if code is not None and code < 0:
            return f"the renderer was killed by signal {-code}; free some memory if it happens again"
        return f"the renderer failed (exit code {code}); what it wrote above says why"

    def describe(self) -> str:
        """Apartment, style, size and rate."""
        height, width = self.walk.size
        return f"simulated apartment {self.walk.seed}, {self.walk.style}, {width}x{height} at {self.walk.fps:g} FPS"

    def close(self) -> None:
        """End the renderer."""
        self._process.kill()  # it holds nothing that needs care
        self._process.join()
        self._frames.close()


def _camera(size: tuple[int, int]) -> CameraModel:
    from m2h_runtime.simulation.episode import default_camera

    pinhole = default_camera(*size[::-1])
    return CameraModel(pinhole.width, pinhole.height, pinhole.fx, pinhole.fy, pinhole.cx, pinhole.cy)


def _imu_from_camera() -> NDArray[np.float64]:
    """(4, 4): the IMU has x forward, y left, z up and the camera's origin."""
    from m2h_runtime.simulation.trajectory import BODY_FROM_OPTICAL

    transform = np.eye(4)
    transform[:3, :3] = BODY_FROM_OPTICAL
    return transform


def _render(sink: Connection, walk: Walk) -> None:
    """Send a `Step` for each of the walk's frames, then None; or the error that there is. The renderer's main."""
    import cv2

    cv2.setNumThreads(1)
    with suppress(BrokenPipeError):  # nobody reads any more
        try:
            _send_frames(sink, walk)
            sink.send(None)
        except M2HError as error:
            sink.send(error)


def _send_frames(sink: Connection, walk: Walk) -> None:
    from m2h_runtime.simulation.episode import Episode, default_camera
    from m2h_runtime.simulation.imu import KalibrImu, simulate_imu

    episode = Episode(walk.seed, walk.style, walk.duration_s, default_camera(*walk.size[::-1]))
    rng = np.random.default_rng((walk.seed, 13))
    imu = simulate_imu(episode.trajectory, KalibrImu(), _imu_from_camera(), rng, rate_hz=IMU_HZ, start_ns=0)
    sent = 0
    if not walk.keep_pace:
        with suppress(OSError):  # less room is slower, no more
            fcntl.fcntl(sink.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    index, began = 0, None
    while index < round(walk.duration_s * walk.fps):
        asked = time.monotonic()
        shot = episode.shot(index / walk.fps)
        took = time.monotonic() - asked
        due = 1 + int(np.searchsorted(imu.stamps_ns, round(index * 1e9 / walk.fps)))
        part = slice(sent, due)
        sink.send(
            Step(
                index,
                shot.image,
                shot.world_from_camera,
                imu.stamps_ns[part],
                imu.gyro[part],
                imu.accel[part],
            )
        )
        sent = due
        index += 1
        if walk.keep_pace:
            now = time.monotonic()
            began = began or now  # the reader has taken the first frame: it did not fit into the pipe
            index = max(index, math.ceil((now - began + took) * walk.fps))
