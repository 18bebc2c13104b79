"""`TopicSource` and a camera driver that is another participant on the same topics."""

from __future__ import annotations

import array
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from ros_helpers import CAMERA, make_frame, wait_for

from m2h_runtime.errors import InputError, SourceError
from m2h_runtime.pipeline.health import Health
from m2h_runtime.ros import cdr
from m2h_runtime.ros.camera_info import camera_info_beside
from m2h_runtime.ros.endpoints import best_effort, message_class, reliable
from m2h_runtime.ros.messages import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE, IMU
from m2h_runtime.ros.session import RosSession
from m2h_runtime.ros.topic_source import TopicSource
from m2h_runtime.sources.opening import SourceSpec, open_source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from m2h_runtime.frame import Frame

TOPIC = "/camera/image_raw"
HEADER_FRAME = "cam_optical_frame"


class Driver:
    """Publishes what a camera driver would, to a node that has found it."""

    def __init__(self, session: RosSession, reader: RosSession) -> None:
        self.node = session.node
        self.reader = reader
        self._publishers: dict[str, Any] = {}

    def send(self, kind: str, topic: str, message: Any, qos: Any = None) -> None:
        if topic not in self._publishers:
            self._publishers[topic] = self.node.create_publisher(
                message_class(kind), topic, qos or reliable(5)
            )
            wait_for(self._publishers[topic].get_subscription_count)
            wait_for(lambda: self.reader.node.count_publishers(topic))
        self._publishers[topic].publish(message)

    def image(self, frame: Frame, topic: str = TOPIC, **more: Any) -> None:
        header = (frame.stamp_ns, frame.frame_id)
        self.send(IMAGE, topic, cdr.image(header, frame.image, "rgb8"), **more)

    def compressed(self, frame: Frame, topic: str, data: np.ndarray | None = None) -> None:
        if data is None:
            data = cv2.imencode(".png", cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR))[1].ravel()
        header = (frame.stamp_ns, frame.frame_id)
        self.send(COMPRESSED_IMAGE, topic, cdr.compressed_image(header, data, "png"))

    def camera_info(self, topic: str = "/camera/camera_info") -> None:
        self.send(CAMERA_INFO, topic, cdr.camera_info((0, HEADER_FRAME), CAMERA))

    def imu(self, stamp_ns: int) -> None:
        self.send(IMU, "/camera/imu", cdr.imu((stamp_ns, "imu_frame"), (0.1, 0.2, 0.3), (0.0, 0.0, 9.8)))


class Clock:
    """The monotonic clock, which a test can move on."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> int:
        return time.monotonic_ns() + round(1e9 * self.ahead_s)


@pytest.fixture
def driver(session: RosSession) -> Iterator[Driver]:
    with RosSession("camera") as own:
        yield Driver(own, session)


def read(source: TopicSource, timeout_s: float = 5.0) -> Frame:
    """The next frame."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if (frame := source.read(0.1)) is not None:
            return frame
    raise AssertionError("no frame came")


@pytest.mark.parametrize("qos", [reliable, best_effort])
def test_a_frame_has_the_image_and_header_of_the_message(
    driver: Driver, session: RosSession, qos: Any
) -> None:
    with TopicSource(session.node, TOPIC) as source:
        for sequence in range(2):
            sent = make_frame(sequence)
            driver.image(sent, qos=qos(1))
            frame = read(source)
            np.testing.assert_array_equal(frame.image, sent.image)
            assert (frame.stamp_ns, frame.frame_id) == (sent.stamp_ns, sent.frame_id)
            assert frame.sequence == sequence
            assert frame.camera is None
        assert source.describe() == f"topic {TOPIC}"


@pytest.mark.parametrize("topic", ["/camera/image_raw/compressed", "/camera/jpeg"])
def test_compressed_images_are_known_by_their_name_or_by_the_graph(
    driver: Driver, session: RosSession, topic: str
) -> None:
    sent = make_frame(1)
    data = cv2.imencode(".png", cv2.cvtColor(sent.image, cv2.COLOR_RGB2BGR))[1].ravel()
    message = cdr.compressed_image((sent.stamp_ns, sent.frame_id), data, "png")
    with TopicSource(session.node, topic) as source:
        publisher = driver.node.create_publisher(message_class(COMPRESSED_IMAGE), topic, 1)
        frames: list[Frame] = []
        while not frames:
            publisher.publish(message)
            frames += [frame for frame in [source.read(0.1)] if frame is not None]
        np.testing.assert_array_equal(frames[0].image, sent.image)


def test_only_the_newest_image_is_read(driver: Driver, session: RosSession) -> None:
    with TopicSource(session.node, TOPIC) as source:
        for sequence in range(5):
            driver.image(make_frame(sequence))
            time.sleep(0.02)
        assert read(source).stamp_ns == make_frame(4).stamp_ns
        assert source.read(0.05) is None


