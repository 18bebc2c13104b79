"""`m2h-run --ros` as a robot has it: a process of its own, a reader in another, and what can happen to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from mjpeg_server import Camera, served
from ros_helpers import pixels, wait_for
from tiny_engine import make_tiny_engine, picture

from m2h_runtime.ros.session import RosSession

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]


class Robot:
    """A node that reads depth, labels, RGB and diagnostics, as they come."""

    def __init__(self, session: RosSession) -> None:
        from diagnostic_msgs.msg import DiagnosticArray
        from nav_msgs.msg import Odometry
        from sensor_msgs.msg import CameraInfo, Image

        self.got: dict[str, list[Any]] = {name: [] for name in ("depth", "labels", "rgb", "camera_info")}
        self.at: list[float] = []
        self.health: list[tuple[float, int, str]] = []
        node = session.node
        for name, got in self.got.items():
            kind = CameraInfo if name == "camera_info" else Image
            node.create_subscription(kind, TOPICS[name], got.append, 10)
        self.odometry: list[Any] = []
        node.create_subscription(Odometry, "odometry", self.odometry.append, 10)
        node.create_subscription(Image, TOPICS["depth"], lambda _: self.at.append(time.monotonic()), 10)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnosed, 10)

    def _diagnosed(self, message: Any) -> None:
        whole = next(status for status in message.status if status.name == "m2h: perception")
        self.health.append((time.monotonic(), whole.level[0], whole.message))

    def level_since(self, begin: float) -> set[int]:
        return {level for at, level, _ in self.health if at >= begin}


def _topics() -> dict[str, str]:
    from m2h_runtime.ros.profiles import absolute, load_profile

    return {name: absolute(output.topic, "m2h") for name, output in load_profile("default").outputs.items()}


TOPICS = _topics()


@pytest.fixture
def robot(ros_domain: int) -> Iterator[Robot]:
    with RosSession("robot") as session:
        yield Robot(session)


@pytest.fixture
def start(ros_domain: int, tmp_path: Path, nyu_engine: Path) -> Iterator[Callable[..., Run]]:
    """Starts `m2h-run --ros` with the tiny engine; ends what still runs."""
    started: list[Run] = []

    def begin(*arguments: object, engine: Path = nyu_engine) -> Run:
        started.append(Run(arguments, engine, tmp_path))
        return started[-1]

    yield begin
    for run in started:
        run.process.kill()
        run.process.wait()


class Run:
    def __init__(self, arguments: tuple[object, ...], engine: Path, folder: Path) -> None:
        self.report = folder / "report.json"
        self.said: list[str] = []
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "m2h_runtime.cli.run", "--ros", "--engine", engine),
                *("--backend", "onnxruntime-cpu", "--report", self.report, *map(str, arguments)),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        self.said.extend(self.process.stdout)

    def end(self, number: int = signal.SIGINT) -> dict[str, Any]:
        """Send the signal; the report, if it ended as it should within 2 s."""
        self.process.send_signal(number)
        assert self.process.wait(2.0) == 128 + number, self.said
        report: dict[str, Any] = json.loads(self.report.read_text())
        return report


def test_a_plain_subscriber_sees_units_encodings_and_one_header(
    robot: Robot, start: Callable[..., Run], tmp_path: Path
) -> None:
    """The done-when: a simulated walk in one process, all topics in another."""
    pytest.importorskip("embreex", reason="the simulation casts rays with it; x86-64 only")
    run = start("--simulate", "--camera-size", "96x64", "--camera-fps", 10)
    wait_for(lambda: all(len(got) >= 5 for got in robot.got.values()), 30)
    run.end()
    now = time.time()
    poses = {(m.header.stamp.sec, m.header.stamp.nanosec): m for m in robot.odometry}
    depth, labels, rgb, info = (
        {(m.header.stamp.sec, m.header.stamp.nanosec): m for m in robot.got[name]}
        for name in ("depth", "labels", "rgb", "camera_info")
    )
    common = sorted(depth.keys() & labels.keys() & rgb.keys() & info.keys() & poses.keys())
    assert len(common) >= 4
    for stamp in common:
        assert {m[stamp].header.frame_id for m in (depth, labels, rgb, info)} == {
            "camera_color_optical_frame"
        }
        assert (depth[stamp].encoding, labels[stamp].encoding, rgb[stamp].encoding) == (
            "32FC1",
            "mono8",
            "rgb8",
        )
        image = pixels(rgb[stamp]).astype(np.float32)
        assert np.abs(pixels(depth[stamp]) - (1 + image.mean(axis=-1) / 64)).max() < 0.02, "metres"
        assert np.array_equal(pixels(labels[stamp]), image[..., 0] > 128)
        assert (info[stamp].height, info[stamp].width) == (64, 96)
        assert poses[stamp].child_frame_id == info[stamp].header.frame_id
        assert 0.2 < poses[stamp].pose.pose.position.z < 2.5, "of the simulation, above its floor"
        assert info[stamp].k[0] == pytest.approx(96 / 2 / np.tan(np.radians(35)))
        assert 0 < now - stamp[0] - stamp[1] / 1e9 < 20, "stamped with the time of this machine"


def test_a_camera_that_goes_away_and_comes_back(robot: Robot, start: Callable[..., Run]) -> None:
    with served(Camera()) as url:
        port = int(url.split(":")[2].split("/")[0])
        run = start("--video", url)
        wait_for(lambda: len(robot.at) > 10, 30)
    gone = time.monotonic()
    wait_for(lambda: 2 in robot.level_since(gone), 3)
    time.sleep(1.5)
    silent = len(robot.at)
    with served(Camera(), port):
        back = time.monotonic()
        wait_for(lambda: len(robot.at) > silent, 4)
        assert robot.at[silent] - back < 3.0
        wait_for(lambda: robot.health[-1][1] < 2, 3)  # 1: there are no intrinsics, and somebody asks for them
        report = run.end()
    said = [(change["part"], change["level"]) for change in report["health"]]
    assert ("source", "failed") in said
    assert said[-1][1] == "ok"
    assert any("opening it again" in line for line in run.said)
    stamps = [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in robot.got["depth"]]
    assert all(later > earlier for earlier, later in pairwise(stamps))


def test_a_source_that_stalls_is_told_and_nothing_old_comes_after(
    robot: Robot, start: Callable[..., Run]
) -> None:
    stall = threading.Event()

    def send(index: int) -> bytes:
        while stall.is_set():
            time.sleep(0.01)
        return normal(index)

    camera = Camera()
    normal = camera.send
    camera.send = send
    with served(camera) as url:
        run = start("--video", url)
        wait_for(lambda: len(robot.at) > 10, 30)
        stall.set()
        begin = time.monotonic()
        wait_for(lambda: 2 in robot.level_since(begin), 3.5)
        assert any("no frame for 2 s" in text for _, _, text in robot.health)
        time.sleep(0.5)
        silent = len(robot.at)
        stall.clear()
        again = time.monotonic()
        wait_for(lambda: len(robot.at) > silent, 3)
        assert robot.at[silent] - again < 3.0
        report = run.end(signal.SIGTERM)
    assert report["latency_ms"]["age at ros"]["max"] < 1500


def test_what_a_real_engine_makes_of_nan_is_never_published(
    robot: Robot, start: Callable[..., Run], tmp_path: Path
) -> None:
    from dataclasses import replace

    from m2h_runtime.engine.manifest import read_manifest
    from m2h_runtime.label_space import load_label_space

    engine = make_tiny_engine(tmp_path / "fragile", fragile=True)
    replace(read_manifest(engine), label_space=load_label_space("nyud20")).write(engine)
    for index in range(30):
        image = np.zeros((64, 96, 3), np.uint8) if 10 <= index < 15 else picture(index)
        cv2.imwrite(str(tmp_path / f"{index:02}.png"), image[..., ::-1])
    run = start("--images", tmp_path / "*.png", "--loop", engine=engine)
    wait_for(lambda: len(robot.got["depth"]) > 40, 30)
    report = run.end()
    for message in robot.got["depth"]:
        assert np.all(np.isfinite(pixels(message)))
    lost = {drop["reason"]: drop["frames"] for drop in report["drops"]}
    assert lost["the engine's output was nonsense"] >= 5
    assert any(
        change["part"] == "engine" and "the depth is not finite" in change["text"]
        for change in report["health"]
    )
    assert {1, 2} & {level for _, level, _ in robot.health}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_source_is_away_ends_it_soon(
    robot: Robot, start: Callable[..., Run], number: int
) -> None:
    with served(Camera()) as url:
        run = start("--video", url)
        wait_for(lambda: len(robot.at) > 3, 30)
    time.sleep(0.7)
    report = run.end(number)
    assert report["outcome"] == "interrupted"


def test_a_topic_in_and_topics_out(robot: Robot, start: Callable[..., Run], ros_domain: int) -> None:
    """With nobody on the input at first: the run waits and says so."""
    from sensor_msgs.msg import Image

    run = start("--topic", "/camera/color/image_raw", "--profile", "default")
    wait_for(lambda: any("nobody publishes" in line for line in run.said), 20)
    with RosSession("camera") as camera:
        publisher = camera.node.create_publisher(Image, "/camera/color/image_raw", 1)
        for index in range(200):
            message = Image(height=64, width=96, encoding="bgr8", step=288)
            message.header.stamp = camera.node.get_clock().now().to_msg()
            message.header.frame_id = "left_optical"
            message.data = picture(index % 7)[..., ::-1].tobytes()
            publisher.publish(message)
            time.sleep(0.02)
            if len(robot.got["depth"]) > 20:
                break
    run.end()
    assert len(robot.got["depth"]) > 20
    assert robot.got["depth"][-1].header.frame_id == "left_optical"


def test_ros_arguments_rename_the_node_and_its_topics(robot: Robot, start: Callable[..., Run]) -> None:
    with served(Camera()) as url:
        run = start(
            "--video", url, "--ros-args", "-r", "__node:=eyes", "-r", f"~/depth/image:={TOPICS['depth']}"
        )
        wait_for(lambda: len(robot.at) > 3, 30)
        run.end()
    assert any("node /eyes" in line for line in run.said)
