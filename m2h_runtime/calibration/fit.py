"""How a camera's image and an engine's image lie on each other, there and exactly back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import cv2
import numpy as np

from m2h_runtime.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_runtime.calibration.camera import CameraModel

Policy = Literal["stretch", "letterbox", "crop"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
PADDING = 114
"""Gray of the letterbox's bars."""


class Box(NamedTuple):
    """A rectangle of whole pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """To index an array (H, W, ...)."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


@dataclass(frozen=True)
class Fit:
    """`camera` size to `engine` size, both (H, W).

    The box `used` of the camera's image is scaled onto the box `covered` of the engine's image. Both are whole
    pixels, so that the way back is exact: where an output lands is not rounded a second time.

    Attributes:
        policy: "stretch" uses and covers all and changes the aspect ratio; "letterbox" keeps it with gray bars;
            "crop" keeps it and loses what sticks out.
        camera: (H, W) of the camera's images.
        engine: (H, W) of the engine's.
    """

    policy: Policy
    camera: tuple[int, int]
    engine: tuple[int, int]

    def __post_init__(self) -> None:
        """Check the policy and the sizes."""
        if self.policy not in POLICIES:
            raise InputError(f"fit {self.policy!r}: there are {', '.join(POLICIES)}")
        if min(*self.camera, *self.engine) < 1:
            raise InputError(f"fit: sizes must be positive, got {self.camera} and {self.engine}")

    @cached_property
    def used(self) -> Box:
        """The part of the camera's image that the engine sees."""
        return _centred(self.engine, self.camera) if self.policy == "crop" else Box(0, 0, *self.camera)

    @cached_property
    def covered(self) -> Box:
        """The part of the engine's image that shows it."""
        return _centred(self.camera, self.engine) if self.policy == "letterbox" else Box(0, 0, *self.engine)

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A camera image (H, W, 3) at the engine's size; the very same array if nothing is to be done.

        Averages over areas where either side shrinks, interpolates linearly otherwise.
        """
        part = image if self.used == Box(0, 0, *self.camera) else image[self.used.slices]
        scaled = stretched(part, (self.covered.height, self.covered.width))
        if self.covered == Box(0, 0, *self.engine):
            return scaled
        padded = np.full((*self.engine, image.shape[2]), PADDING, np.uint8)
        padded[self.covered.slices] = scaled
        return padded

    def engine_camera(self, camera: CameraModel) -> CameraModel:
        """The intrinsics of the engine's image."""
        used, covered = self.used, self.covered
        part = camera.window(used.top, used.left, (used.height, used.width))
        scaled = part.resized((covered.height, covered.width))
        return scaled.window(-covered.top, -covered.left, self.engine)

    def inner(self, output: NDArray[Any]) -> NDArray[Any]:
        """The part of an engine output (H, W, ...) that shows the camera's image; a view."""
        return output[self.covered.slices]


def _centred(shape: tuple[int, int], room: tuple[int, int]) -> Box:
    """The largest box of the aspect ratio of `shape` in the middle of `room`, in whole pixels."""
    scale = min(room[0] / shape[0], room[1] / shape[1])
    height, width = max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))
    return Box((room[0] - height) // 2, (room[1] - width) // 2, height, width)


def stretched(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """`image` (H, W, 3) at `size` = (H, W); the very same array if it has that size.

    Averages over areas where either side shrinks, interpolates linearly otherwise.
    """
    height, width = size
    if image.shape[:2] == size:
        return image
    # Whole factors have a fast path of their own: halving first takes a fifth of the time, and averages the same areas.
    halved = False
    while (
        image.shape[0] > 2 * height and image.shape[1] > 2 * width and not any(n % 2 for n in image.shape[:2])
    ):
        image = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
        halved = True
    shrinks = height < image.shape[0] or width < image.shape[1]
    if halved and image.shape[0] < 1.5 * height and image.shape[1] < 1.5 * width:
        shrinks = False  # it is an average already, and each pixel of it is looked at
    resized: NDArray[np.uint8] = cv2.resize(
        image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    return resized
