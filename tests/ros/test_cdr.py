"""Our bytes, read by two other decoders: rosbags, and rclpy where it is installed."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from rosbags.typesys import Stores, get_typestore

from m2h_runtime.calibration.camera import CameraModel
from m2h_runtime.errors import ContractError
from m2h_runtime.ros import cdr

if TYPE_CHECKING:
    from collections.abc import Callable

STORE = get_typestore(Stores.ROS2_HUMBLE)
STAMP_NS = 1_700_000_000_123_456_789


def by_rosbags(data: bytes, kind: str) -> Any:
    return STORE.deserialize_cdr(data, kind)


def by_rclpy(data: bytes, kind: str) -> Any:
    serialization = pytest.importorskip("rclpy.serialization", reason="needs rclpy, as a robot has it")
    package, _, name = kind.split("/")
    message = getattr(importlib.import_module(f"{package}.msg"), name)
    return serialization.deserialize_message(data, message)


@pytest.fixture(params=[by_rosbags, by_rclpy])
def decode(request: pytest.FixtureRequest) -> Callable[[bytes, str], Any]:
    return request.param


def stamp_ns(header: Any) -> int:
    return header.stamp.sec * 10**9 + header.stamp.nanosec


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (7, 2, 3)])
def test_images_of_odd_sizes_arrive_whole_whatever_the_length_of_the_frame_id(
    decode: Callable[[bytes, str], Any], shape: tuple[int, ...]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    for length in range(17):
        for encoding in ("rgb8", "mono8", "32FC1"):
            message = decode(cdr.image((STAMP_NS, "f" * length), pixels, encoding), "sensor_msgs/msg/Image")
            assert (stamp_ns(message.header), message.header.frame_id) == (STAMP_NS, "f" * length)
            assert (message.height, message.width, message.encoding) == (*shape[:2], encoding)
            assert (message.is_bigendian, message.step) == (0, pixels.nbytes // shape[0])
            assert bytes(message.data) == pixels.tobytes()


def test_a_slice_of_an_image_is_sent_as_its_own_pixels(decode: Callable[[bytes, str], Any]) -> None:
    whole = np.arange(48, dtype=np.float32).reshape(6, 8)
    message = decode(cdr.image((0, "c"), whole[1:4, 2:7], "32FC1"), "sensor_msgs/msg/Image")
    assert np.array_equal(np.frombuffer(message.data, np.float32).reshape(3, 5), whole[1:4, 2:7])


@pytest.mark.parametrize(
    ("model", "distortion", "sent"),
    [
        ("none", (), ("plumb_bob", [0.0] * 5)),
        ("plumb_bob", (0.1, -0.2, 0.001, 0.002), ("plumb_bob", [0.1, -0.2, 0.001, 0.002])),
        ("rational_polynomial", tuple(np.arange(8) / 10), ("rational_polynomial", list(np.arange(8) / 10))),
        ("equidistant", (0.1, 0.2, 0.3, 0.4), ("equidistant", [0.1, 0.2, 0.3, 0.4])),
    ],
)
def test_camera_info_says_size_intrinsics_and_lens(
    decode: Callable[[bytes, str], Any],
    model: Any,
    distortion: tuple[float, ...],
    sent: tuple[str, list[float]],
) -> None:
    camera = CameraModel(641, 479, 500.5, 501.5, 319.25, 239.75, model, distortion)
    for length in range(9):
        message = decode(cdr.camera_info((STAMP_NS, "f" * length), camera), "sensor_msgs/msg/CameraInfo")
        assert (message.height, message.width) == (479, 641)
        assert (message.distortion_model, list(message.d)) == sent
        assert np.array_equal(np.array(message.k).reshape(3, 3), camera.matrix)
        assert np.array_equal(np.array(message.p).reshape(3, 4)[:, :3], camera.matrix)
        assert np.array_equal(np.array(message.r).reshape(3, 3), np.eye(3))
        assert (message.binning_x, message.roi.width, message.roi.do_rectify) == (0, 0, False)


def test_an_imu_sample_has_no_orientation(decode: Callable[[bytes, str], Any]) -> None:
    for length in range(9):
        data = cdr.imu((STAMP_NS, "i" * length), (0.1, 0.2, 0.3), (1.0, 2.0, 9.8))
        message = decode(data, "sensor_msgs/msg/Imu")
        gyro, accel = message.angular_velocity, message.linear_acceleration
        assert (gyro.x, gyro.y, gyro.z, accel.x, accel.y, accel.z) == (0.1, 0.2, 0.3, 1.0, 2.0, 9.8)
        assert message.orientation_covariance[0] == -1
        assert not np.any(message.angular_velocity_covariance)


def test_points_are_packed_as_their_fields_say(decode: Callable[[bytes, str], Any]) -> None:
    points = np.random.default_rng(0).random((5, 4), np.float32)
    message = decode(
        cdr.point_cloud((0, "odd"), points, ("x", "y", "z", "rgb")), "sensor_msgs/msg/PointCloud2"
    )
    assert [(f.name, f.offset, f.datatype, f.count) for f in message.fields] == [
        ("x", 0, 7, 1),
        ("y", 4, 7, 1),
        ("z", 8, 7, 1),
        ("rgb", 12, 7, 1),
    ]
    assert (message.height, message.width, message.point_step, message.row_step) == (1, 5, 16, 80)
    assert message.is_dense and not message.is_bigendian
    assert bytes(message.data) == points.tobytes()


def test_a_cloud_without_points_is_still_a_message(decode: Callable[[bytes, str], Any]) -> None:
    message = decode(
        cdr.point_cloud((0, ""), np.empty((0, 4), np.float32), "xyzc"), "sensor_msgs/msg/PointCloud2"
    )
    assert (message.width, len(message.data)) == (0, 0)


def test_diagnostics_keep_level_texts_and_values(decode: Callable[[bytes, str], Any]) -> None:
    status = [
        (0, "m2h: engine", "fine", "tiny", [("fps", "30.0"), ("age p50", "12 ms")]),
        (2, "m2h: source", "the camera is gone – replug it", "", []),
    ]
    message = decode(cdr.diagnostics((STAMP_NS, ""), status), "diagnostic_msgs/msg/DiagnosticArray")
    levels = [s.level if isinstance(s.level, int) else s.level[0] for s in message.status]  # rclpy has bytes
    assert levels == [0, 2]
    assert [(s.name, s.message, s.hardware_id) for s in message.status] == [s[1:4] for s in status]
    assert [[(v.key, v.value) for v in s.values] for s in message.status] == [s[4] for s in status]


def test_clock_and_compressed_image_and_transform(decode: Callable[[bytes, str], Any]) -> None:
    assert decode(cdr.clock(STAMP_NS), "rosgraph_msgs/msg/Clock").clock.nanosec == STAMP_NS % 10**9
    image = cdr.compressed_image((1, "c"), np.arange(7, dtype=np.uint8), "png")
    message = decode(image, "sensor_msgs/msg/CompressedImage")
    assert (message.format, bytes(message.data)) == ("png", bytes(range(7)))


def test_a_transform_says_where_the_child_is() -> None:
    data = cdr.transform((STAMP_NS, "world"), "cam", (1.0, 2.0, 3.0), (0.0, 0.6, 0.0, 0.8))
    (pose,) = by_rosbags(data, "tf2_msgs/msg/TFMessage").transforms
    assert (pose.header.frame_id, pose.child_frame_id) == ("world", "cam")
    assert (pose.transform.translation.z, pose.transform.rotation.y, pose.transform.rotation.w) == (
        3.0,
        0.6,
        0.8,
    )


def test_stamps_before_1970_are_split_as_ros_does_and_those_after_2038_are_refused() -> None:
    header = by_rosbags(
        cdr.image((-1, ""), np.zeros((1, 1), np.uint8), "mono8"), "sensor_msgs/msg/Image"
    ).header
    assert (header.stamp.sec, header.stamp.nanosec) == (-1, 999_999_999)
    with pytest.raises(ContractError, match="nanoseconds since 1970"):
        cdr.clock(STAMP_NS * 1000)
