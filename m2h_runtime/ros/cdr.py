"""ROS 2 messages as serialized bytes: little-endian CDR (XCDR1), as `publisher.publish(bytes)` and bags take them.

Pixels are copied once, into the bytes. No ROS is needed.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from m2h_runtime.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from m2h_runtime.calibration.camera import CameraModel

ENCAPSULATION = b"\x00\x01\x00\x00"
"""Little-endian CDR without options. Alignment counts from behind it."""

FLOAT32 = 7
"""sensor_msgs/PointField.FLOAT32."""

_UNKNOWN = (0.0,) * 9
"""A covariance that is not known, as sensor_msgs has it."""


class Header(NamedTuple):
    """std_msgs/Header: the stamp in integer nanoseconds and the frame id."""

    stamp_ns: int
    frame_id: str


class Writer:
    """Builds the plain fields of a message; `values` are packed in the order of the message's definition."""

    def __init__(self) -> None:
        self._data = bytearray(ENCAPSULATION)

    def pack(self, code: str, *values: Any) -> Writer:
        """Values of one `struct` type (B, i, I, d, ...), aligned to it."""
        self._align(struct.calcsize(code))
        self._data += struct.pack(f"<{len(values)}{code}", *values)
        return self

    def text(self, text: str) -> Writer:
        """A string: length with the final zero, UTF-8, zero."""
        encoded = text.encode() + b"\x00"
        self.pack("I", len(encoded))
        self._data += encoded
        return self

    def sequence(self, values: NDArray[Any]) -> Writer:
        """A sequence of plain items: their number, and the numbers of `values` (N, ...) in its dtype."""
        self.pack("I", len(values))
        if values.size:
            self._align(values.itemsize)
            self._data += np.ascontiguousarray(values).data.cast("B")
        return self

    def stamp(self, stamp_ns: int) -> Writer:
        """A builtin_interfaces/Time.

        Raises:
            ContractError: its seconds do not fit 32 bits.
        """
        seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
        if not -(1 << 31) <= seconds < 1 << 31:
            raise ContractError(
                f"stamp {stamp_ns} ns: ROS has 32 bits for seconds; give nanoseconds since 1970"
            )
        return self.pack("i", seconds).pack("I", nanoseconds)

    def header(self, header: tuple[int, str]) -> Writer:
        """A std_msgs/Header."""
        return self.stamp(header[0]).text(header[1])

    def bytes(self, *tail: Any) -> bytes:
        """The message, followed by C-contiguous buffers as they are."""
        return b"".join((self._data, *tail))

    def _align(self, size: int) -> None:
        self._data += bytes(-(len(self._data) - len(ENCAPSULATION)) % size)


def image(header: tuple[int, str], pixels: NDArray[Any], encoding: str) -> bytes:
    """A sensor_msgs/Image of (H, W) or (H, W, C) pixels, in an encoding that fits their dtype."""
    pixels = np.ascontiguousarray(pixels)
    height, width = pixels.shape[:2]
    writer = Writer().header(header).pack("I", height, width).text(encoding).pack("B", 0)
    return writer.pack("I", pixels.nbytes // height, pixels.nbytes).bytes(pixels)


def compressed_image(header: tuple[int, str], data: NDArray[np.uint8], kind: str) -> bytes:
    """A sensor_msgs/CompressedImage: an image file's bytes, uint8 (N,), and "png" or "jpeg"."""
    return Writer().header(header).text(kind).pack("I", data.nbytes).bytes(data)


def camera_info(header: tuple[int, str], camera: CameraModel) -> bytes:
    """A sensor_msgs/CameraInfo; an ideal pinhole is "plumb_bob" with zeros, as ROS drivers write it."""
    distorted = camera.distortion_model != "none"
    distortion = camera.distortion if distorted else (0.0,) * 5
    fx, fy, cx, cy = camera.fx, camera.fy, camera.cx, camera.cy
    writer = Writer().header(header).pack("I", camera.height, camera.width)
    writer.text(camera.distortion_model if distorted else "plumb_bob")
    writer.pack("I", len(distortion)).pack("d", *distortion)
    writer.pack("d", fx, 0, cx, 0, fy, cy, 0, 0, 1)  # K
    writer.pack("d", 1, 0, 0, 0, 1, 0, 0, 0, 1)  # R: no rectifying rotation
    writer.pack("d", fx, 0, cx, 0, 0, fy, cy, 0, 0, 0, 1, 0)  # P
    return writer.pack("I", 0, 0).pack("I", 0, 0, 0, 0).pack("B", 0).bytes()  # no binning, whole image


def imu(header: tuple[int, str], gyro: Sequence[float], accel: Sequence[float]) -> bytes:
    """A sensor_msgs/Imu of one sample (rad/s, m/s^2) without an orientation, which a covariance of -1 says."""
    writer = Writer().header(header).pack("d", 0, 0, 0, 1).pack("d", -1, *_UNKNOWN[1:])
    return writer.pack("d", *gyro).pack("d", *_UNKNOWN).pack("d", *accel).pack("d", *_UNKNOWN).bytes()


def point_cloud(header: tuple[int, str], points: NDArray[np.float32], fields: Sequence[str]) -> bytes:
    """A sensor_msgs/PointCloud2 without order of points (N, len(fields)) float32."""
    points = np.ascontiguousarray(points)
    writer = Writer().header(header).pack("I", 1, len(points)).pack("I", len(fields))
    for index, name in enumerate(fields):
        writer.text(name).pack("I", 4 * index).pack("B", FLOAT32).pack("I", 1)
    step = 4 * len(fields)
    writer.pack("B", 0).pack("I", step, step * len(points)).pack("I", points.nbytes)
    return writer.bytes(points, b"\x01")  # is_dense: every point is valid


def diagnostics(
    header: tuple[int, str], status: Sequence[tuple[int, str, str, str, Sequence[tuple[str, str]]]]
) -> bytes:
    """A diagnostic_msgs/DiagnosticArray; each status: level 0..3, name, message, hardware id, (key, value) pairs."""
    writer = Writer().header(header).pack("I", len(status))
    for level, name, message, hardware_id, values in status:
        writer.pack("B", level).text(name).text(message).text(hardware_id).pack("I", len(values))
        for key, value in values:
            writer.text(key).text(value)
    return writer.bytes()


def clock(stamp_ns: int) -> bytes:
    """A rosgraph_msgs/Clock."""
    return Writer().stamp(stamp_ns).bytes()


def transform(
    header: tuple[int, str], child: str, translation: Sequence[float], quat_xyzw: Sequence[float]
) -> bytes:
    """A tf2_msgs/TFMessage with one transform: the pose of frame `child` in the header's frame, metres."""
    writer = Writer().pack("I", 1).header(header).text(child)
    return writer.pack("d", *translation).pack("d", *quat_xyzw).bytes()
