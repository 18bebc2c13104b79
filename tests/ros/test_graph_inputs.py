"""What the scene graph's node hears: images put together, and poses that are waited for."""

from __future__ import annotations

import sys
import threading
import time
import types
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ros_helpers import CAMERA, wait_for

from m2h_runtime.errors import InputError
from m2h_runtime.ros import cdr
from m2h_runtime.ros.endpoints import best_effort, message_class, reliable
from m2h_runtime.ros.graph_poses import Poses
from m2h_runtime.ros.graph_settings import GraphSettings
from m2h_runtime.ros.graph_topics import OutputReader, Outputs
from m2h_runtime.ros.messages import CAMERA_INFO, IMAGE, ODOMETRY
from m2h_runtime.ros.profiles import load_profile, profile_names
from m2h_runtime.ros.session import RosSession

if TYPE_CHECKING:
    from collections.abc import Iterator

TOPICS = {"depth": "/depth", "labels": "/labels", "camera_info": "/info", "rgb": "/rgb"}
FRAME, S, MS = "lens", 1_000_000_000, 1_000_000
PIXELS = {"depth": np.ones((4, 6), np.float32), "labels": np.zeros((4, 6), np.uint8)}
PIXELS["rgb"] = np.zeros((4, 6, 3), np.uint8)
ENCODINGS = {"depth": "32FC1", "labels": "mono8", "rgb": "rgb8"}


class Sender:
    """Another node that publishes some of the outputs."""

    def __init__(self, reader: OutputReader, *outputs: str, qos: Any = None) -> None:
        self._session = RosSession("sender")
        self._publishers = {
            output: self._session.node.create_publisher(
                message_class(CAMERA_INFO if output == "camera_info" else IMAGE),
                TOPICS[output],
                qos or reliable(20),
            )
            for output in outputs
        }
        node = reader._node
        wait_for(lambda: all(node.count_publishers(TOPICS[output]) for output in outputs))
        if qos is None:
            wait_for(lambda: all(one.get_subscription_count() for one in self._publishers.values()))

    def send(self, output: str, stamp_ns: int) -> None:
        header = (stamp_ns, FRAME)
        self._publishers[output].publish(
            cdr.camera_info(header, CAMERA)
            if output == "camera_info"
            else cdr.image(header, PIXELS[output], ENCODINGS[output])
        )

    def close(self) -> None:
        self._session.close()


@pytest.fixture
def taken() -> list[Outputs]:
    return []


@pytest.fixture
def reader(session: RosSession, taken: list[Outputs]) -> OutputReader:
    return OutputReader(session.node, TOPICS, taken.append)


@pytest.fixture
def senders() -> Iterator[list[Sender]]:
    made: list[Sender] = []
    yield made
    for one in made:
        one.close()


def stamps(outputs: Outputs) -> list[int]:
    messages = [one for one in (outputs.depth, outputs.labels, outputs.rgb) if one is not None]
    return [one.header.stamp.sec * S + one.header.stamp.nanosec for one in messages]


def test_images_of_one_stamp_come_together_in_whichever_order(
    reader: OutputReader, taken: list[Outputs], senders: list[Sender]
) -> None:
    senders.append(sender := Sender(reader, "depth", "labels", "camera_info", "rgb"))
    sender.send("camera_info", S)
    sender.send("rgb", S)
    sender.send("rgb", 2 * S)
    sender.send("labels", 2 * S + 500_000)  # as Mono-Hydra's publishers have it
    sender.send("labels", 3 * S)
    time.sleep(0.2)
    sender.send("depth", 2 * S)
    wait_for(lambda: taken)
    sender.send("depth", 3 * S + 2 * MS)  # of another image
    sender.send("depth", 4 * S)
    time.sleep(0.2)
    assert [stamps(one) for one in taken] == [[2 * S, 2 * S + 500_000, 2 * S]]
    assert reader.lack() is None


def test_colours_are_not_waited_for_where_nobody_publishes_them(
    reader: OutputReader, taken: list[Outputs], senders: list[Sender]
) -> None:
    senders.append(sender := Sender(reader, "depth", "labels", "camera_info"))
    sender.send("camera_info", S)
    time.sleep(0.2)
    for stamp_s in (1, 2):
        sender.send("depth", stamp_s * S)
        sender.send("labels", stamp_s * S)
    wait_for(lambda: len(taken) == 2)
    assert taken[0].rgb is None


def test_what_is_missing_is_named(
    reader: OutputReader, monkeypatch: pytest.MonkeyPatch, senders: list[Sender]
) -> None:
    monkeypatch.setattr("m2h_runtime.ros.graph_topics.SILENT_S", 0.3)
    time.sleep(0.3)
    assert (reader.lack() or "").startswith("nobody publishes /depth")
    senders.append(sender := Sender(reader, "depth", "camera_info"))
    senders.append(Sender(reader, "labels", qos=best_effort(1)))
    end = time.monotonic() + 10
    number = 1
    while "labels: the publisher sender has QoS that does not fit" not in (reader.lack() or ""):
        assert time.monotonic() < end, reader.lack()
        sender.send("depth", number * S)  # else depth is what is missing
        number += 1
        time.sleep(0.05)