def test_intrinsics_come_from_camera_info_and_the_first_image_waits_for_them(
    driver: Driver, session: RosSession
) -> None:
    with TopicSource(session.node, TOPIC, camera_info_topic=camera_info_beside(TOPIC)) as source:
        driver.image(make_frame(0))
        assert source.read(0.5) is None
        driver.camera_info()
        driver.image(make_frame(1))
        frame = read(source)
        assert frame.camera is not None and frame.camera.ideal
        np.testing.assert_array_equal(frame.camera.matrix, CAMERA.matrix)
        assert frame.stamp_ns == make_frame(1).stamp_ns
        assert source.skipped == {"before the first camera_info": 1}
        driver.image(make_frame(2, (60, 80), None))
        assert read(source).camera is None  # of another size than the camera_info


def test_images_go_on_without_a_camera_info_that_never_comes(driver: Driver, session: RosSession) -> None:
    clock = Clock()
    with TopicSource(session.node, TOPIC, camera_info_topic="/camera/camera_info", clock=clock) as source:
        driver.image(make_frame(0))
        assert source.read(0.5) is None
        clock.ahead_s = 2.1
        driver.image(make_frame(1))
        assert read(source).camera is None


def test_the_age_counts_from_the_stamp_if_it_is_of_this_clock(driver: Driver, session: RosSession) -> None:
    with TopicSource(session.node, TOPIC) as source:
        frame = make_frame(0)
        header = (session.now_ns() - 300_000_000, "cam")
        driver.send(IMAGE, TOPIC, cdr.image(header, frame.image, "rgb8"))
        taken_ns = read(source).taken_ns
        assert taken_ns is not None
        assert 0.3 < (time.monotonic_ns() - taken_ns) / 1e9 < 1.3
        driver.image(make_frame(1))  # years old
        taken_ns = read(source).taken_ns
        assert taken_ns is not None
        assert 0 <= (time.monotonic_ns() - taken_ns) / 1e9 < 1.0


def test_in_simulated_time_the_age_counts_from_arrival(driver: Driver) -> None:
    with RosSession("m2h_sim", use_sim_time=True) as session, TopicSource(session.node, TOPIC) as source:
        driver.reader = session
        driver.image(make_frame(0))
        taken_ns = read(source).taken_ns
        assert taken_ns is not None
        assert 0 <= (time.monotonic_ns() - taken_ns) / 1e9 < 1.0


def test_broken_images_are_skipped_counted_and_told(driver: Driver, session: RosSession) -> None:
    told: list[str | None] = []
    clock = Clock()
    topic = f"{TOPIC}/compressed"
    with TopicSource(session.node, topic, health=told.append, clock=clock) as source:
        driver.compressed(make_frame(0), topic)
        read(source)
        driver.compressed(make_frame(1), topic, np.arange(200, dtype=np.uint8))
        assert source.read(1.0) is None
        driver.compressed(make_frame(2), topic)
        assert read(source).sequence == 1
        assert source.skipped == {"not decodable": 1}
        assert len(told) == 1 and told[0] is not None and topic in told[0]
        clock.ahead_s = 1.1
        driver.compressed(make_frame(3), topic)
        read(source)
        assert told[1:] == [None]


def test_an_encoding_that_is_no_colour_image_names_those_that_are(
    driver: Driver, session: RosSession
) -> None:
    told: list[str | None] = []
    with TopicSource(session.node, TOPIC, health=told.append) as source:
        depth = np.ones((4, 6), np.float32)
        driver.send(IMAGE, TOPIC, cdr.image((1, "cam"), depth, "32FC1"))
        assert source.read(1.0) is None
    assert told[0] is not None and "'32FC1'" in told[0] and "rgb8" in told[0]


def test_a_bag_that_starts_again_is_a_new_run_and_late_images_are_passed_over(
    driver: Driver, session: RosSession
) -> None:
    told: list[str | None] = []
    with TopicSource(session.node, TOPIC, imu_topic="/camera/imu", health=told.append) as source:
        assert source.imu is not None
        for sequence in (8, 9):
            driver.imu(make_frame(sequence).stamp_ns)
            driver.image(make_frame(sequence))
            read(source)
        driver.image(make_frame(7))  # 0.2 s back
        assert source.read(0.3) is None
        assert told == []
        driver.image(make_frame(0))
        assert read(source).stamp_ns == make_frame(0).stamp_ns
        assert source.imu.newest_ns is None
        driver.image(make_frame(1))
        assert read(source).sequence == 3
        assert source.skipped == {"stamp not later than the one before": 1}
        assert len(told) == 1 and told[0] is not None and "jumped back" in told[0]


def test_imu_samples_fill_the_track(driver: Driver, session: RosSession) -> None:
    with TopicSource(session.node, TOPIC, imu_topic="/camera/imu") as source:
        assert source.imu is not None
        first_ns = make_frame(0).stamp_ns
        for step in range(21):
            driver.imu(first_ns + step * 5_000_000)
        wait_for(lambda: source.imu and source.imu.newest_ns == make_frame(1).stamp_ns)
        window = source.imu.window(first_ns, make_frame(1).stamp_ns)
        assert window is not None
        assert window.complete
        assert window.frame_id == "imu_frame"
        assert len(window.stamps_ns) == 21
        np.testing.assert_allclose(window.gyro[3], (0.1, 0.2, 0.3))


