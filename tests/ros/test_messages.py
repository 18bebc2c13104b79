from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.typesys import Stores, get_typestore

from m2h_runtime.calibration.camera import CameraModel
from m2h_runtime.calibration.fit import Fit
from m2h_runtime.errors import CalibrationError
from m2h_runtime.frame import Frame
from m2h_runtime.imu.window import ImuWindow
from m2h_runtime.label_space import load_label_space
from m2h_runtime.perception import Perception
from m2h_runtime.ros.messages import (
    IMU,
    TYPES,
    colored_points,
    encode,
    header_of,
    imu_messages,
)
from m2h_runtime.ros.profiles import Output, Profile, load_profile

STORE = get_typestore(Stores.ROS2_HUMBLE)
CAMERA = CameraModel(40, 30, 35, 36, 19.2, 14.1)
ENGINE = (12, 16)
PIXELS = {"mono8": (np.uint8, ()), "16SC1": (np.int16, ()), "rgb8": (np.uint8, (3,))} | {
    "32FC1": (np.float32, ()),
    "16UC1": (np.uint16, ()),
    "32FC3": (np.float32, (3,)),
}


def frame(camera: CameraModel | None = CAMERA) -> Frame:
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    return Frame(image, 1_700_000_000_987_654_321, 5, "cam", camera=camera)


def perception(depth: Any = None) -> Perception:
    rng = np.random.default_rng(1)
    normals = rng.normal(size=(*ENGINE, 3)).astype(np.float32)
    return Perception(
        depth=rng.uniform(1, 5, ENGINE).astype(np.float32) if depth is None else depth,
        semantics=rng.integers(0, 41, ENGINE).astype(np.uint8),
        confidence=rng.integers(0, 256, ENGINE).astype(np.uint8),
        normals=normals / np.linalg.norm(normals, axis=-1, keepdims=True),
        edges=rng.integers(0, 256, ENGINE).astype(np.uint8),
        label_space=load_label_space("nyudv2_40"),
    )


def with_encoding(profile: Profile, output: str, encoding: str) -> Profile:
    return replace(profile, outputs={**profile.outputs, output: Output("out", encoding)})


def image_of(data: bytes) -> Any:
    """The pixels of a sensor_msgs/Image, and the message."""
    message = STORE.deserialize_cdr(data, "sensor_msgs/msg/Image")
    dtype, channels = PIXELS[message.encoding]
    return message, np.frombuffer(message.data, dtype).reshape(message.height, message.width, *channels)


@pytest.mark.parametrize("name", ["default", "hydra", "mono_hydra_itc", "mono_hydra_scannet"])
def test_all_messages_of_a_frame_have_one_header_and_one_size_and_hold_the_views_pixels(name: str) -> None:
    profile = load_profile(name)
    view = profile.view(frame(), perception(), Fit("stretch", (30, 40), ENGINE))
    header = header_of(view)
    wanted = {"labels": view.semantics.astype(np.int16) if name == "hydra" else view.semantics}
    for output in profile.outputs.keys() - {"imu"}:
        message = STORE.deserialize_cdr(encode(output, view, profile, header), TYPES[output])
        stamp = message.header.stamp
        assert (stamp.sec * 10**9 + stamp.nanosec, message.header.frame_id) == (
            1_700_000_000_987_654_321,
            "cam",
        )
        if output != "points":
            assert (message.height, message.width) == profile.size_for(Fit("stretch", (30, 40), ENGINE))
        if TYPES[output] == "sensor_msgs/msg/Image":
            message, pixels = image_of(encode(output, view, profile, header))
            assert message.encoding == profile.outputs[output].encoding
            assert np.array_equal(pixels, wanted[output] if output in wanted else getattr(view, output))


def test_camera_info_is_of_the_published_size() -> None:
    profile = replace(load_profile(), size=(60, 80))
    view = profile.view(frame(), perception(), Fit("stretch", (30, 40), ENGINE))
    message = STORE.deserialize_cdr(
        encode("camera_info", view, profile, header_of(view)), TYPES["camera_info"]
    )
    assert (message.width, message.height, message.k[0], message.k[4]) == (80, 60, 70, 72)
    assert np.allclose((message.k[2], message.k[5]), ((19.2 + 0.5) * 2 - 0.5, (14.1 + 0.5) * 2 - 0.5))


