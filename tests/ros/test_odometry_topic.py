"""Odometry from a topic, real rclpy on both sides."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ros_helpers import make_frame, wait_for
from stand_ins import Keep
from tiny_engine import VIEWS, make_tiny_engine

from m2h_runtime import open_engine
from m2h_runtime.pipeline import Pipeline
from m2h_runtime.pipeline.health import Health
from m2h_runtime.ros import cdr
from m2h_runtime.ros.endpoints import message_class, reliable
from m2h_runtime.ros.messages import CAMERA_INFO, IMAGE, ODOMETRY
from m2h_runtime.ros.opening import source_spec
from m2h_runtime.ros.profiles import load_profile
from m2h_runtime.ros.session import RosSession
from m2h_runtime.ros.settings import Settings
from m2h_runtime.sources.opening import SourceSpec, open_source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from m2h_runtime.frame import Frame
    from m2h_runtime.sources import Source

TOPIC, ODOM = "/camera/image_raw", "/odom"
MS = 1_000_000
SPEC = SourceSpec("topic", TOPIC, odometry_topic=ODOM)


class Robot:
    """Publishes images, their camera_info and odometry at 50 Hz: it drives ahead at 1 m/s."""

    def __init__(self, node: Any, reader: Any) -> None:
        self.node = node
        kinds = {TOPIC: IMAGE, "/camera/camera_info": CAMERA_INFO, ODOM: ODOMETRY}
        self.publishers = {
            topic: node.create_publisher(message_class(kind), topic, reliable(50))
            for topic, kind in kinds.items()
        }
        for publisher in self.publishers.values():
            wait_for(publisher.get_subscription_count)
        wait_for(lambda: all(reader.count_publishers(topic) for topic in kinds))
        self._odometry_ns = make_frame(0).stamp_ns - 100 * MS

    def image(self, sequence: int) -> Frame:
        """Odometry up to the image's stamp, then the image."""
        frame = make_frame(sequence)
        while self._odometry_ns <= frame.stamp_ns:
            self.odometry(self._odometry_ns, (self._odometry_ns - make_frame(0).stamp_ns) / 1e9)
            self._odometry_ns += 20 * MS
        time.sleep(0.03)
        header = (frame.stamp_ns, frame.frame_id)
        assert frame.camera is not None
        self.publishers["/camera/camera_info"].publish(cdr.camera_info(header, frame.camera))
        self.publishers[TOPIC].publish(cdr.image(header, frame.image, "rgb8"))
        return frame

    def odometry(self, stamp_ns: int, ahead_m: float, variance: float = 0.01) -> None:
        message = message_class(ODOMETRY)()
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
        message.header.frame_id, message.child_frame_id = "odom", "base_link"
        message.pose.pose.position.x = ahead_m
        message.pose.pose.orientation.w = 1.0
        message.pose.covariance[0] = variance
        self.publishers[ODOM].publish(message)


@pytest.fixture
def robot_and_source(session: RosSession) -> Iterator[tuple[Robot, Source, Health]]:
    health = Health()
    with open_source(SPEC, health, node=session.node) as source, RosSession("robot") as own:
        yield Robot(own.node, session.node), source, health


def read(source: Source, timeout_s: float = 5.0) -> Frame:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if (frame := source.read(0.1)) is not None:
            return frame
    raise AssertionError("no frame came")


def test_frames_have_the_pose_of_their_stamp(robot_and_source: tuple[Robot, Source, Health]) -> None:
    robot, source, _ = robot_and_source
    read_up_to_camera_info(robot, source)
    for sequence in (2, 3, 4):
        sent = robot.image(sequence)
        frame = read(source)
        assert frame.stamp_ns == sent.stamp_ns
        assert frame.world_from_camera is not None
        ahead_m = 0.1 * sequence
        np.testing.assert_allclose(frame.world_from_camera[:3, 3], (ahead_m, 0, 0), atol=1e-6)
        np.testing.assert_allclose(frame.world_from_camera[:3, 2], (1, 0, 0), atol=1e-9)  # looks ahead


def read_up_to_camera_info(robot: Robot, source: Source) -> None:
    """The first image may come before the first camera_info."""
    robot.image(0)
    source.read(0.3)
    robot.image(1)
    read(source)


def test_a_lost_odometry_is_told_and_gives_no_pose(robot_and_source: tuple[Robot, Source, Health]) -> None:
    robot, source, health = robot_and_source
    read_up_to_camera_info(robot, source)
    robot.odometry(make_frame(1).stamp_ns + 10 * MS, 0.1, variance=9999.0)
    for sequence in range(2, 13):
        robot.image(sequence)
        assert read(source).world_from_camera is None
    assert health.parts()["odometry"].text.startswith("it is lost (its variance is beyond 100 m^2)")


def test_the_loop_sees_two_views(
    robot_and_source: tuple[Robot, Source, Health], tmp_path_factory: pytest.TempPathFactory
) -> None:
    robot, source, health = robot_and_source
    folder: Path = make_tiny_engine(tmp_path_factory.mktemp("engines") / "cross", views=VIEWS)
    sent = iter(range(1, 99))
    robot.image(0)
    with open_engine(folder, "onnxruntime-cpu", threads=1) as engine:
        keep = Keep()
        pipeline = Pipeline(
            source,
            engine,
            [keep],
            frame_limit=8,
            health=health,
            on_perception=lambda _: robot.image(next(sent)),
        )
        robot.image(next(sent))
        pipeline.run()
    told = pipeline.views()
    assert told is not None
    assert told["frames"]["two views"] >= 5


def test_the_node_has_a_parameter_for_it() -> None:
    spec = source_spec(Settings(odometry_topic="/odom"), load_profile("default"))
    assert spec.odometry_topic == "/odom"
    assert source_spec(Settings(), load_profile("default")).odometry_topic is None
