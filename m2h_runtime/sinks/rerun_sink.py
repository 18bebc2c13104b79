"""A run in Rerun (rerun.io): as a file *.rrd, or live from a server that viewers connect to."""

from __future__ import annotations

import os
import re
import socket
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from m2h_runtime.errors import InputError, SinkError
from m2h_runtime.files import reason
from m2h_runtime.libraries import require
from m2h_runtime.pipeline.health import Level
from m2h_runtime.sinks.base import Sink, check_writable
from m2h_runtime.sinks.rerun_scene import Scene

if TYPE_CHECKING:
    from m2h_runtime.engine.manifest import Manifest
    from m2h_runtime.pipeline.health import Health
    from m2h_runtime.sinks.base import Observation

APPLICATION = "m2h-runtime"
DEFAULT_HOST = "127.0.0.1"
MEMORY = "64MiB"
"""Of the latest frames, for viewers that come late: some ten seconds."""
PATIENCE_S = 0.5
"""So long a frame waits for viewers that do not keep up."""
FLUSH_FRAMES = 16
"""A file is checked after so many frames, which bounds what waits to be written."""
FLUSH_S = 3.0
"""A file that neither takes what waits nor grows for so long has failed."""
FINISH_S = 20.0
"""So long the index of a file may take."""
VIEWER = "viewer"
"""The part of the health that tells of viewers."""


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """What a viewer on this machine is given."""
        host = DEFAULT_HOST if self.host == "0.0.0.0" else self.host  # noqa: S104
        return f"rerun+http://{host}:{self.port}/proxy"


def rerun_target(text: str) -> Path | Address:
    """What `FILE.rrd` or `[HOST:]PORT` names.

    Raises:
        InputError: neither.
    """
    if text.lower().endswith(".rrd"):
        return Path(text)
    match = re.fullmatch(r"(?:([^:/\s]+):)?(\d{1,5})", text)
    if match is None or not 0 < int(match[2]) < 65536:
        raise InputError(f"{text}: give FILE.rrd, or the PORT or HOST:PORT to serve Rerun viewers at")
    return Address(match[1] or DEFAULT_HOST, int(match[2]))


class RerunFileSink(Sink):
    """Writes every observation to the Rerun recording `path`, which appears when the run has ended well.

    Args:
        path: the file *.rrd.
        manifest: of the engine, for the recording's name.
        backend: the backend's name.
        health: shown beside the pictures.

    Raises:
        InputError: rerun is missing.
        SinkError: the folder cannot be written.
    """

    name = "rerun"

    def __init__(self, path: Path, manifest: Manifest, backend: str, health: Health) -> None:
        check_writable(path)
        self._path = path
        self._title = _title(manifest, backend)
        self._health = health
        self._rerun = _library()
        self._temporary: Path | None = None
        self._recording: Any = None
        self._scene: Scene | None = None
        self._shown = 0

    def write(self, observation: Observation) -> None:
        """Append one frame."""
        if self._temporary is None or self._scene is None:
            self._temporary = self._make_file()
            self._scene = self._open(self._temporary)
        self._scene.show(observation)
        self._shown += 1
        if self._shown % FLUSH_FRAMES == 0:
            self._flush(self._temporary)

    def _make_file(self) -> Path:
        try:
            handle, name = tempfile.mkstemp(".rrd", f".{self._path.stem}.", self._path.parent)
        except OSError as error:
            raise self._failed(reason(error)) from error
        os.close(handle)
        return Path(name)

    def _open(self, temporary: Path) -> Scene:
        self._recording = self._rerun.RecordingStream(APPLICATION)
        self._recording.set_sinks(self._rerun.FileSink(temporary))
        self._recording.send_recording_name(self._title)
        return Scene(self._rerun, self._recording, self._health)

    def _flush(self, temporary: Path) -> None:
        """Have everything written. After a failed write Rerun only lets this time out, as on a slow disk."""
        size = -1
        while True:
            try:
                self._recording.flush(timeout_sec=FLUSH_S)
                return  # noqa: TRY300
            except RuntimeError as error:
                before, size = size, temporary.stat().st_size
                if size == before:
                    raise self._failed(_why_full(temporary)) from error

    def close(self) -> None:
        """Finish the file, check that it is whole, and put it in place."""
        if self._temporary is None or self._scene is None:  # not one frame came
            return
        self._scene.end()
        self._flush(self._temporary)
        _end(self._recording, FINISH_S)
        if not _complete(self._temporary):
            raise self._failed(_why_full(self._temporary))
        try:
            self._temporary.chmod(0o644)  # tempfile makes it private to its owner
            self._temporary.replace(self._path)
        except OSError as error:
            raise self._failed(reason(error)) from error
        self._temporary = None

    def abort(self) -> None:
        """Remove the temporary file."""
        if self._scene is not None:
            self._scene.end()
            _end(self._recording)
        if self._temporary is not None:
            with suppress(OSError):  # a disk that has become read-only
                self._temporary.unlink(missing_ok=True)

    def _failed(self, why: str) -> SinkError:
        return SinkError(
            f"{self._path}: the recording cannot be written ({why}); free some space or choose another"
        )


