"""One observation as a file: a contact sheet, one picture, or the arrays themselves."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from m2h_runtime.errors import SinkError
from m2h_runtime.sinks.render import DepthRange, edges_picture, panel, tiles
from m2h_runtime.web.facts import COLOR_MAPS
from m2h_runtime.web.pictures import camera_view, depth_levels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_runtime.engine.base import Engine
    from m2h_runtime.sinks.base import Observation

JPEG_QUALITY = 90


def sheet(observation: Observation, engine: Engine) -> bytes:
    """PNG: all outputs at the camera's size with a legend."""
    width = observation.frame.image.shape[1]
    shown = tiles(observation, DepthRange(), width)
    return _encoded(".png", panel(observation, shown, engine.manifest, engine.backend))


def arrays(observation: Observation) -> bytes:
    """NPZ: image, outputs, class names, intrinsics if known, stamp; at the camera's size."""
    view = camera_view(observation)
    named: dict[str, Any] = {
        "rgb": view.rgb,
        "depth": view.depth,
        "semantics": view.semantics,
        "confidence": view.confidence,
        "normals": view.normals,
        "edges": view.edges,
        "classes": np.array(observation.perception.label_space.classes),
        "stamp_ns": np.array(observation.frame.stamp_ns, np.int64),
        "sequence": np.array(observation.frame.sequence, np.int64),
    }
    camera = observation.frame.camera
    if camera is not None:
        named["fx_fy_cx_cy"] = np.array([camera.fx, camera.fy, camera.cx, camera.cy])
    stream = io.BytesIO()
    np.savez(stream, **named)
    return stream.getvalue()


def picture(observation: Observation, pane: str) -> bytes:
    """JPEG of one pane, coloured, at the camera's size."""
    return _encoded(".jpg", _colored(observation, pane))


def _colored(observation: Observation, pane: str) -> NDArray[np.uint8]:
    view = camera_view(observation)
    if pane == "rgb":
        return view.rgb
    if pane == "depth":
        levels = depth_levels(view.depth, *DepthRange().update(view.depth))
        colored = cv2.applyColorMap(levels, COLOR_MAPS["turbo"])[..., ::-1]
        return np.where(levels[..., None] > 0, colored, np.uint8(0))
    if pane == "semantics":
        return view.colors
    return view.normals_picture if pane == "normals" else edges_picture(view.edges)


def _encoded(kind: str, rgb: NDArray[np.uint8]) -> bytes:
    options = (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY) if kind == ".jpg" else (cv2.IMWRITE_PNG_COMPRESSION, 1)
    done, data = cv2.imencode(kind, cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2BGR), options)
    if not done:
        raise SinkError(f"OpenCV cannot encode a picture of {rgb.shape} as {kind[1:].upper()}")
    return bytes(data)
