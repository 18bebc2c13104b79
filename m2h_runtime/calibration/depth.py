"""From the depth that a network says to the depth that this camera means."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from m2h_runtime.calibration.camera import CameraModel


def depth_factor(
    depth_scale: float, training_camera: CameraModel | float | None, engine_camera: CameraModel
) -> float:
    """What to multiply the network's metres with.

    One image does not tell a small near thing from a large far one: a network learns how many pixels wide things are
    at which distance, and that is the focal length of its training camera. Through a lens of twice the focal length
    everything is twice as large in pixels, and the network says half the distance. So

        d = d_network * f_engine / f_training

    with both focal lengths in pixels of the engine's image (the de-canonical transform of Metric3D, Yin et al. 2023,
    arXiv 2307.10984). A stretched image has two focal lengths: the two ratios' geometric mean counts.

    Args:
        depth_scale: what is left over after that, measured for this camera (`Calibration.depth_scale`).
        training_camera: the camera of the training images; a model is scaled to the engine's size first, a number is
            fx in pixels at that size, and then only fx is compared. None if unknown: nothing is corrected for.
        engine_camera: of the engine's image (`Fit.engine_camera`), rectified or not.
    """
    if training_camera is None:
        return depth_scale
    if isinstance(training_camera, (int, float)):
        return depth_scale * engine_camera.fx / training_camera
    trained = training_camera.resized(engine_camera.size)
    return depth_scale * math.sqrt(engine_camera.fx / trained.fx * engine_camera.fy / trained.fy)