def test_silence_is_explained(driver: Driver, session: RosSession) -> None:
    told: list[str | None] = []
    clock = Clock()
    with TopicSource(session.node, TOPIC, health=told.append, clock=clock) as source:
        assert source.read(0.05) is None
        assert told == []
        clock.ahead_s = 2.1
        assert source.read(0.05) is None
        other = driver.node.create_publisher(message_class(IMAGE), "/camera/image_rect", 1)
        wait_for(lambda: session.node.count_publishers("/camera/image_rect"))
        clock.ahead_s = 4.2
        assert source.read(0.05) is None
        driver.node.destroy_publisher(other)
        driver.node.create_publisher(message_class(IMU), TOPIC, 1)
        wait_for(lambda: session.node.count_publishers(TOPIC))
        clock.ahead_s = 6.3
        assert source.read(0.05) is None
    assert told == [
        f"nobody publishes {TOPIC}; no such topic has a publisher in this ROS domain",
        f"nobody publishes {TOPIC}; the nearest is /camera/image_rect",
        f"{TOPIC} is {IMU}, wanted is {IMAGE} or {COMPRESSED_IMAGE}",
    ]


def test_a_publisher_that_stops_is_told_and_comes_back(driver: Driver, session: RosSession) -> None:
    told: list[str | None] = []
    clock = Clock()
    with TopicSource(session.node, TOPIC, health=told.append, clock=clock) as source:
        driver.image(make_frame(0))
        read(source)
        clock.ahead_s = 2.1
        assert source.read(0.05) is None
        assert told == [f"{TOPIC}: has a publisher, but no image has come for 2 s; is it paused?"]
        clock.ahead_s = 4.0
        driver.image(make_frame(1))
        read(source)
        assert told[1:] == [None]


def test_a_message_without_a_stamp_gets_the_time_of_its_arrival(driver: Driver, session: RosSession) -> None:
    with TopicSource(session.node, TOPIC) as source:
        driver.send(IMAGE, TOPIC, cdr.image((0, ""), make_frame(0).image, "rgb8"))
        frame = read(source)
        assert 0 <= session.now_ns() - frame.stamp_ns < 2e9
        assert frame.frame_id == "camera_optical_frame"


def test_numpy_messages_of_rclpy_are_read_too(driver: Driver, session: RosSession) -> None:
    with TopicSource(session.node, TOPIC) as source:
        message = message_class(IMAGE)(height=2, width=2, encoding="mono8", step=2)
        message.data = array.array("B", [1, 2, 3, 4])
        message.header.stamp.sec = 1
        driver.send(IMAGE, TOPIC, message)
        assert read(source).image[..., 0].tolist() == [[1, 2], [3, 4]]


def test_the_camera_info_of_remapped_images_is_looked_for_beside_them(ros_domain: int) -> None:
    with RosSession("m2h", args=["--ros-args", "-r", "image:=/front/image_raw"]) as session:
        with open_source(SourceSpec("topic", "image"), Health(), node=session.node):
            names = {subscription.topic_name for subscription in session.node.subscriptions}
        assert {"/front/image_raw", "/front/camera_info"} <= names
        with pytest.raises(InputError, match="topic 'a b': Invalid topic name"):
            open_source(SourceSpec("topic", "a b"), Health(), node=session.node)


def test_a_shutdown_of_ros_ends_the_source(session: RosSession) -> None:
    with TopicSource(session.node, TOPIC) as source:
        session.context.shutdown()
        with pytest.raises(SourceError, match="ROS was shut down"):
            source.read(0.01)


def test_a_wrong_topic_name_is_one_line(session: RosSession) -> None:
    with pytest.raises(InputError, match="topic 'a b': Invalid topic name"):
        TopicSource(session.node, "a b")


PLAIN_DRIVER = """
import array, sys, time, rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node("plain_driver")
qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
publisher = node.create_publisher(Image, "/camera/image_raw", qos)
message = Image(height=480, width=640, encoding="rgb8", step=1920)
message.data = array.array("B", bytes(640 * 480 * 3))
while not publisher.get_subscription_count():
    time.sleep(0.01)
time.sleep(1.5)
for _ in range(60):
    message.header.stamp = node.get_clock().now().to_msg()
    publisher.publish(message)
    time.sleep(1 / 20)
"""


def test_large_images_of_a_driver_without_settings_arrive(session: RosSession) -> None:
    """A best-effort reader of them gets next to nothing: they do not fit its shared memory."""
    source = TopicSource(session.node, TOPIC)
    environ = {name: value for name, value in os.environ.items() if "DEFAULT_PROFILES_FILE" not in name}
    driver = subprocess.Popen([sys.executable, "-c", PLAIN_DRIVER], env=environ)
    frames = 0
    while driver.poll() is None:
        frames += source.read(0.05) is not None
    source.close()
    assert driver.returncode == 0
    assert frames >= 45, "of 60"
