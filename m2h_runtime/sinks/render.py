"""Perceptions as pictures. Plain functions; every picture is uint8 (H, W, 3) RGB."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_runtime.engine.manifest import Manifest
    from m2h_runtime.label_space import LabelSpace
    from m2h_runtime.sinks.base import Observation

TILE_WIDTH = 320
BAR = 24
RANDOM_WEIGHTS = "RANDOM WEIGHTS - not real perception"

# Perceptually even from dark (far) to light (near), and 0 is black: no depth; (256, 3) RGB.
_INFERNO = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_INFERNO)[:, 0, ::-1].copy()
_INFERNO[0] = 0
_FONT = cv2.FONT_HERSHEY_SIMPLEX


class DepthRange:
    """The span of depths that the colours cover, held steady so that a stream does not flicker.

    Args:
        inertia: how much of the old span stays at each update, 0..1; 0 follows every frame at once.
    """

    def __init__(self, inertia: float = 0.9) -> None:
        self._inertia = inertia
        self._inverse: NDArray[np.float64] | None = None

    def update(self, depth: NDArray[np.float32]) -> tuple[float, float]:
        """(nearest, farthest) in metres after `depth` (H, W); outliers of 2 % at each end are left out."""
        sample = depth[::4, ::4]
        sample = sample[np.isfinite(sample) & (sample > 0)]
        if sample.size:
            seen = np.percentile(1 / sample.astype(np.float64), (98, 2))
            old = seen if self._inverse is None else self._inverse
            self._inverse = self._inertia * old + (1 - self._inertia) * seen
        if self._inverse is None:
            return 0.1, 10.0
        near, far = 1 / self._inverse
        return float(near), float(far)


def depth_picture(depth: NDArray[np.float32], near_m: float, far_m: float) -> NDArray[np.uint8]:
    """Inverse depth in colours, light is near; black where `depth` (H, W), metres, is not positive."""
    low, high = 1 / far_m, 1 / near_m
    scale = 254 / max(high - low, 1e-6)
    valid = np.isfinite(depth) & (depth > 0)
    inverse = np.divide(1, depth, out=np.zeros_like(depth), where=valid)
    level = np.clip((inverse - low) * scale + 1, 1, 255).astype(np.uint8)
    level[~valid] = 0
    return np.take(_INFERNO, level, axis=0)


def semantics_picture(semantics: NDArray[np.uint8], palette: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Class ids (H, W) in the colours of `palette` (256, 3)."""
    return np.take(palette, semantics, axis=0)


def normals_picture(normals: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Normals (H, W, 3) as red = right, green = up, blue = towards the camera; 0 is mid-gray."""
    to_rgb = np.array([[127.5, 0, 0, 127.5], [0, -127.5, 0, 127.5], [0, 0, -127.5, 127.5]])
    picture: NDArray[np.uint8] = cv2.convertScaleAbs(cv2.transform(normals, to_rgb))
    return picture


def edges_picture(edges: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Boundary probability (H, W) as gray."""
    picture: NDArray[np.uint8] = cv2.cvtColor(edges, cv2.COLOR_GRAY2RGB)
    return picture


def tiles(
    observation: Observation, depth_range: DepthRange, width: int = TILE_WIDTH
) -> dict[str, NDArray[np.uint8]]:
    """RGB, depth, semantics, normals and edges by caption, `width` wide and in the camera's aspect ratio."""
    perception = observation.perception
    near_m, far_m = depth_range.update(perception.depth)
    height = tile_height(observation, width)
    made = {
        "RGB": observation.frame.image,
        f"depth {near_m:.2f} .. {far_m:.2f} m": depth_picture(perception.depth, near_m, far_m),
        "semantics": semantics_picture(perception.semantics, perception.label_space.palette),
        "normals": normals_picture(perception.normals),
        "edges": edges_picture(perception.edges),
    }
    # Class colours must not be mixed; everything else may be.
    return {name: _sized(p, height, width, sharp=name == "semantics") for name, p in made.items()}


def tile_height(observation: Observation, width: int) -> int:
    """Height in pixels of a tile of `width` in the camera's aspect ratio; even, as video codecs want it."""
    rows, columns = observation.frame.image.shape[:2]
    return int(np.clip(2 * round(width * rows / columns / 2), 32, 4 * width))


def panel(
    observation: Observation, shown: dict[str, NDArray[np.uint8]], manifest: Manifest, backend: str
) -> NDArray[np.uint8]:
    """Five tiles and a legend, 3 × 2, under a title bar with engine, backend and rate.

    With random weights a red bar across the panel says so.
    """
    parts = [captioned(picture, caption) for caption, picture in shown.items()]
    height, width = parts[0].shape[:2]
    parts.append(legend(observation.perception.semantics, observation.perception.label_space, height, width))
    rows = [np.hstack(parts[:3]), np.hstack(parts[3:])]
    across = rows[0].shape[1]
    size = f"{manifest.size[1]}x{manifest.size[0]}"
    title = f"{manifest.name} {size} {manifest.precision}   {backend}   {observation.fps:.1f} FPS"
    return np.vstack([bar(title, across), *weights_warning(manifest, across), *rows])


def weights_warning(manifest: Manifest, width: int) -> list[NDArray[np.uint8]]:
    """The red bar, if the weights are random; else nothing."""
    return [bar(RANDOM_WEIGHTS, width, (200, 0, 0))] if manifest.checkpoint.random_weights else []


def bar(text: str, width: int, color: tuple[int, int, int] = (32, 32, 32)) -> NDArray[np.uint8]:
    """A bar (24, width, 3) with one line of white text."""
    picture = np.full((BAR, width, 3), color, np.uint8)
    cv2.putText(picture, text, (8, 17), _FONT, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    return picture


def captioned(picture: NDArray[np.uint8], caption: str) -> NDArray[np.uint8]:
    """A copy with a small caption in its upper left corner, readable on any ground."""
    copy = picture.copy()
    (width, _), _ = cv2.getTextSize(caption, _FONT, 0.42, 1)
    copy[:20, : width + 12] //= 4
    cv2.putText(copy, caption, (6, 14), _FONT, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
    return copy


def legend(semantics: NDArray[np.uint8], space: LabelSpace, height: int, width: int) -> NDArray[np.uint8]:
    """Colours, names and shares of the classes that cover most of `semantics`, as many as fit."""
    picture = np.full((height, width, 3), 32, np.uint8)
    counts = np.bincount(semantics.ravel(), minlength=256)
    palette = space.palette
    for row, label in enumerate(np.argsort(-counts, kind="stable")[: max(1, (height - 8) // 18)]):
        if not counts[label]:
            break
        top = 6 + 18 * row
        color = tuple(int(c) for c in palette[label])
        cv2.rectangle(picture, (8, top), (20, top + 12), color, cv2.FILLED)
        name = space.classes[label] if label < len(space.classes) else f"id {label}"
        text = f"{name}  {100 * counts[label] / semantics.size:.0f} %"
        cv2.putText(picture, text, (28, top + 11), _FONT, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
    return picture


def _sized(picture: NDArray[np.uint8], height: int, width: int, *, sharp: bool) -> NDArray[np.uint8]:
    if picture.shape[:2] == (height, width):
        return picture
    shrinks = height < picture.shape[0] or width < picture.shape[1]
    smooth = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    sized: NDArray[np.uint8] = cv2.resize(
        picture, (width, height), interpolation=cv2.INTER_NEAREST if sharp else smooth
    )
    return sized
