"""`Sighting`: what the builder takes in, wherever it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from m2h_runtime.calibration.fit import stretched

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_runtime.calibration.camera import CameraModel
    from m2h_runtime.sinks.base import Observation

WIDEST = 384
"""Wider images are thinned out before mapping: at 5 m such a pixel is 2 cm wide, less than half a voxel."""


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """Depth and labels of one image, and from where they were seen. All arrays are (H, W, ...).

    Attributes:
        depth: float32 (H, W), metres along the optical axis, 0 unknown.
        labels: uint8 (H, W), class ids.
        rgb: uint8 (H, W, 3).
        camera: of these arrays, an ideal pinhole.
        world_from_camera: float64 (4, 4).
        stamp_ns: of the image.
    """

    depth: NDArray[np.float32]
    labels: NDArray[np.uint8]
    rgb: NDArray[np.uint8]
    camera: CameraModel
    world_from_camera: NDArray[np.float64]
    stamp_ns: int

    def thinned(self) -> Sighting:
        """At most `WIDEST` pixels wide; depth and labels are chosen, never mixed."""
        height, width = self.depth.shape
        if width <= WIDEST:
            return self
        size = (round(height * WIDEST / width), WIDEST)
        depth, labels = (
            cv2.resize(array, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
            for array in (self.depth, self.labels)
        )
        return Sighting(
            depth,
            labels,
            stretched(self.rgb, size),
            self.camera.resized(size),
            self.world_from_camera,
            self.stamp_ns,
        )


def sighting_of(observation: Observation) -> Sighting | None:
    """What an engine saw in a frame, without letterbox bars; None where the pose or the camera is unknown."""
    frame, fit = observation.frame, observation.fit
    if frame.world_from_camera is None or frame.camera is None:
        return None
    box = fit.covered
    perception = observation.perception
    return Sighting(
        np.asarray(fit.inner(perception.depth) * np.float32(observation.depth_factor), np.float32),
        fit.inner(perception.semantics).copy(),
        fit.inner(fit.apply(frame.image)).copy(),
        fit.engine_camera(frame.camera).window(box.top, box.left, (box.height, box.width)),
        frame.world_from_camera,
        frame.stamp_ns,
    )
