"""From a sample of any size to the arrays of one training picture.

A crop and a resize to the size of the stage always happen; flip, zoom and colour changes are drawn from the generator
that the caller seeds, so that a step's pictures do not depend on how the training got there. Several views of a scene
are cropped, zoomed and mirrored alike, with their cameras and poses, so that their geometry stays true.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar, cast

import cv2
import numpy as np

from m2h_export.data.sample import IGNORE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    _Scalar = TypeVar("_Scalar", bound=np.generic)

    from m2h_export.data.sample import Sample
    from m2h_export.training.experiment import AugmentSettings


OWN_COLOURS = 0.2
"""Probability that a further view gets colour changes of its own, as the training of optical flow does it (RAFT, and
GMFlow, whose transformer CvM follows); else all views of a scene are changed alike."""

_MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])


def augment(
    sample: Sample, size: tuple[int, int], settings: AugmentSettings, rng: np.random.Generator
) -> Sample:
    """A training sample of `size` (H, W) with all its truth, camera and pose changed alongside."""
    return augment_views([sample], size, settings, rng)[0]


def augment_views(
    views: Sequence[Sample], size: tuple[int, int], settings: AugmentSettings, rng: np.random.Generator
) -> list[Sample]:
    """The same for several views of one scene; a single view draws what `augment` draws."""
    flips = rng.random() < settings.flip
    zoom = math.exp(rng.uniform(0, math.log(settings.max_zoom)))
    place = (rng.random(), rng.random())
    common = Colours.draw(settings, rng)
    made = []
    for number, view in enumerate(views):
        colours = Colours.draw(settings, rng) if number and rng.random() < OWN_COLOURS else common
        view = crop_and_resize(view, size, zoom, place)
        view = flip(view) if flips else view
        made.append(replace(view, image=colours(view.image)))
    return made


def flip(sample: Sample) -> Sample:
    """Mirror left and right; x of the normals, of the camera and of the world changes its sign."""
    normals, intrinsics, pose = sample.normals, sample.intrinsics, sample.world_from_camera
    if normals is not None:
        normals = np.ascontiguousarray(normals[:, ::-1] * np.array([-1, 1, 1], np.float32))
    if intrinsics is not None:
        intrinsics = intrinsics.copy()
        intrinsics[0, 1] *= -1
        intrinsics[0, 2] = sample.image.shape[1] - 1 - intrinsics[0, 2]
    return replace(
        sample,
        image=_mirrored(sample.image),
        depth=None if sample.depth is None else _mirrored(sample.depth),
        semantics=None if sample.semantics is None else _mirrored(sample.semantics),
        normals=normals,
        edges=None if sample.edges is None else _mirrored(sample.edges),
        extra={name: _mirrored(values) for name, values in sample.extra.items()},
        intrinsics=intrinsics,
        world_from_camera=None if pose is None else _MIRROR @ pose @ _MIRROR,
    )


def crop_and_resize(
    sample: Sample, size: tuple[int, int], zoom: float = 1.0, place: tuple[float, float] = (0.5, 0.5)
) -> Sample:
    """Cut a window of the aspect of `size`, `zoom` times smaller than the largest one, and resize it to `size`.

    A network sees pixels, not the focal length: a picture enlarged by z looks like one whose depths are all z times
    smaller, so depth is divided by `zoom`. That shrinks the scene along z alone (x = (u - cx)·z/f stays), so the
    normals turn as normals do under diag(1, 1, 1/zoom): n_z grows by `zoom` before they are made unit again.

    Where the camera moved has to shrink with the depths: with the translations divided by `zoom` and the intrinsics of
    the enlarged picture, a pixel's way to another view at d / zoom is what it was at d.

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
        extra={name: _resized(values[window], size) for name, values in sample.extra.items()},
        intrinsics=_intrinsics_of_window(sample.intrinsics, window, size),
        world_from_camera=_shrunk(sample.world_from_camera, zoom),
    )


@dataclass(frozen=True)
class Colours:
    """One drawn change of colours, to be made to one or several pictures.

    Attributes:
        happens: which of brightness, contrast, gamma, and hue with saturation happen.
        amounts: of brightness, contrast, gamma, saturation and hue, each -1..1 of its limit.
    """

    settings: AugmentSettings
    happens: NDArray[np.bool_]
    amounts: NDArray[np.float64]

    @classmethod
    def draw(cls, settings: AugmentSettings, rng: np.random.Generator) -> Colours:
        """Each change with its probability."""
        return cls(settings, rng.random(4) < settings.jitter, rng.uniform(-1, 1, 5))

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB, changed."""
        settings, happens = self.settings, self.happens
        brightness, contrast, gamma, saturation, hue = self.amounts
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
            table = np.stack(
                [(steps + turn) % 180, steps * (1 + saturation * settings.saturation), steps], -1
            )
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


def _intrinsics_of_window(
    intrinsics: NDArray[np.float64] | None, window: tuple[slice, slice], size: tuple[int, int]
) -> NDArray[np.float64] | None:
    """Pixel centres are at integers, so a window's corner lies half a pixel before its first one."""
    if intrinsics is None:
        return None
    (y, x), lengths = (part.start for part in window), [part.stop - part.start for part in window]
    scale_y, scale_x = size[0] / lengths[0], size[1] / lengths[1]
    change = np.array(
        [[scale_x, 0, (0.5 - x) * scale_x - 0.5], [0, scale_y, (0.5 - y) * scale_y - 0.5], [0, 0, 1.0]]
    )
    return np.asarray(change @ intrinsics, np.float64)


def _shrunk(pose: NDArray[np.float64] | None, zoom: float) -> NDArray[np.float64] | None:
    """A pose in a world that is `zoom` times smaller."""
    if pose is None or zoom == 1:
        return pose
    pose = pose.copy()
    pose[:3, 3] /= zoom
    return pose


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