def test_millimetres_round_and_say_0_where_they_do_not_reach() -> None:
    depth = np.ones(ENGINE, np.float32)
    depth[0, :6] = 1.2344, 1.2346, 65.535, 65.5356, 100, np.nan
    profile = with_encoding(replace(load_profile(), size="engine"), "depth", "16UC1")
    view = profile.view(frame(), perception(depth), Fit("stretch", (30, 40), ENGINE))
    _, pixels = image_of(encode("depth", view, profile, header_of(view)))
    assert list(pixels[0, :7]) == [1234, 1235, 65535, 0, 0, 0, 1000]


def test_signed_labels_say_minus_1_where_the_engine_saw_nothing_and_mono8_stays_in_the_label_space() -> None:
    fit = Fit("crop", (30, 60), ENGINE)
    wide = replace(frame(None), image=np.zeros((30, 60, 3), np.uint8))
    signed = load_profile("hydra")
    view = signed.view(wide, perception(), fit)
    _, pixels = image_of(encode("labels", view, signed, header_of(view)))
    assert np.all(pixels[:, 0] == -1) and np.all(pixels[:, 30] >= 0)
    assert np.all(view.colors[:, 0] == 0)
    plain = with_encoding(signed, "labels", "mono8")
    view = plain.view(wide, perception(), fit)
    _, pixels = image_of(encode("labels", view, plain, header_of(view)))
    assert np.all(pixels[:, 0] == 0) and pixels.max() <= 20


def test_points_lie_where_the_camera_saw_their_pixels_and_have_their_colour() -> None:
    profile = load_profile()
    depth = np.full(ENGINE, 2, np.float32)
    depth[:4] = np.nan
    view = profile.view(frame(), perception(depth), Fit("stretch", (30, 40), ENGINE))
    points = colored_points(view)
    seen = view.depth > 0
    assert len(points) == seen.sum() == 800
    rows, columns = np.nonzero(seen)
    u = CAMERA.fx * points[:, 0] / points[:, 2] + CAMERA.cx
    v = CAMERA.fy * points[:, 1] / points[:, 2] + CAMERA.cy
    assert np.allclose(u, columns, atol=1e-4) and np.allclose(v, rows, atol=1e-4)
    packed = points[:, 3].copy().view(np.uint32)
    assert np.array_equal(np.stack([packed >> 16, packed >> 8 & 255, packed & 255], -1), view.rgb[seen])


@pytest.mark.parametrize(
    "camera",
    [
        replace(CAMERA, distortion_model="plumb_bob", distortion=(-0.2, 0.05, 0.001, 0.002, 0.0)),
        replace(CAMERA, distortion_model="equidistant", distortion=(0.02, -0.01, 0.001, 0.0)),
    ],
)
def test_points_of_an_unrectified_image_go_through_the_lens(camera: CameraModel) -> None:
    profile = load_profile()
    view = profile.view(frame(camera), perception(), Fit("stretch", (30, 40), ENGINE))
    xyz = colored_points(view)[:, :3].astype(np.float64).reshape(-1, 1, 3)
    project = cv2.fisheye.projectPoints if camera.distortion_model == "equidistant" else cv2.projectPoints
    pixels, _ = project(xyz, np.zeros(3), np.zeros(3), camera.matrix, np.array(camera.distortion))
    columns, rows = np.meshgrid(np.arange(40), np.arange(30))
    assert np.allclose(pixels.reshape(30, 40, 2), np.stack((columns, rows), -1), atol=0.01)


@pytest.mark.parametrize("output", ["camera_info", "points"])
def test_without_intrinsics_there_is_no_camera_info_and_no_cloud(output: str) -> None:
    profile = load_profile()
    view = profile.view(frame(None), perception(), Fit("stretch", (30, 40), ENGINE))
    with pytest.raises(CalibrationError, match=f"{output}: needs the camera's intrinsics"):
        encode(output, view, profile, header_of(view))


def test_imu_samples_have_the_imus_own_stamps() -> None:
    stamps = np.array([40, 80, 100], np.int64)
    gyro = np.outer(stamps.astype(np.float64), (1, 2, 3))
    first = ImuWindow(stamps, gyro, gyro + 9, np.ones(3, np.bool_), time_offset_ns=7, frame_id="imu")
    messages = [STORE.deserialize_cdr(data, IMU) for data in imu_messages(first)]
    assert [message.header.stamp.nanosec for message in messages] == [47, 87, 107]
    assert [message.angular_velocity.z for message in messages] == [120, 240, 300]
    assert [message.linear_acceleration.x for message in messages] == [49, 89, 109]
    assert {message.header.frame_id for message in messages} == {"imu"}
