"""The lifecycle node as a process, driven over ROS by another one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ros_helpers import SIZE, TRANSPORT_VARIABLES, pixels, wait_for
from tiny_engine import picture

from m2h_runtime.ros import cdr
from m2h_runtime.ros.endpoints import best_effort, message_class, reliable
from m2h_runtime.ros.session import require_ros

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from m2h_runtime.ros.session import RosSession

NAME = "m2h_perception"
DEPTH = f"/{NAME}/depth/image"
IMAGES = "/camera/color/image_raw"
ROOT = Path(__file__).resolve().parents[2]
STATES = {1: "unconfigured", 2: "inactive", 3: "active", 4: "finalized"}
OK, ERROR, STALE = b"\x00", b"\x02", b"\x03"


class Node:
    """The node's process, and what another node sees and asks of it."""

    def __init__(
        self, session: RosSession, log: Path, parameters: dict[str, Any], environ: dict[str, str]
    ) -> None:
        arguments = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
        self._log = log
        self._node = session.node
        self.session = session
        clean = {name: value for name, value in os.environ.items() if name not in TRANSPORT_VARIABLES}
        with log.open("w") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "m2h_runtime.ros.node", "--ros-args", *arguments],
                env={**clean, "PYTHONPATH": str(ROOT), **environ},
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        self.health: list[Any] = []
        kind = message_class("diagnostic_msgs/msg/DiagnosticArray")
        self._node.create_subscription(kind, "/diagnostics", self.health.append, 10)
        self.depths: list[Any] = []
        self._node.create_subscription(
            message_class("sensor_msgs/msg/Image"), DEPTH, self.depths.append, reliable(1)
        )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def ask(self, kind: str, name: str, **request: Any) -> Any:
        package, _, service = kind.partition("/")
        types = getattr(require_ros(f"{package}.srv"), service)
        client = self._node.create_client(types, f"/{NAME}/{name}")
        assert client.wait_for_service(10.0)
        future = client.call_async(types.Request(**request))
        wait_for(future.done, 20.0)
        self._node.destroy_client(client)
        return future.result()

    def transit(self, label: str) -> bool:
        transition = require_ros("lifecycle_msgs.msg").Transition(label=label)
        return bool(self.ask("lifecycle_msgs/ChangeState", "change_state", transition=transition).success)

    @property
    def state(self) -> str:
        return STATES[self.ask("lifecycle_msgs/GetState", "get_state").current_state.id]

    def set(self, name: str, value: Any) -> Any:
        parameter = require_ros("rclpy.parameter").Parameter(name, value=value).to_parameter_msg()
        answer = self.ask("rcl_interfaces/SetParameters", "set_parameters", parameters=[parameter])
        return answer.results[0]

    def said(self, part: str = "perception") -> Any:
        """The latest status of one part; None before the first."""
        entries = self.health[-1].status if self.health else []
        return next((entry for entry in entries if entry.name == f"m2h: {part}"), None)

    def end(self, number: int) -> tuple[int, float]:
        """Exit code and seconds until it was there."""
        before = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(10)
        return code, time.monotonic() - before


@dataclass
class Camera:
    """A switch, and the stamps that were sent."""

    on: bool = True
    stamps: list[int] = field(default_factory=list)


@pytest.fixture
def start(session: RosSession, nyu_engine: Path, tmp_path: Path) -> Iterator[Callable[..., Node]]:
    """Starts nodes with the tiny engine; ends those that are still there."""
    nodes: list[Node] = []

    def make(environ: dict[str, str] | None = None, **parameters: Any) -> Node:
        given = {"engine": nyu_engine, "backend": "onnxruntime-cpu", **parameters}
        nodes.append(Node(session, tmp_path / f"node_{len(nodes)}.log", given, environ or {}))
        return nodes[-1]

    yield make
    for node in nodes:
        node.process.kill()
        node.process.wait()


@pytest.fixture
def camera(session: RosSession) -> Iterator[Camera]:
    """Publishes `picture(0)` on `IMAGES` 20 times a second."""
    node = session.node
    publisher = node.create_publisher(message_class("sensor_msgs/msg/Image"), IMAGES, best_effort(1))
    camera = Camera()

    def send() -> None:
        if camera.on:
            camera.stamps.append(time.time_ns())
            publisher.publish(cdr.image((camera.stamps[-1], "lens"), picture(0, SIZE), "rgb8"))

    timer = node.create_timer(0.05, send)
    yield camera
    node.destroy_timer(timer)


