"""Visual odometry as ROS messages, over real rclpy and DDS."""

from __future__ import annotations

import sys
import types
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ros_helpers import wait_for

from m2h_runtime.imu import so3
from m2h_runtime.odometry import Estimate
from m2h_runtime.odometry.motion import LEVEL_START
from m2h_runtime.ros.endpoints import make_subscription, message_class, reliable
from m2h_runtime.ros.messages import ODOMETRY
from m2h_runtime.ros.odometry import UNKNOWN, OdometryPublisher, transform
from m2h_runtime.sources.odometry import OdometryTrack

if TYPE_CHECKING:
    from m2h_runtime.ros.session import RosSession

OPTICAL = "camera_color_optical_frame"


def estimate(number: int, **changes: Any) -> Estimate:
    """Each 0.1 s, 0.05 m further ahead and turned 0.02 rad to the left."""
    pose = LEVEL_START.copy()
    pose[:3, :3] = so3.exp(np.array((0, 0, 0.02 * number))) @ pose[:3, :3]
    pose[:3, 3] = 0.05 * number, 0.0, 0.0
    covariance = np.diag((0.01, 0.02, 0.03, 0.001, 0.002, 0.003))
    covariance[0, 4] = covariance[4, 0] = 5e-4
    stamp_ns = 1_700_000_000_123_456_789 + number * 10**8
    return replace(Estimate(stamp_ns, OPTICAL, pose, covariance, 0.9, "tracking"), **changes)


@pytest.fixture
def heard(session: RosSession) -> list[Any]:
    messages: list[Any] = []
    make_subscription(session.node, ODOMETRY, "odometry", messages.append, reliable(10))
    return messages


@pytest.fixture
def publisher(session: RosSession, heard: list[Any]) -> OdometryPublisher:
    made = OdometryPublisher(session.node)
    wait_for(lambda: session.node.count_subscribers(made.topic))
    wait_for(lambda: made._odometry.get_subscription_count())
    return made


def send(publisher: OdometryPublisher, heard: list[Any], *estimates: Estimate) -> list[Any]:
    before = len(heard)
    for one in estimates:
        publisher.publish(one)
    wait_for(lambda: len(heard) >= before + len(estimates))
    return heard[before:]


def test_a_message_has_stamp_frames_pose_covariance_and_twist(
    publisher: OdometryPublisher, heard: list[Any]
) -> None:
    first, second = send(publisher, heard, estimate(1), estimate(2))
    assert (second.header.stamp.sec, second.header.stamp.nanosec) == (1_700_000_000, 323_456_789)
    assert second.header.frame_id == "odom"
    assert second.child_frame_id == OPTICAL
    assert second.pose.pose.position.x == pytest.approx(0.1)
    np.testing.assert_array_equal(np.reshape(second.pose.covariance, (6, 6)), estimate(2).covariance)
    linear, angular = second.twist.twist.linear, second.twist.twist.angular
    assert linear.z == pytest.approx(0.5, rel=0.01)  # the optical frame looks along z
    assert angular.y == pytest.approx(-0.2)  # and has y down
    assert not np.any(second.twist.covariance)
    assert first.twist.covariance[0] == UNKNOWN


def test_our_own_reader_gets_the_same_pose_back(publisher: OdometryPublisher, heard: list[Any]) -> None:
    track = OdometryTrack()
    for number, message in enumerate(send(publisher, heard, estimate(0), estimate(1), estimate(2))):
        track.push_message(message, estimate(number).stamp_ns)
    pose = track.at(estimate(2).stamp_ns, OPTICAL)
    assert pose is not None
    np.testing.assert_allclose(pose, estimate(2).world_from_camera, atol=1e-9)


def test_while_lost_nobody_should_use_it(publisher: OdometryPublisher, heard: list[Any]) -> None:
    lost = estimate(2, state="lost", quality=0.0)
    after = estimate(4, segment=1)
    _, message, again = send(publisher, heard, estimate(1), lost, after)
    assert message.pose.covariance[0] == message.pose.covariance[35] == UNKNOWN
    assert again.pose.covariance[0] == 0.01
    assert again.twist.covariance[0] == UNKNOWN  # not from a pose that was none


def test_nothing_is_sent_before_it_has_begun(publisher: OdometryPublisher, heard: list[Any]) -> None:
    publisher.publish(estimate(0, state="starting"))
    (message,) = send(publisher, heard, estimate(1))
    assert message.pose.pose.position.x == pytest.approx(0.05)


def test_that_there_is_no_tf_is_said_once(session: RosSession, caplog: pytest.LogCaptureFixture) -> None:
    if "tf2_msgs" in sys.modules:
        pytest.skip("tf2_msgs is installed here")
    made = OdometryPublisher(session.node)
    made.publish(estimate(1))
    made.publish(estimate(2))
    assert [record.message for record in caplog.records if "tf2_msgs" in record.message] == [
        "odometry: there is no tf2_msgs, so nothing on /tf; the topic has the same poses"
    ]
    made.close()


def test_where_tf2_is_the_transform_goes_out_with_each_good_pose(
    session: RosSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes] = []
    package = types.SimpleNamespace(TFMessage=message_class(ODOMETRY))  # tf2_msgs itself is on no index
    monkeypatch.setitem(sys.modules, "tf2_msgs", types.SimpleNamespace(msg=package))
    monkeypatch.setitem(sys.modules, "tf2_msgs.msg", package)
    made = OdometryPublisher(session.node)
    monkeypatch.setattr(made._tf, "publish", sent.append, raising=False)
    made.publish(estimate(1))
    made.publish(estimate(2, state="lost"))
    assert made._tf.topic_name == "/tf"
    assert sent == [transform(estimate(1))]
    made.close()


def test_the_transform_is_a_tf_message() -> None:
    rosbags = pytest.importorskip("rosbags.typesys")
    store = rosbags.get_typestore(rosbags.Stores.ROS2_HUMBLE)
    (told,) = store.deserialize_cdr(transform(estimate(2)), "tf2_msgs/msg/TFMessage").transforms
    assert (told.header.frame_id, told.child_frame_id) == ("odom", OPTICAL)
    assert told.transform.translation.x == pytest.approx(0.1)
    turn = told.transform.rotation
    assert np.linalg.norm((turn.x, turn.y, turn.z, turn.w)) == pytest.approx(1.0)
