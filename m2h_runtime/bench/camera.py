"""A camera made of a few pictures, at exactly the rate asked for, and the sink at the other end."""

from __future__ import annotations

import time
from array import array
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


@dataclass(frozen=True)
class Arrivals:
    """The perceptions that came to the sink, in order; all int64 (N,), nanoseconds.

    Attributes:
        at_ns: when.
        age_ns: how old its image was then; None: a recording's have no age.
        stages_ns: by stage how long it took.
        row_bytes: memory that one of them takes.
    """

    at_ns: NDArray[np.int64]
    age_ns: NDArray[np.int64] | None
    stages_ns: dict[str, NDArray[np.int64]]
    row_bytes: int


class ArrivalSink(Sink):
    """Takes everything at once and notes when it came, in few bytes: a soak looks for memory that grows."""

    name = "bench"

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._rows = array("q")  # when, age (-1: none), stages
        self._stages: tuple[str, ...] = ()
        self._clock = clock

    def write(self, observation: Observation) -> None:
        """Note the time."""
        now_ns, taken_ns = self._clock(), observation.frame.taken_ns
        spent_ns = observation.perception.latencies_ns
        self._stages = self._stages or tuple(spent_ns)
        self._rows.append(now_ns)
        self._rows.append(-1 if taken_ns is None else now_ns - taken_ns)
        self._rows.extend(array("q", (spent_ns[stage] for stage in self._stages)))

    @property
    def arrivals(self) -> Arrivals:
        """All so far; to be asked when the run is over."""
        columns = 2 + len(self._stages)
        at_ns, age_ns, *stages_ns = np.array(self._rows, np.int64).reshape(-1, columns).T
        aged = age_ns if age_ns.size and age_ns.min() >= 0 else None
        return Arrivals(at_ns, aged, dict(zip(self._stages, stages_ns, strict=True)), columns * 8)

    def close(self) -> None:
        """Nothing to finish."""

    def abort(self) -> None:
        """Nothing to undo."""
