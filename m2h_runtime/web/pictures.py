"""One observation as small pictures for a browser, which colours them. Cheap first: the engine owns the cores."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from m2h_runtime.calibration.fit import stretched
from m2h_runtime.errors import SinkError
from m2h_runtime.view import View

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    from m2h_runtime.sinks.base import Observation
    from m2h_runtime.sinks.render import DepthRange

PANES = ("rgb", "depth", "semantics", "normals", "edges")
WIDEST = 640
JPEG = (cv2.IMWRITE_JPEG_QUALITY, 80)
# Labels are flat: without the filters of PNG they take a fifth of the time and hardly more bytes. OpenCV 4.12 on.
_NO_FILTER = (
    (cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE) if hasattr(cv2, "IMWRITE_PNG_FILTER") else ()
)
PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1, *_NO_FILTER)
FARTHEST, NEAREST = 8, 255
"""Levels of inverse depth; 0 is no depth, and far enough from the others to survive JPEG."""


@dataclass(frozen=True)
class Update:
    """What viewers are sent about one observation.

    Attributes:
        facts: sequence, stamp, the camera's size, and what the pictures need to be read.
        pictures: JPEG or PNG by pane.
    """

    facts: Mapping[str, Any]
    pictures: Mapping[str, bytes]

    def packed(self, panes: Iterable[str]) -> bytes:
        """One message with these panes: length of the header (uint32, little-endian), JSON header, pictures."""
        chosen = [(name, self.pictures[name]) for name in panes if name in self.pictures]
        header = {**self.facts, "pictures": [[name, len(data)] for name, data in chosen]}
        text = json.dumps(header).encode()
        return b"".join([struct.pack("<I", len(text)), text, *(data for _, data in chosen)])


def shown_view(observation: Observation) -> View:
    """The outputs over the whole camera image in about the engine's pixels, at most `WIDEST` across."""
    used, covered = observation.fit.used, observation.fit.covered
    rows, columns = observation.frame.image.shape[:2]
    height, width = rows * covered.height / used.height, columns * covered.width / used.width
    scale = min(1.0, WIDEST / width)
    return _view(observation, (max(1, round(scale * height)), max(1, round(scale * width))))


def camera_view(observation: Observation) -> View:
    """The outputs at the camera's size."""
    height, width = observation.frame.image.shape[:2]
    return _view(observation, (height, width))


def _view(observation: Observation, size: tuple[int, int]) -> View:
    return View(
        observation.frame,
        observation.perception,
        observation.fit,
        size,
        depth_factor=observation.depth_factor,
    )


def encoded(observation: Observation, view: View, panes: Iterable[str], depth_range: DepthRange) -> Update:
    """The panes of one observation.

    Args:
        observation: what to show.
        view: of it.
        panes: of `PANES`.
        depth_range: holds the colours of depth steady over the stream.

    Raises:
        SinkError: OpenCV cannot encode it.
    """
    facts: dict[str, Any] = {
        "sequence": observation.frame.sequence,
        "stamp_ns": str(observation.frame.stamp_ns),  # too long for a number in JavaScript
        "size": list(observation.frame.image.shape[:2]),
    }
    makers: dict[str, Callable[[], bytes]] = {
        "rgb": partial(_rgb, observation),
        "depth": partial(_depth, view, depth_range, facts),
        "semantics": partial(_semantics, view, facts),
        "normals": lambda: _jpeg(view.normals_picture),
        "edges": lambda: _encode(".jpg", view.edges, JPEG),
    }
    return Update(facts, {name: makers[name]() for name in PANES if name in panes})


def _rgb(observation: Observation) -> bytes:
    image = observation.frame.image
    height, width = image.shape[:2]
    size = (height, width) if width <= WIDEST else (max(1, round(WIDEST * height / width)), WIDEST)
    return _jpeg(stretched(image, size))


def _depth(view: View, depth_range: DepthRange, facts: dict[str, Any]) -> bytes:
    near_m, far_m = depth_range.update(view.depth)
    facts["near_m"], facts["far_m"] = near_m, far_m
    return _encode(".jpg", depth_levels(view.depth, near_m, far_m), JPEG)


def depth_levels(depth: NDArray[np.float32], near_m: float, far_m: float) -> NDArray[np.uint8]:
    """uint8 (H, W): inverse depth, `FARTHEST` at `far_m`, `NEAREST` at `near_m`; 0 where `depth` (metres) is 0."""
    scale = (NEAREST - FARTHEST) / max(1 / near_m - 1 / far_m, 1e-6)
    nearer = cv2.max(depth, 1e-6)  # OpenCV has 1 / 0 = 0, but far too small a depth is near
    inverse = cv2.convertScaleAbs(
        cv2.max(cv2.divide(scale, nearer), scale / far_m), beta=FARTHEST - scale / far_m
    )
    levels: NDArray[np.uint8] = cv2.copyTo(inverse, cv2.inRange(depth, 1e-6, np.inf), np.zeros_like(inverse))
    return levels


def _semantics(view: View, facts: dict[str, Any]) -> bytes:
    counts = np.bincount(view.semantics.ravel(), minlength=256)
    order = np.argsort(-counts, kind="stable")
    facts["labels"] = [[int(i), round(float(counts[i] / view.semantics.size), 4)] for i in order if counts[i]]
    return _encode(".png", view.semantics, PNG)


def _jpeg(rgb: NDArray[np.uint8]) -> bytes:
    return _encode(".jpg", np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), np.uint8), JPEG)


def _encode(kind: str, picture: NDArray[np.uint8], options: tuple[int, ...]) -> bytes:
    done, data = cv2.imencode(kind, picture, options)
    if not done:
        raise SinkError(f"OpenCV cannot encode a picture of {picture.shape} as {kind[1:].upper()}")
    return bytes(data)