def wait_for_frames(node: Node, count: int) -> None:
    enough = len(node.depths) + count
    wait_for(lambda: len(node.depths) >= enough)


def stamp_of(message: Any) -> int:
    return int(message.header.stamp.sec) * 10**9 + int(message.header.stamp.nanosec)


def test_it_starts_by_itself_and_streams_a_topic(start: Callable[..., Node], camera: Camera) -> None:
    node = start(camera_info_topic="none", skip_frequency=5)
    wait_for(lambda: len(node.depths) > 3)
    assert node.state == "active"
    assert all(stamp_of(message) in camera.stamps for message in node.depths)
    first = node.depths[0]
    assert (first.header.frame_id, first.encoding, (first.height, first.width)) == ("lens", "32FC1", SIZE)
    wait_for(lambda: node.said() is not None and node.said().level == OK)
    wait_for(lambda: "age p99" in {value.key for value in node.said().values})
    figures = {value.key: value.value for value in node.said().values}
    assert figures["engine"] == "tiny"
    assert figures["backend"] == "onnxruntime-cpu"
    assert float(figures["fps"]) > 5
    assert float(figures["age p99"].split()[0]) < 500
    assert node.said().hardware_id == "topic"
    assert "parameter skip_frequency: has no effect" in node.log


def test_parameters_can_be_described_and_the_live_ones_changed(
    start: Callable[..., Node], camera: Camera
) -> None:
    node = start(camera_info_topic="none")
    wait_for(lambda: node.depths)
    described = node.ask(
        "rcl_interfaces/DescribeParameters", "describe_parameters", names=["depth_scale", "engine"]
    )
    scale, engine = described.descriptors
    assert (scale.read_only, scale.floating_point_range[0].to_value) == (False, 100.0)
    assert engine.read_only
    assert "m2h-export" in engine.description
    assert not node.set("engine", "elsewhere").successful
    assert not node.set("depth_scale", 1000.0).successful
    assert node.set("min_depth", 3.0).successful
    assert "max_depth: 2 is not above min_depth 3" in node.set("max_depth", 2.0).reason
    assert node.set("min_depth", 0.0).successful
    wait_for_frames(node, 3)
    before = pixels(node.depths[-1])
    assert node.set("depth_scale", 2.0).successful
    wait_for_frames(node, 3)
    np.testing.assert_allclose(pixels(node.depths[-1]), 2 * before, rtol=1e-5)
    assert node.set("max_depth", float(before.mean())).successful
    wait_for_frames(node, 3)
    assert (pixels(node.depths[-1]) == 0).any()


def test_a_manager_takes_it_through_all_states(
    start: Callable[..., Node], camera: Camera, nyu_engine: Path, tmp_path: Path
) -> None:
    link = tmp_path / "engine"
    node = start(autostart=False, engine=link, camera_info_topic="none")
    assert node.state == "unconfigured"
    assert not node.transit("configure")  # there is no engine yet
    assert node.state == "unconfigured"
    wait_for(lambda: node.said("start") is not None and node.said("start").level == ERROR)
    assert f"{link}: no such engine folder" in node.said("start").message
    link.symlink_to(nyu_engine)
    assert node.transit("configure")
    assert node.state == "inactive"
    assert node.session.node.count_publishers(DEPTH) == 1
    assert not node.depths
    wait_for(lambda: node.said().level == STALE)
    for _ in range(2):
        assert node.transit("activate")
        node.depths.clear()
        wait_for(lambda: node.depths)
        wait_for(lambda: node.said().level == OK)
        before = time.monotonic()
        assert node.transit("deactivate")
        assert time.monotonic() - before < 2
        assert node.state == "inactive"
        time.sleep(0.2)
        node.depths.clear()
        time.sleep(0.3)
        assert not node.depths
        assert node.session.node.count_publishers(DEPTH) == 1
    assert node.transit("cleanup")
    wait_for(lambda: node.session.node.count_publishers(DEPTH) == 0)
    assert node.transit("configure")
    assert node.transit("activate")
    node.depths.clear()
    wait_for(lambda: node.depths)
    assert node.transit("shutdown")
    assert node.state == "finalized"
    assert node.end(signal.SIGTERM)[0] == 128 + signal.SIGTERM


