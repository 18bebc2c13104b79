"""Panels: one picture per sample, truth above prediction, a column for each task."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from m2h_export.data.sample import IGNORE
from m2h_export.evaluation.boundaries import quantise
from m2h_runtime.errors import InputError
from m2h_runtime.files import write_atomically
from m2h_runtime.label_space import LabelSpace, generic_label_space, load_label_space
from m2h_runtime.sinks.render import (
    DepthRange,
    bar,
    captioned,
    depth_picture,
    edges_picture,
    legend,
    normals_picture,
    semantics_picture,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from m2h_export.data.sample import Sample
    from m2h_export.evaluation.evaluator import Prediction

    Picture = NDArray[np.uint8]

TILE_WIDTH = 256
_SHIPPED = ("nyudv2_40", "nyud20", "scannet20")
_UNKNOWN_GRAY = 96


def label_space_of(class_names: Sequence[str]) -> LabelSpace:
    """Colours for a data set's classes: those of a label space that has all of them, else well-spread ones."""
    names = tuple(class_names)
    for shipped in _SHIPPED:
        space = load_label_space(shipped)
        colors = dict(zip(space.classes, space.colors, strict=True))
        if set(names) <= colors.keys():
            return LabelSpace(shipped, names, tuple(colors[name] for name in names))
    return LabelSpace("data set", names, generic_label_space(len(names)).colors)


def panel(sample: Sample, prediction: Prediction, space: LabelSpace, width: int = TILE_WIDTH) -> Picture:
    """RGB uint8 (H', W', 3): the picture and, per predicted task, truth above prediction, in equal colours.

    A task without truth has a black tile above its prediction. Under the picture is the legend of what was
    predicted.
    """
    return comparison(sample, {"predicted": prediction}, space, width)


def comparison(
    sample: Sample, predictions: Mapping[str, Prediction], space: LabelSpace, width: int = TILE_WIDTH
) -> Picture:
    """The same for several predictions of one sample, a row for each in the order of their names."""
    rows, columns = sample.image.shape[:2]
    size = (max(1, round(width * rows / columns)), width)
    resized = {name: prediction.resized((rows, columns)) for name, prediction in predictions.items()}
    first = next(iter(resized.values()))
    near_m, far_m = _depth_span(sample, first)
    truth = {
        "semantics": None if sample.semantics is None else semantics_picture(sample.semantics, space.palette),
        "depth": None if sample.depth is None else depth_picture(sample.depth, near_m, far_m),
        "normals": None if sample.normals is None else _normals(sample.normals),
        "edges": None if sample.edges is None else _true_edges(sample.edges),
    }
    tasks = [task for task, seen in _predicted(first, space, near_m, far_m).items() if seen is not None]
    upper = [_tile(sample.image, size, "picture"), *(_tile(truth[t], size, f"{t}, truth") for t in tasks)]
    lines = [
        bar(f"{sample.name}   depth {near_m:.2f} .. {far_m:.2f} m", width * len(upper)),
        np.hstack(upper),
    ]
    for name, prediction in resized.items():
        seen = _predicted(prediction, space, near_m, far_m)
        labels = prediction.semantics if prediction.semantics is not None else sample.semantics
        corner = np.full((*size, 3), 32, np.uint8) if labels is None else legend(labels, space, *size)
        lines.append(np.hstack([corner, *(_tile(seen[t], size, f"{t}, {name}") for t in tasks)]))
    return np.vstack(lines)


def write_panel(path: Path, picture: Picture) -> None:
    """Write a panel as PNG.

    Raises:
        InputError: it cannot be encoded or written.
    """
    done, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise InputError(f"{path}: the panel cannot be encoded as PNG; choose another --out")
    write_atomically(path, data.tobytes())


def _predicted(
    prediction: Prediction, space: LabelSpace, near_m: float, far_m: float
) -> dict[str, Picture | None]:
    p = prediction
    return {
        "semantics": None if p.semantics is None else semantics_picture(p.semantics, space.palette),
        "depth": None if p.depth is None else depth_picture(p.depth, near_m, far_m),
        "normals": None if p.normals is None else _normals(p.normals),
        "edges": None if p.edges is None else edges_picture(quantise(p.edges)),
    }


def _depth_span(sample: Sample, prediction: Prediction) -> tuple[float, float]:
    shown = sample.depth if sample.depth is not None else prediction.depth
    return DepthRange(inertia=0).update(np.zeros((1, 1), np.float32) if shown is None else shown)


def _normals(normals: NDArray[np.float32]) -> Picture:
    picture = normals_picture(np.ascontiguousarray(normals))
    picture[~normals.any(axis=-1)] = 0
    return picture


def _true_edges(edges: NDArray[np.uint8]) -> Picture:
    gray = np.where(edges == IGNORE, _UNKNOWN_GRAY, np.where(edges > 0, 255, 0))
    return edges_picture(gray.astype(np.uint8))


def _tile(picture: Picture | None, size: tuple[int, int], caption: str) -> Picture:
    if picture is None:
        return captioned(np.zeros((*size, 3), np.uint8), f"{caption}: none")
    sharp = caption.startswith("semantics")
    sized = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_NEAREST if sharp else cv2.INTER_AREA)
    return captioned(sized, caption)
