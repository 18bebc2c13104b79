"""One PNG that shows a whole run: a row per frame, a column per output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from m2h_runtime.errors import InputError, SinkError
from m2h_runtime.files import write_atomically
from m2h_runtime.sinks.base import Sink, check_writable
from m2h_runtime.sinks.render import DepthRange, bar, captioned, tiles, weights_warning

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from m2h_runtime.engine.manifest import Manifest
    from m2h_runtime.sinks.base import Observation

ROWS = 6
TILE_WIDTH = 256


class ContactSheetSink(Sink):
    """A sheet of `rows` frames spread evenly over the run; written to `path` at its end.

    It holds 2 × `rows` frames at most: when these are full, every second one goes and the stride doubles.

    Args:
        path: the PNG file.
        manifest: of the engine, for the title.
        backend: the backend's name.
        rows: how many frames to show.

    Raises:
        InputError: the file is not called *.png.
        SinkError: the folder cannot be written.
    """

    name = "sheet"

    def __init__(self, path: Path, manifest: Manifest, backend: str, rows: int = ROWS) -> None:
        check_sheet_path(path)
        self._path = path
        self._manifest = manifest
        self._backend = backend
        self._rows = rows
        self._kept: list[NDArray[np.uint8]] = []
        self._stride = 1
        self._seen = 0

    def write(self, observation: Observation) -> None:
        """Keep the frame if its turn has come."""
        if self._seen % self._stride == 0:
            if len(self._kept) == 2 * self._rows:
                self._kept = self._kept[::2]
                self._stride *= 2
            if self._seen % self._stride == 0:
                self._kept.append(_row(observation))
        self._seen += 1

    def close(self) -> None:
        """Write the sheet; a run without any frame leaves none."""
        if not self._kept:
            return
        chosen = np.linspace(0, len(self._kept) - 1, min(self._rows, len(self._kept))).round().astype(int)
        width = self._kept[0].shape[1]
        manifest = self._manifest
        title = (
            f"{manifest.name} {manifest.size[1]}x{manifest.size[0]} {manifest.precision}   {self._backend}"
        )
        sheet = [bar(title, width), *weights_warning(manifest, width), *(self._kept[i] for i in chosen)]
        done, data = cv2.imencode(".png", cv2.cvtColor(np.vstack(sheet), cv2.COLOR_RGB2BGR))
        if not done:
            raise SinkError(f"{self._path}: OpenCV cannot encode the sheet as PNG")
        try:
            write_atomically(self._path, data.tobytes())
        except InputError as error:
            raise SinkError(str(error)) from error

    def abort(self) -> None:
        """Forget the frames; nothing has been written."""
        self._kept = []


def check_sheet_path(path: Path) -> None:
    """Find out before a run whether a sheet can be written to `path`.

    Raises:
        InputError: it is not called *.png.
        SinkError: it cannot be written.
    """
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: contact sheets are PNG files; call it {path.with_suffix('.png').name}")
    check_writable(path)


def _row(observation: Observation) -> NDArray[np.uint8]:
    """RGB, depth, semantics, normals and edges side by side; the depth colours are this frame's own."""
    shown = tiles(observation, DepthRange(), TILE_WIDTH)
    name = observation.frame.name or f"frame {observation.frame.sequence}"
    captions = [name, *list(shown)[1:]]
    strip = [captioned(picture, caption) for picture, caption in zip(shown.values(), captions, strict=True)]
    return np.hstack(strip)
