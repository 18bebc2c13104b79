"""What does not change during a run, as plain JSON: the engine's card, the source's, and how to colour what is sent."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from m2h_runtime.engine.base import Engine
    from m2h_runtime.engine.manifest import Manifest
    from m2h_runtime.label_space import LabelSpace
    from m2h_runtime.sources.base import Source

COLOR_MAPS = {"turbo": cv2.COLORMAP_TURBO, "viridis": cv2.COLORMAP_VIRIDIS}


def engine_card(engine: Engine) -> dict[str, Any]:
    """Which engine answers, why on this backend, and how it was verified."""
    manifest = engine.manifest
    return {
        "name": manifest.name,
        "size": list(manifest.size),
        "precision": manifest.precision,
        "numerics": engine.numerics,
        "backend": engine.backend,
        "choice": engine.choice,
        "weights": None if manifest.checkpoint.random_weights else manifest.checkpoint.file,
        "label_space": manifest.label_space.name,
        "classes": len(manifest.label_space.classes),
        "gflop": manifest.graph.gflop,
        "depth_range_m": list(manifest.depth_range_m),
        "target": manifest.target.kind,
        "engine_id": manifest.engine_id(),
        "parity": _parity(manifest, engine.backend),
    }


def _parity(manifest: Manifest, backend: str) -> dict[str, Any]:
    """The verdict, and the figures of this backend if it was among those compared."""
    runs = [asdict(run) for run in manifest.parity.runs if run.backend == backend]
    return {
        "verdict": manifest.parity.verdict,
        "reference": manifest.parity.reference,
        "run": runs[0] if runs else None,
    }


def source_card(source: Source) -> dict[str, Any]:
    """Where the images come from."""
    return {
        "description": source.describe(),
        "live": source.live,
        "fps": source.fps,
        "imu": source.imu is not None,
    }


def label_card(space: LabelSpace) -> dict[str, Any]:
    """Names and colours by class id."""
    return {"name": space.name, "classes": list(space.classes), "colors": [list(c) for c in space.colors]}


def color_maps() -> dict[str, list[int]]:
    """By name 256 colours from far to near, as r, g, b, r, g, b, ..."""
    ramp = np.arange(256, dtype=np.uint8)[:, None]
    return {
        name: np.asarray(cv2.applyColorMap(ramp, kind))[:, 0, ::-1].ravel().tolist()
        for name, kind in COLOR_MAPS.items()
    }
