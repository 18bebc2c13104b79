"""From a sample of any size to the arrays of one training picture.

A crop and a resize to the size of the stage always happen; flip, zoom and colour changes are drawn from the generator
that the caller seeds, so that a step's pictures do not depend on how the training got there.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar, cast

import cv2
import numpy as np

from m2h_export.data.sample import IGNORE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    _Scalar = TypeVar("_Scalar", bound=np.generic)

    from m2h_export.data.sample import Sample
    from m2h_export.training.experiment import AugmentSettings


def augment(
    sample: Sample, size: tuple[int, int], settings: AugmentSettings, rng: np.random.Generator
) -> Sample:
    """A training sample of `size` (H, W) with depth, semantics, normals and edges changed alongside."""
    flips = rng.random() < settings.flip
    zoom = math.exp(rng.uniform(0, math.log(settings.max_zoom)))
    sample = crop_and_resize(sample, size, zoom, (rng.random(), rng.random()))
    if flips:
        sample = flip(sample)
    return replace(sample, image=jitter(sample.image, settings, rng))


def flip(sample: Sample) -> Sample:
    """Mirror left and right; x of the normals changes its sign."""
    normals = sample.normals
    if normals is not None:
        normals = np.ascontiguousarray(normals[:, ::-1] * np.array([-1, 1, 1], np.float32))
    return replace(
        sample,
        image=_mirrored(sample.image),
        depth=None if sample.depth is None else _mirrored(sample.depth),
        semantics=None if sample.semantics is None else _mirrored(sample.semantics),
        normals=normals,
        edges=None if sample.edges is None else _mirrored(sample.edges),
        extra={},
        intrinsics=None,
        world_from_camera=None,
    )


def crop_and_resize(
    sample: Sample, size: tuple[int, int], zoom: float = 1.0, place: tuple[float, float] = (0.5, 0.5)
) -> Sample:
    """Cut a window of the aspect of `size`, `zoom` times smaller than the largest one, and resize it to `size`.

    A network sees pixels, not the focal length: a picture enlarged by z looks like one whose depths are all z times
    smaller, so depth is divided by `zoom`. That shrinks the scene along z alone (x = (u - cx)·z/f stays), so the
    normals turn as normals do under diag(1, 1, 1/zoom): n_z grows by `zoom` before they are made unit again.

    Args:
        sample: of any size.
        size: (H, W) to make.
        zoom: 1 or more.
        place: of the window in the room it has, (vertical, horizontal), each 0..1.
    """
    window = _window(sample.image.shape[:2], size, zoom, place)
    scale = size[0] / (window[0].stop - window[0].start)
    image = _resized(sample.image[window], size, cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    depth, semantics, normals, edges = sample.depth, sample.semantics, sample.normals, sample.edges
    if depth is not None:
        depth = np.asarray(_resized(depth[window], size) / np.float32(zoom), np.float32)
    if semantics is not None:
        semantics = _resized(semantics[window], size)
    if normals is not None:
        normals = _zoomed_normals(_resized(normals[window], size), zoom)
    if edges is not None:
        edges = _resized_edges(edges[window], size, scale)
    return replace(
        sample,
        image=image,
        depth=depth,
        semantics=semantics,
        normals=normals,
        edges=edges,
        extra={},
        intrinsics=None,
        world_from_camera=None,
    )


def jitter(
    image: NDArray[np.uint8], settings: AugmentSettings, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Brightness, contrast, gamma, hue and saturation, each with its probability; (H, W, 3) uint8 RGB."""
    happens = rng.random(4) < settings.jitter
    brightness, contrast, gamma, saturation, hue = rng.uniform(-1, 1, 5)
    levels = np.arange(256, dtype=np.float64) / 255
    if happens[0]:
        levels = levels * (1 + brightness * settings.brightness)
    if happens[1]:
        mean = image.mean() / 255
        levels = (levels - mean) * (1 + contrast * settings.contrast) + mean
    if happens[2]:
        levels = levels.clip(0, 1) ** math.exp(gamma * settings.gamma)
    if happens[:3].any():  # all three are functions of one value, so one table does them
        image = np.asarray(cv2.LUT(image, np.round(255 * levels.clip(0, 1)).astype(np.uint8)), np.uint8)
    if happens[3]:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)  # hue in steps of 2 degrees
        turn = round(hue * settings.hue_deg / 2)
        steps = np.arange(256)
        table = np.stack([(steps + turn) % 180, steps * (1 + saturation * settings.saturation), steps], -1)
        hsv = cv2.LUT(hsv, np.round(table).clip(0, 255).astype(np.uint8)[None])
        image = np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8)
    return image


def _mirrored(array: NDArray[_Scalar]) -> NDArray[_Scalar]:
    return np.ascontiguousarray(array[:, ::-1])


def _window(
    have: tuple[int, ...], want: tuple[int, int], zoom: float, place: tuple[float, float]
) -> tuple[slice, slice]:
    fit = min(have[0] / want[0], have[1] / want[1]) / zoom
    slices = []
    for there, wanted, where in zip(have, want, place, strict=True):
        length = max(1, min(there, round(wanted * fit)))
        start = round(where * (there - length))
        slices.append(slice(start, start + length))
    return slices[0], slices[1]


def _resized(
    array: NDArray[_Scalar], size: tuple[int, int], how: int = cv2.INTER_NEAREST_EXACT
) -> NDArray[_Scalar]:
    if array.shape[:2] == size:
        return np.ascontiguousarray(array)
    return cast("NDArray[_Scalar]", cv2.resize(array, size[::-1], interpolation=how))


def _zoomed_normals(normals: NDArray[np.float32], zoom: float) -> NDArray[np.float32]:
    if zoom == 1:
        return normals
    turned = normals * np.array([1, 1, zoom], np.float32)
    length = np.linalg.norm(turned, axis=2, keepdims=True)
    return np.asarray(turned / np.maximum(length, np.float32(1e-6)), np.float32)


def _resized_edges(edges: NDArray[np.uint8], size: tuple[int, int], scale: float) -> NDArray[np.uint8]:
    """A line of one pixel stays a line: it fills `scale` of an output pixel, and half of that is enough."""
    nearest = _resized(edges, size)
    if scale >= 1:
        return nearest
    share = _resized((edges == 1).astype(np.float32), size, cv2.INTER_AREA)
    return np.where(nearest == IGNORE, IGNORE, share >= 0.5 * scale).astype(np.uint8)