def test_a_topic_that_falls_silent_is_reported_and_taken_up_again(
    start: Callable[..., Node], camera: Camera
) -> None:
    node = start(camera_info_topic="none")
    wait_for(lambda: node.depths and node.said() is not None and node.said().level == OK)
    camera.on = False
    wait_for(lambda: node.said().level == ERROR)
    wait_for(lambda: "no frame for 2 s" in node.said("pace").message)
    wait_for(lambda: "has a publisher, but no image has come" in node.said("source").message)
    camera.on = True
    back = time.monotonic()
    wait_for_frames(node, 2)
    wait_for(lambda: node.said().level == OK)
    assert time.monotonic() - back < 3
    assert node.state == "active"


def test_a_source_that_is_not_there_refuses_activation_and_can_be_tried_again(
    start: Callable[..., Node],
) -> None:
    node = start(autostart=False, source="camera:/dev/video77")
    assert node.transit("configure")
    for _ in range(2):
        assert not node.transit("activate")
        assert node.state == "inactive"
    assert "/dev/video77: no such camera" in node.log


@pytest.mark.parametrize(
    ("state", "number"),
    [
        ("unconfigured", signal.SIGINT),
        ("inactive", signal.SIGTERM),
        ("active", signal.SIGINT),
        ("active", signal.SIGTERM),
    ],
)
def test_a_signal_ends_it_soon_in_every_state(
    start: Callable[..., Node], camera: Camera, state: str, number: int
) -> None:
    node = start(autostart=False, camera_info_topic="none")
    assert node.state == "unconfigured"
    if state != "unconfigured":
        assert node.transit("configure")
    if state == "active":
        assert node.transit("activate")
        wait_for(lambda: node.depths)
    code, seconds = node.end(number)
    assert code == 128 + number
    assert seconds < 2
    assert "Traceback" not in node.log


def test_a_signal_in_the_middle_of_configuring_ends_it_too(
    start: Callable[..., Node], tmp_path: Path
) -> None:
    cache = tmp_path / "empty cache"  # so that every backend is measured, which takes seconds
    node = start({"M2H_CACHE": str(cache)}, backend="auto")
    wait_for(lambda: "transport:" in node.log)
    code, seconds = node.end(signal.SIGTERM)
    assert code == 128 + signal.SIGTERM
    assert seconds < 2.5
    assert "Traceback" not in node.log


def test_the_end_of_a_recording_ends_a_node_that_started_by_itself(
    start: Callable[..., Node], video: Path
) -> None:
    node = start(source=f"video:{video}")
    assert node.process.wait(15) == 0
    assert "Traceback" not in node.log


def test_the_end_of_a_recording_leaves_a_managed_node_inactive(
    start: Callable[..., Node], photographs: Path
) -> None:
    node = start(source=f"images:{photographs}/*.png", autostart=False)
    assert node.transit("configure")
    assert node.transit("activate")
    wait_for(lambda: node.state == "inactive")
    assert node.process.poll() is None


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"engin": "x"}, "no parameter 'engin'; the nearest is 'engine'"),
        ({"engine": "/nowhere"}, "/nowhere: no such engine folder"),
        ({"profile": "hidra"}, "no profile 'hidra'"),
        ({"source": "camera"}, "parameter source: 'camera' is not possible"),
        ({"image_depth_topic": "'/a//b'"}, "/a//b"),
    ],
)
def test_what_is_wrong_at_the_start_is_one_line_and_exit_code_2(
    start: Callable[..., Node], parameters: dict[str, str], text: str
) -> None:
    node = start(**parameters)
    assert node.process.wait(10) == 2
    assert text in node.log
    assert "Traceback" not in node.log


def test_a_recording_is_written_while_it_is_active(
    start: Callable[..., Node], camera: Camera, tmp_path: Path
) -> None:
    pytest.importorskip("mcap")
    node = start(record=tmp_path / "run.mcap", camera_info_topic="none")
    wait_for(lambda: len(node.depths) > 3)
    assert node.end(signal.SIGINT)[0] == 128 + signal.SIGINT
    from m2h_runtime.sources.bag import BagSource

    with BagSource(tmp_path / "run.mcap") as recorded:
        frame = recorded.read(1.0)
    assert frame is not None
    assert frame.stamp_ns in camera.stamps
    np.testing.assert_array_equal(frame.image, picture(0, SIZE))
