"""A camera made of a few pictures, at exactly the rate asked for, and the sink at the other end."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from m2h_runtime.frame import Frame
from m2h_runtime.sinks.base import Sink
from m2h_runtime.sources.base import EndOfStream
from m2h_runtime.sources.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from m2h_runtime.sinks.base import Observation

CAMERA_SIZE = (480, 640)
PICTURES = 8
STEP_PX = 16


def pictures(image: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """What a camera that pans over `image` sees: `PICTURES` times uint8 (480, 640, 3) RGB.

    Args:
        image: uint8 (H, W, 3) RGB, a scene that the engine knows (its golden frame).
    """
    height, width = CAMERA_SIZE
    scene = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return [np.roll(scene, STEP_PX * index, axis=1) for index in range(PICTURES)]


class PictureRecording(Recording):
    """Pictures from memory, again and again, so that neither disk nor decoder is measured.

    Args:
        images: uint8 (H, W, 3) RGB each.
        fps: frames per second by their stamps; `PacedSource` keeps to them.
        frames: ends after so many; None: never.
    """

    def __init__(self, images: list[NDArray[np.uint8]], fps: float, frames: int | None = None) -> None:
        super().__init__()
        self.fps = fps
        self._images = images
        self._frames = frames
        self._sequence = 0

    def read(self, timeout_s: float) -> Frame | None:  # noqa: ARG002  # it never waits
        """The next picture; see `Source.read`. Never None."""
        index = self._sequence
        if index == self._frames:
            raise EndOfStream
        self._sequence += 1
        stamp_ns = round(index * 1e9 / (self.fps or 1.0)) + self.shift_ns
        return Frame(self._images[index % len(self._images)], stamp_ns, index)

    def describe(self) -> str:
        """Size and rate."""
        height, width = self._images[0].shape[:2]
        return f"{len(self._images)} pictures in memory, {width}x{height} at {self.fps:g} FPS"


@dataclass(frozen=True, slots=True)
class Arrival:
    """One perception at the sink: when, how old its image was then (None: a recording's), and its stages."""

    at_ns: int
    age_ns: int | None
    stages_ns: dict[str, int]


class ArrivalSink(Sink):
    """Takes everything at once and notes when it came.

    Attributes:
        arrivals: in order.
    """

    name = "bench"

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.arrivals: list[Arrival] = []
        self._clock = clock

    def write(self, observation: Observation) -> None:
        """Note the time."""
        now_ns, taken_ns = self._clock(), observation.frame.taken_ns
        age_ns = None if taken_ns is None else now_ns - taken_ns
        self.arrivals.append(Arrival(now_ns, age_ns, dict(observation.perception.latencies_ns)))

    def close(self) -> None:
        """Nothing to finish."""

    def abort(self) -> None:
        """Nothing to undo."""
