"""What the dashboard answers to which request."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING, Any

from m2h_runtime.errors import M2HError
from m2h_runtime.libraries import require
from m2h_runtime.web import snapshot
from m2h_runtime.web.pictures import PANES
from m2h_runtime.web.record_sink import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from m2h_runtime.ros.profiles import Profile
    from m2h_runtime.sinks.base import Observation
    from m2h_runtime.web.access import Access
    from m2h_runtime.web.board import Board, Run
    from m2h_runtime.web.record_sink import RecordSink
    from m2h_runtime.web.view_sink import ViewSink
    from m2h_runtime.web.viewers import Viewers

TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css"}
PATIENCE_S = 5.0
"""So long a single picture waits for the next observation."""
LONGEST = 512
"""Bytes of what is posted."""
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Server:
    """The routes.

    Args:
        access: who may ask.
        viewers: the open pages.
        board: the run's figures.
        view_sink: where single observations come from.
        record_sink: what starts and stops recordings.
        status: all figures.
        profile: of recordings in MCAP; there is one when there is a run.
    """

    def __init__(
        self,
        access: Access,
        viewers: Viewers,
        board: Board,
        view_sink: ViewSink,
        record_sink: RecordSink,
        status: Callable[[], dict[str, Any]],
        profile: Callable[[], Profile],
    ) -> None:
        self._web = require("aiohttp.web", "--web", "web")
        self._access = access
        self._viewers = viewers
        self._board = board
        self._view_sink = view_sink
        self._record_sink = record_sink
        self._status = status
        self._profile = profile
        # One thread: whoever asks for many large pictures at once waits, and the engine does not.
        self._worker = ThreadPoolExecutor(1, "web worker")
        folder = resources.files("m2h_runtime.web") / "static"
        self._files = {file.name: file.read_bytes() for file in folder.iterdir()}

    def application(self) -> web.Application:
        """The aiohttp application."""

        @self._web.middleware  # type: ignore[untyped-decorator]  # aiohttp is imported when it is used
        async def guard(request: web.Request, handler: Any) -> web.StreamResponse:
            return await self._access.guard(request, handler)

        app: web.Application = self._web.Application(middlewares=[guard], client_max_size=LONGEST)
        app.on_response_prepare.append(self._access.sign)
        app.router.add_get("/", self._page)
        app.router.add_get("/static/{name}", self._page)
        app.router.add_get("/socket", self._viewers.attend)
        app.router.add_get("/status.json", self._figures)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/view/{pane}.jpg", self._picture)
        app.router.add_get("/snapshot.png", self._sheet)
        app.router.add_get("/snapshot.npz", self._arrays)
        app.router.add_post("/record", self._record)
        return app

    def close(self) -> None:
        """End the worker."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    async def _page(self, request: web.Request) -> web.Response:
        name = request.match_info.get("name", "index.html")
        if name not in self._files:
            return self._said(404, "no such file")
        kind = TYPES[name.rpartition(".")[2]]
        answer: web.Response = self._web.Response(body=self._files[name], content_type=kind, charset="utf-8")
        return answer

    async def _figures(self, _: web.Request) -> web.Response:
        answer: web.Response = self._web.json_response({**self._board.cards(), **self._status()})
        return answer

    async def _metrics(self, _: web.Request) -> web.Response:
        text = self._board.metrics().encode()
        answer: web.Response = self._web.Response(body=text, headers={"Content-Type": OPEN_METRICS})
        return answer

    async def _picture(self, request: web.Request) -> web.Response:
        pane = request.match_info["pane"]
        if pane not in PANES:
            return self._said(404, f"no output {pane!r}; there are {', '.join(PANES)}")
        return await self._of_next(lambda seen, _: snapshot.picture(seen, pane), "image/jpeg")

    async def _sheet(self, _: web.Request) -> web.Response:
        def sheet(seen: Observation, run: Run) -> bytes:
            return snapshot.sheet(seen, run.pipeline.engine or run.engine)

        return await self._of_next(sheet, "image/png", "png")

    async def _arrays(self, _: web.Request) -> web.Response:
        return await self._of_next(lambda seen, _: snapshot.arrays(seen), "application/octet-stream", "npz")

    async def _of_next(
        self, make: Callable[[Observation, Run], bytes], kind: str, download: str | None = None
    ) -> web.Response:
        """What `make` makes of the next observation; `download` is the ending of a file to be saved."""
        run = self._board.run
        if run is None:
            return self._said(503, "the run has not begun")
        try:
            seen = await asyncio.wait_for(asyncio.wrap_future(self._view_sink.next()), PATIENCE_S)
        except asyncio.TimeoutError:
            return self._said(503, f"no new picture for {PATIENCE_S:g} s; the health says why")
        try:
            body = await asyncio.get_running_loop().run_in_executor(self._worker, make, seen, run)
        except M2HError as error:
            return self._said(500, str(error))
        name = f"{time.strftime('m2h_%Y%m%d_%H%M%S')}.{download}"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'} if download else {}
        answer: web.Response = self._web.Response(body=body, content_type=kind, headers=headers)
        return answer

    async def _record(self, request: web.Request) -> web.Response:
        """Start a recording ({"record": "mp4"} or "mcap") or stop it ({"record": null})."""
        run = self._board.run
        if run is None:
            return self._said(503, "the run has not begun")
        try:
            kind = (await request.json())["record"]
        except (ValueError, TypeError, KeyError):  # from outside: anything may come
            kind = ""
        if kind not in (None, *KINDS) or request.content_type != "application/json":
            return self._said(400, 'expected JSON: {"record": "mp4"}, {"record": "mcap"} or {"record": null}')
        sink = self._record_sink
        do = sink.stop if kind is None else partial(sink.start, kind, run, self._profile())
        try:
            await asyncio.get_running_loop().run_in_executor(self._worker, do)
        except M2HError as error:
            return self._said(409, str(error))
        answer: web.Response = self._web.json_response(sink.status())
        return answer

    def _said(self, status: int, text: str) -> web.Response:
        answer: web.Response = self._web.Response(status=status, text=text + "\n")
        return answer
