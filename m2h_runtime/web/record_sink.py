"""A recording that a viewer starts and stops while the run goes on."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from m2h_runtime.errors import InputError, M2HError, SinkError
from m2h_runtime.files import reason
from m2h_runtime.pipeline.health import Level
from m2h_runtime.sinks.base import Sink
from m2h_runtime.sinks.mcap_file import McapSink
from m2h_runtime.sinks.video_file import VideoFileSink

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from m2h_runtime.ros.profiles import Profile
    from m2h_runtime.sinks.base import Observation
    from m2h_runtime.web.board import Run

Kind = Literal["mp4", "mcap"]
KINDS: tuple[Kind, ...] = ("mp4", "mcap")
PART = "recording"


@dataclass(frozen=True)
class Recording:
    """One that is being written."""

    path: Path
    began_ns: int
    sink: Sink


class RecordSink(Sink):
    """Hands observations to a recording while there is one. A disk that fails ends the recording, not the run.

    Args:
        folder: where recordings go; made when the first one starts.
        clock: monotonic, integer nanoseconds.
    """

    name = "web record"

    def __init__(self, folder: Path, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._folder = folder
        self._clock = clock
        self._recording: Recording | None = None
        self._last: dict[str, Any] | None = None
        self._run: Run | None = None
        self._ended = self._stopping = False
        self._lock = threading.Lock()  # one of start, write, stop

    @property
    def wanted(self) -> bool:
        """A recording is on, and goes on."""
        return self._recording is not None and not self._stopping

    def start(self, kind: Kind, run: Run, profile: Profile) -> None:
        """Begin a recording of this kind.

        Raises:
            InputError: one is on, the run is over, or a library is missing.
            SinkError: the folder cannot be written.
        """
        with self._lock:
            if self._recording is not None or self._ended:
                raise InputError("the run is over" if self._ended else "a recording is on; stop it first")
            path = self._new_path(kind)
            engine, pipeline = run.pipeline.engine or run.engine, run.pipeline
            if kind == "mcap":
                sink: Sink = McapSink(path, profile)
            else:
                sink = VideoFileSink(path, engine.manifest, engine.backend, run.source.fps)
            self._run = run
            self._last = None
            pipeline.health.ok(PART)
            self._recording = Recording(path, self._clock(), sink)

    def _new_path(self, kind: Kind) -> Path:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SinkError(f"{self._folder}: cannot be made ({reason(error)})") from error
        stem = time.strftime("m2h_%Y%m%d_%H%M%S")
        taken, path = 1, self._folder / f"{stem}.{kind}"
        while path.exists():
            taken += 1
            path = self._folder / f"{stem}_{taken}.{kind}"
        return path

    def write(self, observation: Observation) -> None:
        """Append to the recording, if one is on."""
        with self._lock:
            if self._recording is None:
                return
            try:
                self._recording.sink.write(observation)
            except M2HError as error:
                self._fail(self._recording, error)

    def stop(self) -> None:
        """Finish the recording, if one is on: it lies complete in its place."""
        self._stopping = True  # the loop need not wait for it
        with self._lock:
            if self._recording is not None:
                self._finish(self._recording)
            self._stopping = False

    def _finish(self, recording: Recording) -> None:
        try:
            recording.sink.close()
        except M2HError as error:
            self._fail(recording, error)
        else:
            self._end(recording, None)

    def _fail(self, recording: Recording, error: M2HError) -> None:
        recording.sink.abort()
        self._end(recording, str(error))
        if self._run is not None:
            self._run.pipeline.health.report(PART, Level.DEGRADED, f"{error}; the run goes on without it")

    def _end(self, recording: Recording, error: str | None) -> None:
        duration_s = round((self._clock() - recording.began_ns) / 1e9, 1)
        size = 0
        with suppress(OSError):  # there is no file
            size = recording.path.stat().st_size
        self._last = {
            "name": recording.path.name,
            "duration_s": duration_s,
            "bytes": size,
            "error": error if error or size else "not one frame came",
        }
        self._recording = None

    def status(self) -> dict[str, Any]:
        """`on`: name, duration and size of the recording that is on, or null; `last`: the same of the one before."""
        recording = self._recording
        now = None
        if recording is not None:
            now = {
                "name": recording.path.name,
                "duration_s": round((self._clock() - recording.began_ns) / 1e9, 1),
                "bytes": _growing(recording.path),
            }
        return {"folder": str(self._folder), "on": now, "last": self._last}

    def close(self) -> None:
        """The run is over, and so is the recording."""
        self._ended = True
        self.stop()

    def abort(self) -> None:
        """Leave no half-written recording behind."""
        self._ended = True
        with self._lock:
            if self._recording is not None:
                self._recording.sink.abort()
                self._recording = None


def _growing(path: Path) -> int:
    """Bytes so far of the temporary file beside `path`."""
    sizes = [0]
    with suppress(OSError):  # it has just been renamed, or the disk fails
        sizes += [file.stat().st_size for file in path.parent.glob(f".{path.stem}.*")]
    return max(sizes)
