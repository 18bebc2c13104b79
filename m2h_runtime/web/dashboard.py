"""`Dashboard`: the page's server in a thread of its own, and the two sinks that feed it."""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2h_runtime.engine.ort import usable_cores
from m2h_runtime.libraries import require
from m2h_runtime.ros.profiles import load_profile
from m2h_runtime.web.access import Access
from m2h_runtime.web.address import Address, is_loopback, listen, reachable
from m2h_runtime.web.board import Board, Run
from m2h_runtime.web.pace import Pace
from m2h_runtime.web.record_sink import RecordSink
from m2h_runtime.web.server import Server
from m2h_runtime.web.view_sink import ViewSink
from m2h_runtime.web.viewers import CLOSE_S, Viewers

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

    from m2h_runtime.engine.base import Engine
    from m2h_runtime.pipeline.loop import Pipeline
    from m2h_runtime.ros.profiles import Profile
    from m2h_runtime.sinks.base import Sink
    from m2h_runtime.sources.base import Source
    from m2h_runtime.web.pictures import Update

RECORDINGS = Path("recordings")
TOKEN_BYTES = 16
IDLE_S = 15.0
"""A connection that asks for nothing is closed: each takes a file descriptor, which cameras and recordings need too."""
LEAVE_S = 0.8
"""So long closing may take; the thread is a daemon and ends with the process in any case."""


class Dashboard:
    """Serves the page from `open` to `close`. What it shows comes through `sinks`, `perceived` and `attach`.

    Args:
        host: name or address to listen on; anything but this machine's own asks for a token.
        port: 0 takes any that is free.
        token: that a page has to know; None: none on this machine alone, a random one otherwise.
        recordings: folder of the recordings that viewers start; made with the first one.
        clock: monotonic, integer nanoseconds: the pipeline's.

    Raises:
        InputError: aiohttp is missing.

    Attributes:
        sinks: for the pipeline: one that shows, one that records.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        token: str | None = None,
        recordings: Path = RECORDINGS,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._web = require("aiohttp.web", "--web", "web")
        self._address = Address(host, port)
        self._token = token
        self._board = Board(clock)
        self._view_sink = ViewSink(Pace(usable_cores(), clock), self._deliver)
        self._record_sink = RecordSink(recordings, clock)
        self.sinks: tuple[Sink, ...] = (self._view_sink, self._record_sink)
        self._profile: Profile | None = None
        self._url = ""
        self._viewers: Viewers | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._ended: asyncio.Event | None = None

    @property
    def url(self) -> str:
        """What to open in a browser, with the token if one is needed; "" before `open`."""
        return self._url

    def open(self) -> None:
        """Listen, and answer from now on.

        Raises:
            SinkError: the port is taken, or there is no such host here.
        """
        listening = listen(self._address)
        local = is_loopback(listening)
        if self._token is None and not local:
            self._token = secrets.token_urlsafe(TOKEN_BYTES)
        where = reachable(listening, self._address.host)
        self._url = f"http://{where}/" + (f"?token={self._token}" if self._token else "")
        started: Future[None] = Future()
        access = Access(self._token, where.port, local=local, host=self._address.host)
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(listening, access, started)), name="web", daemon=True
        )
        self._thread.start()
        started.result()

    async def _serve(self, listening: socket.socket, access: Access, started: Future[None]) -> None:
        """Answer until `close`."""
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        viewers = self._viewers = Viewers(self._view_sink, self._board.hello, self._status)
        server = Server(
            access,
            viewers,
            self._board,
            self._view_sink,
            self._record_sink,
            self._status,
            lambda: self._profile or load_profile(),
        )
        runner = self._web.AppRunner(
            server.application(),
            access_log=None,
            logger=_logger(),
            shutdown_timeout=CLOSE_S,
            keepalive_timeout=IDLE_S,
        )
        try:
            await runner.setup()
            await self._web.SockSite(runner, listening).start()
        except BaseException as error:
            started.set_exception(error)  # for whoever opens
            return
        teller = asyncio.create_task(viewers.tell())
        started.set_result(None)
        await self._ended.wait()
        teller.cancel()
        with suppress(asyncio.TimeoutError):
            await viewers.close()
        await runner.cleanup()
        server.close()

    def attach(self, pipeline: Pipeline, source: Source, engine: Engine, profile: Profile) -> None:
        """Show this run.

        Args:
            pipeline: that was given `sinks`, and `perceived` to call.
            source: what it reads.
            engine: what answers.
            profile: topics and encodings of recordings in MCAP.
        """
        self._profile = profile
        self._board.run = Run(pipeline, source, engine)

    def perceived(self, pipeline: Pipeline) -> None:
        """There is one more perception: to be called in the engine's thread, after each. Takes microseconds."""
        self._board.recent.note(pipeline)

    def _deliver(self, update: Update) -> None:
        """From the view sink's thread into the server's."""
        if self._loop is not None and self._viewers is not None:
            with suppress(RuntimeError):  # it has been closed meanwhile
                self._loop.call_soon_threadsafe(self._viewers.deliver, update)

    def _status(self) -> dict[str, Any]:
        viewers = 0 if self._viewers is None else len(self._viewers)
        return {**self._board.status(), "recording": self._record_sink.status(), "viewers": viewers}

    def close(self) -> None:
        """Answer no more; quick, whoever is connected. May be called twice."""
        if self._loop is None or self._thread is None or self._ended is None:
            return
        with suppress(RuntimeError):  # its loop has ended
            self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(LEAVE_S)

    def __enter__(self) -> Self:
        """Open it."""
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()


def _logger() -> logging.Logger:
    """Tells of our own errors; requests that are no HTTP are somebody else's, and answered with 400."""
    no_http = require("aiohttp.http", "--web", "web").HttpProcessingError
    logger = logging.getLogger("m2h.web")
    logger.filters = [lambda record: not (record.exc_info and isinstance(record.exc_info[1], no_http))]
    return logger
