"""What the tests of the dashboard run: a camera that can be stalled, a pipeline, the dashboard, and small viewers."""

from __future__ import annotations

import asyncio
import json
import struct
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from stand_ins import NumpyEngine
from tiny_engine import picture

from m2h_runtime.calibration.camera import CameraModel
from m2h_runtime.frame import Frame
from m2h_runtime.pipeline import Pipeline
from m2h_runtime.ros.profiles import load_profile
from m2h_runtime.sources import EndOfStream, Source
from m2h_runtime.web import Dashboard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

CAMERA_SIZE = (120, 160)
FPS = 25.0
MODEL = CameraModel(160, 120, 100.0, 100.0, 79.5, 59.5)
PANES = ("rgb", "depth", "semantics", "normals", "edges")


class Camera(Source):
    """Eight pictures in turn, 25 a second, until `stalled` or `ended` is set."""

    live = True

    def __init__(self) -> None:
        super().__init__()
        self.fps = FPS
        self.stalled, self.ended = threading.Event(), threading.Event()
        self._pictures = [picture(seed, CAMERA_SIZE) for seed in range(8)]
        self._next = 0

    def read(self, timeout_s: float) -> Frame | None:
        if self.ended.is_set():
            raise EndOfStream
        time.sleep(1 / FPS)
        if self.stalled.is_set():
            return None
        image = self._pictures[self._next % 8].copy()
        self._next += 1
        return Frame(image, time.time_ns(), self._next, taken_ns=time.monotonic_ns(), camera=MODEL)

    def describe(self) -> str:
        return "eight pictures, 160x120"


@dataclass
class Show:
    """A run and its dashboard."""

    dashboard: Dashboard
    pipeline: Pipeline
    camera: Camera
    recordings: Path

    @property
    def url(self) -> str:
        return self.dashboard.url

    @property
    def port(self) -> int:
        return int(self.url.split("/")[2].rpartition(":")[2])

    def status(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(get(self.url + "status.json").body)
        return said

    def viewed(self) -> int:
        return self.pipeline.counts.written["web view"]


@contextmanager
def show(
    engine: Path, recordings: Path, host: str = "127.0.0.1", token: str | None = None, port: int = 0
) -> Iterator[Show]:
    camera = Camera()
    with Dashboard(host, port, token=token, recordings=recordings) as dashboard:
        pipeline = Pipeline(camera, NumpyEngine(engine), dashboard.sinks, on_perception=dashboard.perceived)
        dashboard.attach(pipeline, camera, NumpyEngine(engine), load_profile())
        thread = threading.Thread(target=pipeline.run)
        thread.start()
        try:
            until(lambda: pipeline.counts.perceived > 2)
            yield Show(dashboard, pipeline, camera, recordings)
        finally:
            camera.ended.set()
            thread.join(20)


def until(true: Callable[[], Any], seconds: float = 10.0) -> None:
    """Wait for it."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


class Answer(NamedTuple):
    status: int
    headers: Any
    body: bytes

    @property
    def line(self) -> str:
        """The body, which is one line."""
        text = self.body.decode()
        assert text.endswith("\n")
        assert text.count("\n") == 1
        return text[:-1]


def get(url: str, headers: dict[str, str] | None = None, post: Any = None) -> Answer:
    """What the server answers; `post` is sent as JSON, or as it is if it is bytes."""
    headers = dict(headers or {})
    data = None
    if post is not None:
        data = post if isinstance(post, bytes) else json.dumps(post).encode()
        headers.setdefault("Content-Type", "application/json")
    request = urllib.request.Request(url, data, headers)  # noqa: S310  # ours
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return Answer(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.headers, error.read())


class Seen(NamedTuple):
    """What a viewer got."""

    views: list[dict[str, Any]]
    statuses: list[dict[str, Any]]
    hello: dict[str, Any]


def watch(url: str, seconds: float, panes: Sequence[str] = PANES, viewers: int = 1) -> list[Seen]:
    """Open pages that acknowledge everything at once, and say what each was sent."""

    async def all_of_them() -> list[Seen]:
        return list(await asyncio.gather(*(_watch(url, seconds, panes) for _ in range(viewers))))

    return asyncio.run(all_of_them())


async def _watch(url: str, seconds: float, panes: Sequence[str]) -> Seen:
    import aiohttp

    seen = Seen([], [], {})
    async with aiohttp.ClientSession() as session, session.ws_connect(url + "socket") as socket:
        await socket.send_json({"kind": "show", "panes": list(panes)})
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                message = await socket.receive(left)
            except asyncio.TimeoutError:
                break
            if message.type is aiohttp.WSMsgType.BINARY:
                seen.views.append(unpacked(message.data))
                await socket.send_json({"kind": "got", "what": "view"})
            elif message.type is aiohttp.WSMsgType.TEXT:
                said = json.loads(message.data)
                if said["kind"] == "status":
                    seen.statuses.append(said)
                    await socket.send_json({"kind": "got", "what": "status"})
                else:
                    seen.hello.update(said)
            else:
                break
    return seen


def unpacked(data: bytes) -> dict[str, Any]:
    """The header of an update, and under "data" its pictures by pane."""
    (length,) = struct.unpack_from("<I", data)
    header: dict[str, Any] = json.loads(data[4 : 4 + length])
    at, header["data"] = 4 + length, {}
    for name, size in header["pictures"]:
        header["data"][name] = data[at : at + size]
        at += size
    assert at == len(data)
    return header
