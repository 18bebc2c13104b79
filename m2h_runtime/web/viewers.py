"""The viewers and their WebSockets. Everything here runs in the server's event loop."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from m2h_runtime.libraries import require
from m2h_runtime.web.pictures import PANES

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from m2h_runtime.view import View
    from m2h_runtime.web.pictures import Update
    from m2h_runtime.web.view_sink import ViewSink

STATUS_S = 0.25
HEARTBEAT_S = 10.0
"""A viewer that does not answer a ping for half of this is gone."""
CLOSE_S = 0.2
MOST = 16
LONGEST = 512
"""Bytes of a viewer's message."""


class Viewer:
    """One open page. It is sent the next status or view when it has acknowledged the last, so none piles up.

    Attributes:
        panes: that it shows.
        owed: the kinds of messages whose acknowledgement is still out.
        greeted: it was told about the run.
    """

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self.socket = socket
        self.panes: frozenset[str] = frozenset()
        self.owed: set[str] = set()
        self.greeted = False
        self._outbox: dict[str, str | bytes] = {}
        self._filled = asyncio.Event()

    def put(self, kind: str, message: str | bytes) -> None:
        """Send `message` as soon as the connection takes it, unless a newer one of this kind comes first."""
        self._outbox[kind] = message
        self._filled.set()

    async def send(self) -> None:
        """Send what is put, until the connection ends."""
        with suppress(ConnectionError):
            while True:
                await self._filled.wait()
                self._filled.clear()
                while self._outbox:
                    message = self._outbox.pop(next(iter(self._outbox)))
                    if isinstance(message, bytes):
                        await self.socket.send_bytes(message)
                    else:
                        await self.socket.send_str(message)


class Viewers:
    """All open pages.

    Args:
        sink: asked for the panes that viewers are ready for.
        hello: what a viewer is told once; `ready` tells whether that is all.
        status: what it is told all the time.
    """

    def __init__(
        self, sink: ViewSink, hello: Callable[[], dict[str, Any]], status: Callable[[], dict[str, Any]]
    ) -> None:
        self._web = require("aiohttp.web", "--web", "web")
        self._sink = sink
        self._hello = hello
        self._status = status
        self._viewers: set[Viewer] = set()
        self._present = asyncio.Event()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._viewers)

    async def attend(self, request: web.Request) -> web.StreamResponse:
        """Serve one WebSocket until it ends."""
        if len(self._viewers) >= MOST:
            full: web.Response = self._web.Response(status=503, text=f"{MOST} pages are open; close one\n")
            return full
        socket: web.WebSocketResponse = self._web.WebSocketResponse(
            timeout=CLOSE_S, heartbeat=HEARTBEAT_S, max_msg_size=LONGEST, compress=False
        )
        await socket.prepare(request)
        viewer = Viewer(socket)
        self._viewers.add(viewer)
        self._present.set()
        sender = asyncio.create_task(viewer.send())
        try:
            async for message in socket:
                if message.type is not self._web.WSMsgType.TEXT or not self._heard(viewer, message.data):
                    await socket.close(code=1003, message=b"not understood")
        finally:
            sender.cancel()
            self._viewers.discard(viewer)
            self._ask()
        return socket

    def _heard(self, viewer: Viewer, text: str) -> bool:
        """Take a viewer's message; False if it is not understood."""
        try:
            message = json.loads(text)
            kind = message["kind"]
            if kind == "got":
                viewer.owed.discard(str(message["what"]))
            elif kind == "show":
                viewer.panes = frozenset(message["panes"]) & frozenset(PANES)
            elif kind == "probe":
                across, down = (float(share) for share in message["at"])
                self._read(viewer, across, down)
            else:
                return False
        except (ValueError, TypeError, KeyError, OverflowError):  # from outside: anything may come
            return False
        self._ask()
        return True

    def _read(self, viewer: Viewer, across: float, down: float) -> None:
        """Answer what lies at this share of the image's width and height."""
        if not (0 <= across <= 1 and 0 <= down <= 1):
            raise ValueError("outside of the image")
        if self._sink.view is not None:
            viewer.put("probe", json.dumps(reading(self._sink.view, across, down)))

    def deliver(self, update: Update) -> None:
        """Send an update to those who wait for one."""
        packed: dict[frozenset[str], bytes] = {}
        for viewer in self._ready():
            if viewer.panes not in packed:
                packed[viewer.panes] = update.packed(PANES if viewer.panes == set(PANES) else viewer.panes)
            viewer.owed.add("view")
            viewer.put("view", packed[viewer.panes])
        self._ask()

    def _ready(self) -> list[Viewer]:
        return [viewer for viewer in self._viewers if viewer.panes and "view" not in viewer.owed]

    def _ask(self) -> None:
        self._sink.show(frozenset().union(*(viewer.panes for viewer in self._ready())))

    async def tell(self) -> None:
        """Send the status all the time, while there is somebody to send it to."""
        while True:
            if not self._viewers:
                self._present.clear()
            await self._present.wait()
            self._tell_all()
            await asyncio.sleep(STATUS_S)

    def _tell_all(self) -> None:
        text = json.dumps({"kind": "status", **self._status()})
        for viewer in self._viewers:
            if not viewer.greeted:
                hello = self._hello()
                viewer.greeted = hello["ready"]
                viewer.put("hello", json.dumps(hello))
            if "status" not in viewer.owed:
                viewer.owed.add("status")
                viewer.put("status", text)

    async def close(self) -> None:
        """Say goodbye to all; who does not listen is left."""
        closing = (viewer.socket.close(code=1001, message=b"the run is over") for viewer in self._viewers)
        await asyncio.wait_for(asyncio.gather(*closing, return_exceptions=True), 2 * CLOSE_S)


def reading(view: View, across: float, down: float) -> dict[str, Any]:
    """The outputs at one point, given as shares (0..1) of the image's width and height. Depth 0 is none."""
    height, width = view.size
    at = min(int(down * height), height - 1), min(int(across * width), width - 1)
    return {
        "kind": "probe",
        "at": [across, down],
        "depth_m": round(float(view.depth[at]), 3),
        "label": int(view.semantics[at]),
        "confidence": round(int(view.confidence[at]) / 255, 3),
        "normal": [round(float(value), 3) for value in view.normals[at]],
        "edge": round(int(view.edges[at]) / 255, 3),
    }