def test_images_that_are_never_of_one_stamp_are_told(
    reader: OutputReader, monkeypatch: pytest.MonkeyPatch, senders: list[Sender]
) -> None:
    monkeypatch.setattr("m2h_runtime.ros.graph_topics.SILENT_S", 0.3)
    senders.append(sender := Sender(reader, "depth", "labels", "camera_info"))
    end = time.monotonic() + 5
    number = 1
    while "no stamps that are equal to within 1 ms" not in (reader.lack() or ""):
        assert time.monotonic() < end
        sender.send("camera_info", number * S)
        sender.send("depth", number * S)
        sender.send("labels", number * S + 5 * MS)
        number += 1
        time.sleep(0.05)


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_has_what_a_graph_needs(name: str) -> None:
    settings, profile = GraphSettings(profile=name, perception="/front/eye"), load_profile(name)
    topics = settings.topics(profile)
    assert set(topics) == {"depth", "labels", "camera_info", "rgb"}
    assert not any(topic.startswith("~") for topic in topics.values())
    assert settings.space(profile).name == (profile.label_space or "nyudv2_40")
    assert GraphSettings(label_space="nyud20").space(profile).name == "nyud20"


# Poses


def odometry(stamp_ns: int, x: float, child: str = FRAME, parent: str = "odom", variance: float = 0.0) -> Any:
    message = message_class(ODOMETRY)()
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, S)
    message.header.frame_id, message.child_frame_id = parent, child
    message.pose.pose.position.x, message.pose.pose.orientation.w = x, 1.0
    message.pose.covariance[0] = variance
    return message


def static(parent: str, child: str, z: float) -> Any:
    point = SimpleNamespace
    turn, place = point(w=1.0, x=0.0, y=0.0, z=0.0), point(x=0.0, y=0.0, z=z)
    header = point(frame_id=parent, stamp=point(sec=0, nanosec=0))
    one = point(header=header, child_frame_id=child, transform=point(translation=place, rotation=turn))
    return point(transforms=[one])


@pytest.fixture
def tf2(monkeypatch: pytest.MonkeyPatch, ros_domain: int) -> None:
    """Something to subscribe to in the place of tf2_msgs, which is on no index; nothing is ever sent."""
    package = types.SimpleNamespace(TFMessage=message_class(ODOMETRY))
    monkeypatch.setitem(sys.modules, "tf2_msgs", types.SimpleNamespace(msg=package))
    monkeypatch.setitem(sys.modules, "tf2_msgs.msg", package)


def test_a_transform_that_comes_late_is_waited_for(session: RosSession) -> None:
    poses = Poses(session.node, "/odom")
    with RosSession("robot") as robot:
        publisher = robot.node.create_publisher(message_class(ODOMETRY), "/odom", reliable(10))
        wait_for(publisher.get_subscription_count)
        publisher.publish(odometry(S, 0.0))
        late = threading.Timer(0.2, lambda: publisher.publish(odometry(S + 100 * MS, 0.1)))
        late.start()
        found = poses.at(FRAME, S + 50 * MS, 2.0)
        late.join()
    assert found.pose is not None
    np.testing.assert_allclose(found.pose[:3, 3], (0.05, 0.0, 0.0), atol=1e-9)
    assert poses.frame == "odom"


def test_odometry_of_another_frame_needs_a_static_transform(session: RosSession, tf2: None) -> None:
    poses = Poses(session.node, "/odom")
    assert poses.at(FRAME, S, 0.0).why == "/odom: no odometry has come that names its child frame"
    poses._push_odometry(odometry(S, 1.0, "base_link"))
    why = "/odom: is of base_link, and /tf_static does not lead from there to lens"
    assert poses.at(FRAME, S, 0.0).why == why
    poses._push_transforms(static("base_link", FRAME, 0.5), fixed=True)
    found = poses.at(FRAME, S, 0.0)
    assert found.pose is not None
    np.testing.assert_allclose(found.pose[:3, 3], (1.0, 0.0, 0.5))
    poses._push_odometry(odometry(2 * S, 1.0, "base_link", variance=1e6))
    assert poses.at(FRAME, 2 * S, 0.0).why == "/odom: says that it is lost"


def test_a_camera_that_nobody_moves_is_not_taken_to_stand_still(session: RosSession, tf2: None) -> None:
    poses = Poses(session.node)
    poses._push_transforms(static("base_link", FRAME, 0.5), fixed=True)
    found = poses.at(FRAME, S, 0.0)
    assert found.pose is None
    assert found.why.startswith("only /tf_static leads to lens")
    assert poses.frame == ""
    named = Poses(session.node, fixed_frame="base_link")
    named._push_transforms(static("base_link", FRAME, 0.5), fixed=True)
    assert named.at(FRAME, S, 0.0).pose is not None


def test_the_world_stays_what_it_was_when_a_map_comes_later(session: RosSession, tf2: None) -> None:
    poses = Poses(session.node)
    moved = static("odom", FRAME, 1.0)
    moved.transforms[0].header.stamp.sec = 1
    poses._push_transforms(moved, fixed=False)
    assert poses.at(FRAME, S, 0.0).pose is not None
    poses._push_transforms(static("map", "odom", 7.0), fixed=True)
    found = poses.at(FRAME, S, 0.0)
    assert found.pose is not None
    assert (found.root, found.pose[2, 3]) == ("odom", 1.0)


def test_without_tf_odometry_has_to_do(session: RosSession, caplog: pytest.LogCaptureFixture) -> None:
    try:
        message_class("tf2_msgs/msg/TFMessage")
    except InputError:
        with pytest.raises(InputError, match="give odometry_topic"):
            Poses(session.node)
        Poses(session.node, "/odom")
        assert "there is no tf2_msgs, so /odom must be of the optical frame itself" in caplog.text
    else:
        pytest.skip("tf2_msgs is installed here")
