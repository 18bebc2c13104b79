"""`CameraModel` from the fields of a sensor_msgs/CameraInfo."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from m2h_runtime.calibration.camera import COEFFICIENTS, CameraModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from m2h_runtime.calibration.camera import Distortion

_OTHER_NAMES = {"": "none", "radtan": "plumb_bob", "fisheye": "equidistant"}


def camera_model(
    width: int, height: int, distortion_model: str, d: Sequence[float], k: Sequence[float]
) -> CameraModel | None:
    """The intrinsics of the unrectified image.

    Args:
        width: pixels.
        height: pixels.
        distortion_model: ROS name of the lens model.
        d: its coefficients; of any number if all are 0.
        k: 9 numbers, the 3x3 matrix row by row.

    Returns:
        None if the camera is not calibrated, which ROS says with k = 0.

    Raises:
        CalibrationError: the numbers are no camera's, or the lens model is unknown.
    """
    if float(k[0]) == 0.0:
        return None
    name = _OTHER_NAMES.get(distortion_model, distortion_model)
    coefficients = tuple(float(value) for value in d)
    if not any(coefficients) and len(coefficients) not in COEFFICIENTS.get(name, ()):
        name, coefficients = "none", ()
    fx, fy, cx, cy = (float(k[index]) for index in (0, 4, 2, 5))
    return CameraModel(width, height, fx, fy, cx, cy, cast("Distortion", name), coefficients)


def camera_info_beside(image_topic: str) -> str:
    """The CameraInfo topic that belongs to an image topic by ROS's habit: its sibling `camera_info`."""
    namespace, slash, _ = image_topic.removesuffix("/compressed").rpartition("/")
    return f"{namespace}{slash}camera_info"
