"""`Frame`: what a source hands to the pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from m2h_runtime.arrays import check_array

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Frame:
    """One camera image on its way to the engine.

    Attributes:
        image: uint8 (H, W, 3), RGB, at the camera's size.
        stamp_ns: when the image was taken, integer nanoseconds on the sensor's clock.
        sequence: counts up by one per image that the source delivered, from 0.
        frame_id: name of the camera's optical frame (x right, y down, z forward).
        name: what a person would call this image (a file name), or "".
    """

    image: NDArray[np.uint8]
    stamp_ns: int
    sequence: int
    frame_id: str = "camera_optical_frame"
    name: str = ""

    def __post_init__(self) -> None:
        """Check the image and make it read-only."""
        check_array("frame image", self.image, np.uint8, (None, None, 3))
        self.image.setflags(write=False)
