"""`RosSink` and a plain, strict receiver in another process."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ros_helpers import SIZE, SteadyCamera, make_frame, observed, pixels, wait_for

from m2h_runtime.errors import InputError, SinkError
from m2h_runtime.imu.track import ImuCalibration, ImuTrack
from m2h_runtime.pipeline import Pipeline
from m2h_runtime.ros.messages import TYPES
from m2h_runtime.ros.outputs import RosSink
from m2h_runtime.ros.profiles import Profile, load_profile, profile_names
from m2h_runtime.ros.session import RosSession

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ros_helpers import Receiver

    from m2h_runtime.engine.base import Engine
    from m2h_runtime.view import View

    Start = Callable[..., Receiver]

IMAGES = [output for output, kind in TYPES.items() if kind.endswith("/Image")]


def stream(engine: Engine, sink: RosSink, count: int, period_s: float = 0.1, **frame: Any) -> None:
    """As `m2h-run` would: a paced source, the pipeline, the sink in a thread of its own."""
    Pipeline(SteadyCamera(count, period_s, **frame), engine, [sink]).run()


def stamps(count: int) -> list[int]:
    return [make_frame(sequence).stamp_ns for sequence in range(count)]


@pytest.mark.parametrize("name", profile_names())
def test_a_strict_receiver_accepts_every_frame_of_every_topic(
    name: str, session: RosSession, engine: Engine, receiver: Start
) -> None:
    profile = load_profile(name)
    sink = RosSink(session.node, profile)
    outputs = [output for output in profile.outputs if output != "imu"]
    classes = len(profile.labels(engine.manifest.label_space).space.classes)
    reader = receiver(sink, outputs, "--frames", "15", classes=classes)
    stream(engine, sink, 15, 0.35)  # a queue of one loses a frame where the reader gets no CPU for a period
    result = reader.result()
    assert result["errors"] == []
    assert result["accepted"] == stamps(15)
    assert result["seen"] == dict.fromkeys(outputs, 15)


def test_an_independent_decoder_reads_the_same_arrays_from_the_bytes(
    session: RosSession, engine: Engine, receiver: Start, tmp_path: Path
) -> None:
    rosbags_types = pytest.importorskip("rosbags.typesys")
    store = rosbags_types.get_typestore(rosbags_types.Stores.ROS2_HUMBLE)
    profile = load_profile()
    sink = RosSink(session.node, profile)
    outputs = [output for output in profile.outputs if output != "imu"]
    reader = receiver(sink, outputs, "--frames", "1", "--raw", str(tmp_path / "raw"))
    frame = make_frame(3)
    observation = observed(engine, frame)
    sink.write(observation)
    reader.result()
    view = profile.view(frame, observation.perception, observation.fit)
    expected = {
        **{name: getattr(view, name) for name in IMAGES if name != "labels"},
        "labels": view.semantics,
    }
    for output in outputs:
        raw = (tmp_path / "raw" / output / f"{frame.stamp_ns}.cdr").read_bytes()
        message = store.deserialize_cdr(raw, TYPES[output])
        assert message.header.frame_id == frame.frame_id
        if output in expected:
            np.testing.assert_array_equal(pixels(message), expected[output])
    sink.close()


@dataclass(frozen=True)
class Watched(Profile):
    """A profile that keeps the views it makes."""

    views: list[View]

    def view(self, *args: Any, **kwargs: Any) -> View:
        self.views.append(super().view(*args, **kwargs))
        return self.views[-1]


def test_what_nobody_reads_is_neither_computed_nor_sent(
    session: RosSession, engine: Engine, receiver: Start
) -> None:
    views: list[View] = []
    profile = Watched(**vars(load_profile()), views=views)
    sink = RosSink(session.node, profile)
    sink.write(observed(engine, make_frame(0)))
    assert views == []
    reader = receiver(sink, ["depth"], "--frames", "1")
    sink.write(observed(engine, make_frame(1)))
    assert reader.result()["accepted"] == stamps(2)[1:]
    assert set(vars(views[0])) & {*IMAGES, "semantics", "camera"} == {"depth"}
    wait_for(lambda: sink.subscribed() == [])
    sink.write(observed(engine, make_frame(2)))
    assert len(views) == 1
    sink.close()


def test_a_reader_that_never_reads_does_not_hold_the_others_up(
    session: RosSession, engine: Engine, receiver: Start
) -> None:
    sink = RosSink(session.node, load_profile("mono_hydra_itc"))
    outputs = ["depth", "labels", "rgb", "camera_info"]
    stuck = receiver(sink, outputs)
    reader = receiver(sink, outputs, "--frames", "40")
    os.kill(stuck.process.pid, signal.SIGSTOP)
    started = time.monotonic()
    stream(engine, sink, 40, 0.1)
    assert time.monotonic() - started < 40 * 0.1 + 2
    assert reader.result()["accepted"] == stamps(40)


def test_publishers_are_reliable_volatile_and_keep_last(session: RosSession) -> None:
    from rclpy.qos import DurabilityPolicy, ReliabilityPolicy

    sink = RosSink(session.node, load_profile())
    for topic in sink.topics.values():
        (endpoint,) = session.node.get_publishers_info_by_topic(topic)
        assert endpoint.qos_profile.reliability == ReliabilityPolicy.RELIABLE
        assert endpoint.qos_profile.durability == DurabilityPolicy.VOLATILE
    assert next(iter(sink._publishers.values())).qos_profile.depth == 10
    assert sink.topics["depth"] == "/m2h/depth/image"
    sink.close()


def test_topics_can_be_remapped_and_their_qos_overridden(ros_domain: int) -> None:
    from rclpy.qos import ReliabilityPolicy

    override = "qos_overrides./robot/depth.publisher.reliability:=best_effort"
    args = ["--ros-args", "-r", "/m2h/depth/image:=/robot/depth", "-p", override]
    with RosSession("m2h", args=args) as session:
        sink = RosSink(session.node, load_profile())
        assert sink.topics["depth"] == "/robot/depth"
        (endpoint,) = session.node.get_publishers_info_by_topic("/robot/depth")
        assert endpoint.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
        sink.close()


def test_a_topic_name_that_is_none_is_one_line(session: RosSession) -> None:
    profile = load_profile()
    depth = profile.outputs["depth"]._replace(topic="depth image")
    with pytest.raises(InputError, match="topic 'depth image': Invalid topic name"):
        RosSink(session.node, replace(profile, outputs={"depth": depth}))


def test_imu_samples_are_republished_with_their_own_stamps(
    session: RosSession, engine: Engine, receiver: Start
) -> None:
    sink = RosSink(session.node, load_profile())
    reader = receiver(sink, ["depth", "imu"], "--idle", "0.7")
    frame = make_frame(1)
    track = ImuTrack(ImuCalibration(time_offset_s=5e-7))
    sink.write(replace(observed(engine, frame), imu=track))
    for index in range(4):
        track.push(frame.stamp_ns + 500 + 10_000_000 * (index + 1), (0, 0, 0), (0, 0, 9.8))
    later = replace(make_frame(2), stamp_ns=frame.stamp_ns + 35_000_000)
    sink.write(replace(observed(engine, later), imu=track))
    assert reader.result()["imu_stamps"] == [frame.stamp_ns + 500 + 10_000_000 * i for i in (1, 2, 3)]
    sink.close()


def test_without_intrinsics_the_rest_is_published_and_the_reason_told(
    session: RosSession, engine: Engine, receiver: Start
) -> None:
    told: list[str | None] = []
    sink = RosSink(session.node, load_profile(), health=told.append)
    reader = receiver(sink, ["depth", "camera_info", "points"], "--idle", "0.7")
    for sequence in range(2):
        sink.write(observed(engine, make_frame(sequence, camera=None)))
    sink.write(observed(engine, make_frame(2)))
    assert reader.result()["accepted"] == stamps(3)[2:]
    assert len(told) == 3 and told[0] == told[1] and told[2] is None
    assert (
        told[0] is not None
        and "/m2h/depth/camera_info, /m2h/points" in told[0]
        and "--calibration" in told[0]
    )
    sink.close()


def test_a_recording_can_set_the_clock(session: RosSession, engine: Engine) -> None:
    sink = RosSink(session.node, load_profile(), publish_clock=True)
    with RosSession("follower", use_sim_time=True) as follower:
        wait_for(
            lambda: sink._clock.get_subscription_count() == 2 or follower.node.count_publishers("/clock")
        )
        frame = make_frame(5)
        wait_for(lambda: sink.write(observed(engine, frame)) or follower.now_ns() == frame.stamp_ns)
    sink.close()


def test_a_shutdown_under_the_sink_is_one_line_and_closing_still_works(
    session: RosSession, engine: Engine, receiver: Start
) -> None:
    sink = RosSink(session.node, load_profile())
    receiver(sink, ["depth"])
    session.context.shutdown()
    with pytest.raises(SinkError, match="ROS was shut down"):
        sink.write(observed(engine, make_frame(0)))
    sink.abort()


def test_a_fresh_sink_publishes_where_one_was_closed(
    session: RosSession, engine: Engine, receiver: Start
) -> None:
    RosSink(session.node, load_profile()).close()
    sink = RosSink(session.node, load_profile())
    reader = receiver(sink, ["depth"], "--frames", "2")
    stream(engine, sink, 2, 0.35, size=SIZE)  # a queue of one: see above
    assert reader.result()["accepted"] == stamps(2)
