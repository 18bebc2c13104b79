"""From a `View` to the bytes of its messages, one per output of a profile."""

from __future__ import annotations

from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from m2h_runtime.errors import CalibrationError
from m2h_runtime.ros import cdr
from m2h_runtime.ros.cdr import Header
from m2h_runtime.view import NO_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from m2h_runtime.calibration.camera import CameraModel
    from m2h_runtime.imu.window import ImuWindow
    from m2h_runtime.ros.profiles import Profile
    from m2h_runtime.view import View

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
IMU = "sensor_msgs/msg/Imu"
ODOMETRY = "nav_msgs/msg/Odometry"
POINT_CLOUD = "sensor_msgs/msg/PointCloud2"

TYPES: Mapping[str, str] = MappingProxyType(
    {
        "depth": IMAGE,
        "labels": IMAGE,
        "colors": IMAGE,
        "normals": IMAGE,
        "normals_picture": IMAGE,
        "edges": IMAGE,
        "confidence": IMAGE,
        "rgb": IMAGE,
        "camera_info": CAMERA_INFO,
        "imu": IMU,
        "points": POINT_CLOUD,
    }
)
"""Message type by output."""

NEED_CAMERA = frozenset({"camera_info", "points"})
"""Outputs that there are only where the camera's intrinsics are known."""

_SIGNED = np.arange(256, dtype=np.int16)
_SIGNED[NO_LABEL] = -1


def encode(output: str, view: View, profile: Profile, header: tuple[int, str]) -> bytes:
    """One output of one frame as a serialized message; every output but "imu", see `imu_messages`.

    Args:
        output: its name.
        view: the frame's outputs.
        profile: for the encoding.
        header: stamp in nanoseconds and frame id, the same for all outputs of a frame.

    Raises:
        CalibrationError: it needs the camera's intrinsics, and they are unknown.
    """
    if output == "camera_info":
        return cdr.camera_info(header, _camera(output, view))
    if output == "points":
        return cdr.point_cloud(header, colored_points(view), ("x", "y", "z", "rgb"))
    encoding = profile.outputs[output].encoding
    return cdr.image(header, _PIXELS[output](view, encoding), encoding)


def header_of(view: View) -> Header:
    """The one header of all messages of a frame."""
    return Header(view.frame.stamp_ns, view.frame.frame_id)


def imu_messages(samples: ImuWindow) -> list[bytes]:
    """The samples as sensor_msgs/Imu, with the IMU's own stamps and frame."""
    return [
        cdr.imu((stamp_ns + samples.time_offset_ns, samples.frame_id), gyro, accel)
        for stamp_ns, gyro, accel in zip(
            samples.stamps_ns.tolist(), samples.gyro.tolist(), samples.accel.tolist(), strict=True
        )
    ]


def colored_points(view: View) -> NDArray[np.float32]:
    """float32 (N, 4): x, y, z in metres in the optical frame and the colour, packed as ROS does, where there is depth.

    Raises:
        CalibrationError: the camera's intrinsics are unknown.
    """
    right, down = _rays(_camera("points", view))
    color = cv2.cvtColor(view.rgb, cv2.COLOR_RGB2BGRA).view(np.uint32)[..., 0] & np.uint32(0xFFFFFF)
    points = cv2.merge((right * view.depth, down * view.depth, view.depth, color.view(np.float32)))
    whole = points.view(np.complex128).ravel()  # as long as a point: numpy picks such items ten times faster
    valid: NDArray[np.float32] = whole[view.depth.ravel() > 0].view(np.float32).reshape(-1, 4)
    return valid


@lru_cache(maxsize=2)
def _rays(camera: CameraModel) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Two float32 (H, W), x/z and y/z of every pixel's ray."""
    rows, columns = np.mgrid[: camera.height, : camera.width].astype(np.float64)
    pixels = np.stack((columns, rows), axis=-1).reshape(-1, 1, 2)
    fisheye = camera.distortion_model == "equidistant"
    undistort = cv2.fisheye.undistortPoints if fisheye else cv2.undistortPoints
    rays = undistort(pixels, camera.matrix, np.array(camera.distortion or (0.0,) * 4))
    right, down = np.ascontiguousarray(np.moveaxis(rays.reshape(*camera.size, 2), -1, 0), np.float32)
    return right, down


def _camera(output: str, view: View) -> CameraModel:
    if view.camera is None:
        raise CalibrationError(
            f"{output}: needs the camera's intrinsics; give --calibration or a camera_info topic"
        )
    return view.camera


def _depth(view: View, encoding: str) -> NDArray[Any]:
    if encoding == "32FC1":
        return view.depth
    millimetres = view.depth * np.float32(1000) + np.float32(0.5)
    return np.where(millimetres < 65536, millimetres, 0).astype(np.uint16)


def _labels(view: View, encoding: str) -> NDArray[Any]:
    return view.semantics if encoding == "mono8" else np.asarray(cv2.LUT(view.semantics, _SIGNED))


_PIXELS: Mapping[str, Callable[[View, str], NDArray[Any]]] = MappingProxyType(
    {
        "depth": _depth,
        "labels": _labels,
        "colors": lambda view, _: view.colors,
        "normals": lambda view, _: view.normals,
        "normals_picture": lambda view, _: view.normals_picture,
        "edges": lambda view, _: view.edges,
        "confidence": lambda view, _: view.confidence,
        "rgb": lambda view, _: view.rgb,
    }
)
