"""The ends of a pipeline that tests hold in their hands: clock, engine, sources, sink."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from tiny_engine import picture, twin

from m2h_runtime.calibration.fit import Fit
from m2h_runtime.engine.base import Engine
from m2h_runtime.engine.manifest import read_manifest
from m2h_runtime.errors import SinkError
from m2h_runtime.frame import Frame
from m2h_runtime.sinks import Observation, Sink
from m2h_runtime.sources import EndOfStream, Source

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from m2h_runtime.engine.contract import Neighbours, Outputs
    from m2h_runtime.engine.manifest import Manifest
    from m2h_runtime.perception import Perception

MS = 1_000_000


class Clock:
    """Virtual nanoseconds, moved by hand."""

    def __init__(self) -> None:
        self.now_ns = 10**12

    def __call__(self) -> int:
        return self.now_ns

    def forward(self, milliseconds: float) -> None:
        self.now_ns += round(milliseconds * MS)


class NumpyEngine(Engine):
    """The tiny engine's arithmetic without a backend; `before` runs at the start of every inference."""

    backend: ClassVar[str] = "numpy"

    def __init__(self, folder: Path, before: Callable[[], None] = lambda: None) -> None:
        super().__init__(read_manifest(folder))
        self._before = before

    @classmethod
    def unavailable(cls) -> str | None:
        return None

    @classmethod
    def open(cls, folder: Path, manifest: Manifest, threads: int | None) -> NumpyEngine:  # noqa: ARG003
        return cls(folder)

    def _infer(self, image: NDArray[np.uint8], views: Neighbours | None = None) -> Outputs:
        self._before()
        said = twin(image[0])
        return {
            "depth": said.depth[None],
            "semantics": said.semantics[None],
            "confidence": said.confidence[None],
            "normals": np.ascontiguousarray(said.normals.transpose(2, 0, 1))[None],
            "edges": said.edges[None],
        }


class Script(Source):
    """Frames in the engine's size, then the end; `gates[i]` must be open before frame i comes."""

    live = False

    def __init__(self, frames: int, clock: Clock | None = None, error: Exception | None = None) -> None:
        super().__init__()
        self.frames = frames
        self.read_cost_ms = 0.0
        self.error = error
        self.next = 0
        self._clock = clock or Clock()
        self.gates: dict[int, threading.Event] = {}

    def read(self, timeout_s: float) -> Frame | None:
        gate = self.gates.get(self.next)
        if gate is not None and not gate.wait(timeout_s):
            return None
        if self.next == self.frames:
            raise self.error or EndOfStream
        index = self.next
        self.next += 1
        self._clock.forward(self.read_cost_ms)
        now_ns = self._clock.now_ns
        return Frame(picture(index), now_ns + index, index, taken_ns=now_ns if self.live else None)

    def describe(self) -> str:
        return "script"


class LiveScript(Script):
    live = True


class Keep(Sink):
    """Keeps what it is given; `gate`, if there is one, must be open for each write."""

    name = "keep"

    def __init__(self, gate: threading.Event | None = None, fail_at: int | None = None) -> None:
        self.gate = gate
        self.fail_at = fail_at
        self.seen: list[Observation] = []
        self.ended: list[str] = []

    def write(self, observation: Observation) -> None:
        if self.gate is not None:
            assert self.gate.wait(20)
        if self.fail_at is not None and len(self.seen) == self.fail_at:
            raise SinkError("keep: full")
        self.seen.append(observation)

    @property
    def sequences(self) -> list[int]:
        return [observation.perception.sequence for observation in self.seen]

    def close(self) -> None:
        self.ended.append("closed")

    def abort(self) -> None:
        self.ended.append("aborted")


def observation(
    frame: Frame, said: Perception | None = None, fps: float = 0.0, depth_factor: float = 1.0
) -> Observation:
    """`frame` with what an engine said about it: the tiny engine, if nothing else is given."""
    perception = (said or twin(frame.image)).stamped(frame)
    fit = Fit("stretch", frame.image.shape[:2], perception.size)
    return Observation(frame, perception, fps, fit, depth_factor, frame)
