"""A network camera: a real HTTP server of MJPEG on this machine."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import numpy as np
from made_bags import jpeg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PERIOD_S = 0.02


def shade(index: int) -> np.ndarray:
    """Red of brightness `index`, modulo 200."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[..., 0] = 40 + index % 200
    return image


class Camera:
    """What the server sends: an endless count of pictures, unless told otherwise.

    Attributes:
        send: the bytes of picture `index`; None says nothing for the rest of the connection; an exception ends it.
        sent: how many pictures went out.
    """

    def __init__(self, send: Callable[[int], bytes | None] | None = None) -> None:
        self.send = send or (lambda index: jpeg(shade(index)))
        self.sent = 0
        self.over = threading.Event()

    def parts(self) -> Iterator[bytes]:
        while not self.over.wait(PERIOD_S):
            picture = self.send(self.sent)
            if picture is None:
                self.over.wait(30)
                return
            self.sent += 1
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
            yield head.encode() + picture + b"\r\n"


@contextmanager
def served(camera: Camera, port: int = 0) -> Iterator[str]:
    """The URL of a server of `camera`'s pictures; `port` 0 takes a free one."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            try:
                for part in camera.parts():
                    self.wfile.write(part)
            except (EOFError, OSError):
                return

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/stream.mjpg"
    finally:
        camera.over.set()
        server.shutdown()
        server.server_close()
