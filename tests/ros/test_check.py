"""`check_graph` on a graph that is right, and on graphs with one thing wrong each."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from ros_helpers import CAMERA, make_frame, observed

from m2h_runtime.pipeline.health import Condition, Level
from m2h_runtime.ros import cdr
from m2h_runtime.ros.check import Finding, check_graph, first_wrong
from m2h_runtime.ros.diagnostics import Diagnostics, Status
from m2h_runtime.ros.endpoints import best_effort, message_class
from m2h_runtime.ros.messages import IMAGE
from m2h_runtime.ros.outputs import RosSink
from m2h_runtime.ros.profiles import load_profile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from m2h_runtime.engine.base import Engine
    from m2h_runtime.ros.session import RosSession

HYDRA = load_profile("hydra")
DEPTH = HYDRA.outputs["depth"].topic
LABELS = HYDRA.outputs["labels"].topic


@contextmanager
def running(publish: Callable[[int], object]) -> Iterator[None]:
    """Calls `publish` with 0, 1, ... at 20 Hz."""
    ended = threading.Event()

    def work() -> None:
        for sequence in range(1000):
            if ended.wait(0.05):
                return
            publish(sequence)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    ended.set()
    thread.join()


def wrong(findings: list[Finding]) -> tuple[Level, str, str]:
    first = first_wrong(findings)
    assert first is not None
    return first.level, first.subject, first.text


class Node:
    """Publishes profile hydra but for some outputs; each call sends a frame stamped now and returns the stamp."""

    def __init__(self, session: RosSession, engine: Engine, without: str = "") -> None:
        outputs = {name: its for name, its in HYDRA.outputs.items() if name != without}
        self.sink = RosSink(session.node, replace(HYDRA, outputs=outputs))
        self.observation = observed(engine, make_frame(0))
        self.session = session

    def __call__(self, _: int = 0) -> int:
        now_ns = self.session.now_ns()
        self.sink.write(replace(self.observation, frame=replace(self.observation.frame, stamp_ns=now_ns)))
        return now_ns


def test_a_graph_that_is_right_has_nothing_wrong(session: RosSession, engine: Engine) -> None:
    with running(Node(session, engine)):
        findings = check_graph(HYDRA)
    assert first_wrong(findings) is None
    by_subject = {finding.subject: finding.text for finding in findings}
    assert by_subject["size"] == "160x120"
    assert by_subject["frame id"] == "cam_optical_frame"
    assert "with equal stamps" in by_subject["stamps"]
    assert "ms at arrival" in by_subject["age"]
    assert "frames per second" in by_subject["rate"]
    assert "not looked at" in by_subject["tf"]


def test_topics_under_a_nodes_name_are_found_whatever_its_name(session: RosSession, engine: Engine) -> None:
    profile = load_profile()
    sink = RosSink(session.node, profile)
    with running(lambda sequence: sink.write(observed(engine, make_frame(sequence)))):
        findings = check_graph(profile)
    assert "/m2h/depth/image" in {finding.subject for finding in findings}
    level, subject, text = wrong(findings)
    assert (level, subject) == (Level.DEGRADED, "age"), text
    assert "use_sim_time" in text


def test_nobody_there(ros_domain: int) -> None:
    level, subject, text = wrong(check_graph(HYDRA, 0.1))
    assert (level, subject) == (Level.FAILED, DEPTH)
    assert f"nobody publishes {DEPTH}" in text
    assert f"ROS_DOMAIN_ID {ros_domain}" in text


def test_a_best_effort_publisher_is_not_heard(session: RosSession, engine: Engine) -> None:
    Node(session, engine, without="depth")
    session.node.create_publisher(message_class(IMAGE), DEPTH, best_effort(1))
    level, subject, text = wrong(check_graph(HYDRA, 0.1))
    assert (level, subject) == (Level.FAILED, DEPTH)
    assert "QoS that does not fit" in text
    assert "Best effort publisher and reliable subscription" in text


def test_silence_comes_with_the_nodes_own_words(session: RosSession, engine: Engine) -> None:
    Node(session, engine)
    status = Status(Condition(Level.FAILED, "source: the camera is gone"))
    diagnostics = Diagnostics(session.node, lambda: status, "camera", period_s=0.1)
    level, subject, text = wrong(check_graph(HYDRA, 1.0))
    assert (level, subject) == (Level.FAILED, HYDRA.outputs["rgb"].topic)
    assert text == "no message in 1 s; it says: m2h: perception: source: the camera is gone"
    diagnostics.close()


def _nan(stamp_ns: int) -> bytes:
    return cdr.image((stamp_ns, "cam_optical_frame"), np.full((120, 160), np.nan, np.float32), "32FC1")


def _millimetres(stamp_ns: int) -> bytes:
    return cdr.image((stamp_ns, "cam_optical_frame"), np.full((120, 160), 900, np.uint16), "16UC1")


def _nothing(stamp_ns: int) -> bytes:
    return cdr.image((stamp_ns, "cam_optical_frame"), np.zeros((120, 160), np.float32), "32FC1")


def _small(stamp_ns: int) -> bytes:
    return cdr.image((stamp_ns, "cam_optical_frame"), np.ones((60, 80), np.float32), "32FC1")


def _late(stamp_ns: int) -> bytes:
    return cdr.image((stamp_ns + 1, "cam_optical_frame"), np.ones((120, 160), np.float32), "32FC1")


def _other_frame(stamp_ns: int) -> bytes:
    return cdr.image((stamp_ns, "base_link"), np.ones((120, 160), np.float32), "32FC1")


def _labels(stamp_ns: int) -> bytes:
    return cdr.image((stamp_ns, "cam_optical_frame"), np.full((120, 160), 40, np.int16), "16SC1")


def _uncalibrated(stamp_ns: int) -> bytes:
    return cdr.camera_info((stamp_ns, "cam_optical_frame"), replace(CAMERA, cx=400.0))


@pytest.mark.parametrize(
    ("output", "message", "subject", "text"),
    [
        ("depth", _nan, DEPTH, "holds NaN or Inf"),
        ("depth", _millimetres, DEPTH, "encoding 16UC1, wanted 32FC1"),
        ("depth", _nothing, DEPTH, "is 0 (invalid) everywhere"),
        ("depth", _small, "size", f"{DEPTH} '80x60'"),
        ("depth", _late, "stamps", "at most 3 of 4"),
        ("depth", _other_frame, "frame id", f"{DEPTH} 'base_link'"),
        ("labels", _labels, LABELS, "ids 40..40, but nyud20 has 0..20"),
        ("camera_info", _uncalibrated, HYDRA.outputs["camera_info"].topic, "outside of 160x120"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_one_wrong_topic_is_named_with_what_to_do(
    session: RosSession, engine: Engine, output: str, message: Callable[[int], bytes], subject: str, text: str
) -> None:
    others = Node(session, engine, without=output)
    kind = message_class("sensor_msgs/msg/CameraInfo" if output == "camera_info" else IMAGE)
    publisher = session.node.create_publisher(kind, HYDRA.outputs[output].topic, 10)
    with running(lambda _: publisher.publish(message(others()))):
        level, its_subject, its_text = wrong(check_graph(HYDRA, 1.0))
    assert (level, its_subject) == (Level.FAILED, subject)
    assert text in its_text