class RerunServerSink(Sink):
    """Serves the newest observations to Rerun viewers, here or across the network. There is no password.

    It keeps `MEMORY` of frames for viewers that come late. A viewer that does not keep up costs frames, never the run;
    it is told to `health` as part "viewer".

    Args:
        address: where to listen; host 0.0.0.0 is every IPv4 network of this machine.
        manifest: of the engine, for the recording's name.
        backend: the backend's name.
        health: shown beside the pictures.

    Raises:
        InputError: rerun is missing, or the host is unknown.
        SinkError: the address cannot be listened at.
    """

    name = "rerun"
    queue: ClassVar[int] = 1
    disposable: ClassVar[bool] = True
    lossy: ClassVar[bool] = True

    def __init__(self, address: Address, manifest: Manifest, backend: str, health: Health) -> None:
        library = _library()
        host = _checked_host(address)
        self.address = address
        self._health = health
        self._recording = library.RecordingStream(APPLICATION)
        self._recording.set_sinks(library.GrpcServerSink(host, address.port, server_memory_limit=MEMORY))
        self._recording.send_recording_name(_title(manifest, backend))
        self._scene = Scene(library, self._recording, health)

    def write(self, observation: Observation) -> None:
        """Send one frame, unless viewers are still busy with those before."""
        if self._sent():
            self._scene.show(observation)
            self._sent()

    def _sent(self) -> bool:
        """Everything is on its way; if not, what came next would pile up in memory."""
        try:
            self._recording.flush(timeout_sec=PATIENCE_S)
        except RuntimeError as error:
            why = " ".join(str(error).split())
            text = f"a Rerun viewer does not keep up ({why}); frames are left out until it does"
            self._health.report(VIEWER, Level.DEGRADED, text)
            return False
        self._health.ok(VIEWER)
        return True

    def close(self) -> None:
        """Send viewers the last frame and close the server; they keep what they have."""
        self.abort()

    def abort(self) -> None:
        """Close the server."""
        self._scene.end()
        _end(self._recording)


def check_rerun(text: str) -> None:
    """Find out before a run whether --rerun can be served or written.

    Raises:
        InputError: it is neither a file nor an address.
        SinkError: the file cannot be written, or the address is taken.
    """
    target = rerun_target(text)
    if isinstance(target, Path):
        check_writable(target)
    else:
        _checked_host(target)


def _library() -> Any:
    # We say ourselves what goes wrong; its log would say it again.
    os.environ.setdefault("RUST_LOG", "off")
    library = require("rerun", "--rerun", "rerun")
    library.set_strict_mode(True)  # otherwise what cannot be shown is passed over with a warning
    library.unregister_shutdown()  # at exit it would wait for a viewer that hangs; we end what we open
    return library


def _end(recording: Any, patience_s: float = PATIENCE_S) -> None:
    """Send what waits and disconnect. If that hangs (a full disk, a viewer that hangs) it is left to its thread.

    Rerun may wait for ever, in the recording's destructor too: so the thread keeps the recording.
    """
    thread = threading.Thread(target=recording.disconnect, name="rerun end", daemon=True)
    thread.start()
    thread.join(patience_s)


def _complete(path: Path) -> bool:
    """The index of a recording is written last, and nobody is told of a disk that is full by then."""
    try:
        return bool(require("rerun_bindings", "--rerun", "rerun").check_for_rrd_footer(path))
    except RuntimeError:
        return False


def _why_full(path: Path) -> str:
    """Rerun does not say why a write failed; the operating system does when asked for a little more."""
    try:
        with path.open("ab") as stream:
            stream.write(bytes(1 << 16))
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        return reason(error)
    return "Rerun stopped writing"


def _checked_host(address: Address) -> str:
    """The IPv4 address to listen at; Rerun would only write to its log that it cannot."""
    try:
        host = socket.gethostbyname(address.host)
    except OSError as error:
        raise InputError(f"--rerun {address.host}:{address.port}: no such host ({reason(error)})") from error
    with socket.socket() as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # a run that has just ended is no hindrance
        try:
            probe.bind((host, address.port))
        except OSError as error:
            raise SinkError(
                f"--rerun {address.host}:{address.port}: cannot be listened at ({reason(error)}); "
                "choose another port, and a host that is this machine"
            ) from error
    return host


def _title(manifest: Manifest, backend: str) -> str:
    size = f"{manifest.size[1]}x{manifest.size[0]}"
    weights = "  RANDOM WEIGHTS" if manifest.checkpoint.random_weights else ""
    return f"{manifest.name} {size} {manifest.precision}, {backend}{weights}"
