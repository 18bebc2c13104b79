"""`View`: one frame's outputs as they leave, at the size and in the label space that the readers ask for."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from m2h_runtime.calibration.fit import Box

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_runtime.calibration.camera import CameraModel
    from m2h_runtime.calibration.fit import Fit
    from m2h_runtime.frame import Frame
    from m2h_runtime.perception import Perception

NO_LABEL = 255
"""A class id that means "none"; a label table may give it, where the readers can take it."""

AGREE = 1.07
"""Depths whose ratio is below this belong to one surface: between them depth is interpolated, across others not."""

_TINY, _HUGE = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
_SQUARE = np.ones((2, 2), np.uint8)
_NORMAL_TO_RGB = np.array([[127.5, 0, 0, 127.5], [0, -127.5, 0, 127.5], [0, 0, -127.5, 127.5]])


class View:
    """The outputs for one frame at `size`. Each is computed when it is first asked for, then kept.

    All show the camera's whole image. What the engine did not see of it (fit "crop") has depth 0, confidence 0,
    no normal, no edge and the label `unknown`. The arrays are read-only.

    Args:
        frame: the camera's image.
        perception: what the engine says about it.
        fit: how the two lie on each other.
        size: (H, W) of all outputs.
        depth_factor: metres per metre of the engine's.
        depth_range_m: (nearest, farthest); other depths become 0, which means "no depth".
        label_lut: uint8 (256,), the class id to publish for each of the engine's; None changes nothing.
        palette: uint8 (256, 3), RGB by published class id; None is the engine's.
        unknown: class id of pixels that the engine did not see.
    """

    def __init__(
        self,
        frame: Frame,
        perception: Perception,
        fit: Fit,
        size: tuple[int, int],
        *,
        depth_factor: float = 1.0,
        depth_range_m: tuple[float, float] = (0.0, np.inf),
        label_lut: NDArray[np.uint8] | None = None,
        palette: NDArray[np.uint8] | None = None,
        unknown: int = 0,
    ) -> None:
        self.frame = frame
        self.perception = perception
        self.size = size
        self.unknown = unknown
        self._fit = fit
        self._depth_factor = depth_factor
        self._depth_range_m = depth_range_m
        self._label_lut = label_lut
        self._palette = perception.label_space.palette if palette is None else palette
        self._seen = _scaled_box(fit.used, fit.camera, size)

    @cached_property
    def depth(self) -> NDArray[np.float32]:
        """float32 (H, W), metres along the optical axis; 0 where there is none. Always finite."""
        metres = self._fit.inner(self.perception.depth) * np.float32(self._depth_factor)
        near, far = self._depth_range_m
        valid = cv2.inRange(metres, max(near, _TINY), min(far, _HUGE))  # NaN is in no range
        kept = cv2.copyTo(metres, valid, np.zeros_like(metres))
        return self._placed(enlarged_depth(kept, self._seen_size), 0)

    @cached_property
    def _labels(self) -> NDArray[np.uint8]:
        """uint8, published class ids of what the engine saw, at its size."""
        labels: NDArray[np.uint8] = np.ascontiguousarray(self._fit.inner(self.perception.semantics))
        return labels if self._label_lut is None else np.asarray(cv2.LUT(labels, self._label_lut), np.uint8)

    @cached_property
    def semantics(self) -> NDArray[np.uint8]:
        """uint8 (H, W), class ids in the published label space."""
        return self._placed(self._sharp(self._labels), self.unknown)

    @cached_property
    def colors(self) -> NDArray[np.uint8]:
        """uint8 (H, W, 3), `semantics` in the colours of its label space, RGB."""
        colored = cv2.applyColorMap(self._labels, np.ascontiguousarray(self._palette).reshape(256, 1, 3))
        return self._placed(self._sharp(colored), self._palette[self.unknown])

    @cached_property
    def confidence(self) -> NDArray[np.uint8]:
        """uint8 (H, W), probability of the class × 255."""
        return self._placed(self._sharp(self._fit.inner(self.perception.confidence)), 0)

    @cached_property
    def normals(self) -> NDArray[np.float32]:
        """float32 (H, W, 3), unit vectors in the camera optical frame (x right, y down, z forward)."""
        return self._placed(self._sharp(self._fit.inner(self.perception.normals)), 0)

    @cached_property
    def normals_picture(self) -> NDArray[np.uint8]:
        """uint8 (H, W, 3), red = right, green = up, blue = towards the camera; 0 is mid-gray."""
        picture = cv2.transform(self._fit.inner(self.perception.normals), _NORMAL_TO_RGB)
        return self._placed(self._smooth(cv2.convertScaleAbs(picture)), 128)

    @cached_property
    def edges(self) -> NDArray[np.uint8]:
        """uint8 (H, W), boundary probability × 255."""
        return self._placed(self._smooth(self._fit.inner(self.perception.edges)), 0)

    @cached_property
    def rgb(self) -> NDArray[np.uint8]:
        """uint8 (H, W, 3), the camera's image; the very same array at the camera's size."""
        return _frozen(_resized(self.frame.image, self.size, cv2.INTER_AREA))

    @cached_property
    def camera(self) -> CameraModel | None:
        """Intrinsics of all outputs, if those of the camera are known."""
        return None if self.frame.camera is None else self.frame.camera.resized(self.size)

    @property
    def _seen_size(self) -> tuple[int, int]:
        return self._seen.height, self._seen.width

    def _sharp(self, part: NDArray[Any]) -> NDArray[Any]:
        """For what must not be mixed."""
        return _resized(part, self._seen_size, cv2.INTER_NEAREST_EXACT, cv2.INTER_NEAREST_EXACT)

    def _smooth(self, part: NDArray[Any]) -> NDArray[Any]:
        return _resized(part, self._seen_size, cv2.INTER_AREA)

    def _placed(self, seen: NDArray[Any], fill: Any) -> NDArray[Any]:
        """`seen` where the engine saw something, `fill` elsewhere."""
        if self._seen_size == self.size:
            return _frozen(seen)
        whole = np.empty((*self.size, *seen.shape[2:]), seen.dtype)
        whole[...] = fill
        whole[self._seen.slices] = seen
        return _frozen(whole)


def enlarged_depth(depth: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """`depth` (H, W), metres with 0 for none, at `size`, without surfaces that are not there.

    Linear where the four neighbours agree; the nearest one where they do not, so an object's edge stays a step
    and no ramp leads to the wall behind it.
    """
    if depth.shape == size:
        return depth
    height, width = size
    linear = cv2.resize(depth, (width, height), interpolation=cv2.INTER_LINEAR)
    nearest = cv2.resize(depth, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    rows, columns = _corners(depth.shape[0], height), _corners(depth.shape[1], width)
    steps = _steps(depth).take(columns, axis=1).take(rows, axis=0)
    enlarged: NDArray[np.float32] = cv2.copyTo(nearest, steps, linear)
    return enlarged


def _steps(depth: NDArray[np.float32]) -> NDArray[np.uint8]:
    """uint8 (H + 1, W + 1), by pixel corner: 1 where the four pixels around it do not agree."""
    padded = cv2.copyMakeBorder(depth, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    high, low = cv2.dilate(padded, _SQUARE), cv2.erode(padded, _SQUARE)  # of a pixel, those left and above
    return np.asarray((high > AGREE * low)[1:, 1:], np.uint8)


@lru_cache(maxsize=16)
def _corners(pixels: int, enlarged: int) -> NDArray[np.intp]:
    """The pixel corner nearest to each enlarged pixel, (enlarged,): linear interpolation mixes those around it."""
    return ((2 * np.arange(enlarged) + 1) * pixels + enlarged) // (2 * enlarged)


def _scaled_box(box: Box, image: tuple[int, int], size: tuple[int, int]) -> Box:
    """`box` of an image of size `image` after the image was resized to `size`, in whole pixels; never empty."""
    down, across = size[0] / image[0], size[1] / image[1]
    top, left = round(box.top * down), round(box.left * across)
    bottom, right = round((box.top + box.height) * down), round((box.left + box.width) * across)
    top, left = min(top, size[0] - 1), min(left, size[1] - 1)
    return Box(top, left, max(1, bottom - top), max(1, right - left))


def _resized(
    image: NDArray[Any], size: tuple[int, int], shrinking: int, growing: int = cv2.INTER_LINEAR
) -> NDArray[Any]:
    height, width = size
    if image.shape[:2] == size:
        return image
    shrinks = height < image.shape[0] or width < image.shape[1]
    resized: NDArray[Any] = cv2.resize(
        image, (width, height), interpolation=shrinking if shrinks else growing
    )
    return resized


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.setflags(write=False)
    return array
