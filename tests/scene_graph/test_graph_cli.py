from __future__ import annotations

import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from house import CAMERA, SPACE, sighting, walk

from m2h_runtime.cli.graph import build_parser, main
from m2h_runtime.errors import SinkError
from m2h_runtime.frame import Frame
from m2h_runtime.perception import Perception
from m2h_runtime.pipeline.health import Health
from m2h_runtime.pipeline.prepare import Preparation
from m2h_runtime.ros.profiles import load_profile
from m2h_runtime.scene_graph.outputs import FILES
from m2h_runtime.scene_graph.recorded import RecordedOutputs, output_topics
from m2h_runtime.scene_graph.sink import GraphSink
from m2h_runtime.sinks.base import Observation
from m2h_runtime.sinks.mcap_file import McapSink

if TYPE_CHECKING:
    from m2h_runtime.scene_graph import SceneGraph
    from m2h_runtime.scene_graph.sightings import Sighting

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "sensor_msgs/msg/Image"


def observation(one: Sighting, number: int, *, placed: bool = True) -> Observation:
    """As a pipeline hands it out, of an engine that sees the truth at the camera's size."""
    manifest = SimpleNamespace(size=CAMERA.size, resize="stretch", focal_px=None)
    frame = Frame(
        one.rgb.copy(),
        one.stamp_ns,
        number,
        "camera_color_optical_frame",
        camera=CAMERA,
        world_from_camera=one.world_from_camera if placed else None,
    )
    ready = Preparation(manifest)(frame)  # type: ignore[arg-type]
    flat = np.zeros((*CAMERA.size, 3), np.float32)
    gray = np.full(CAMERA.size, 255, np.uint8)
    perception = Perception(one.depth.copy(), one.labels.copy(), gray, flat, gray.copy(), SPACE)
    return Observation(
        ready.frame, perception.stamped(ready.frame), 10.0, ready.fit, ready.depth_factor, ready.source
    )


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The house as `m2h-run --record walk.mcap` records it."""
    path = tmp_path_factory.mktemp("recording") / "walk.mcap"
    sink = McapSink(path, load_profile("default"))
    for number, one in enumerate(list(walk(-1.4)) + list(walk(1.0, 100))):
        sink.write(observation(one, number))
    sink.close()
    return path


def test_a_recording_becomes_a_graph(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "graph"
    assert main(["--bag", str(recording), "--rate", "10", "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == FILES
    assert capsys.readouterr().out.startswith("2 rooms, 2 objects")


def test_a_recording_is_read_as_it_was_recorded(recording: Path) -> None:
    recorded = RecordedOutputs(recording)
    assert recorded.label_space == SPACE
    one = next(recorded.sightings())
    expected = next(walk(-1.4))
    assert one is not None
    np.testing.assert_array_equal(one.depth, expected.depth)
    np.testing.assert_array_equal(one.labels, expected.labels)
    np.testing.assert_allclose(one.world_from_camera, expected.world_from_camera, atol=1e-9)
    recorded.close()


def test_a_simulated_walk_becomes_a_graph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        "--simulate",
        "1-wheeled",
        "--true",
        "--duration",
        "4",
        "--rate",
        "1",
        "--size",
        "96x72",
        "--out",
    ]
    assert main([*options, str(tmp_path / "graph")]) == 0
    assert "triangles" in capsys.readouterr().out


def test_an_engine_walks_through_a_simulation(
    tiny_engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tiny engine's classes mean nothing, and that is said before the walk."""
    command = [
        "--simulate",
        "--engine",
        str(tiny_engine),
        "--duration",
        "4",
        "--out",
        str(tmp_path / "graph"),
    ]
    assert main(command) == 2
    assert "label space classes_2: no roles are known" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--bag", "none.mcap"], "none.mcap: no such bag"),
        (["--bag", "a.mcap", "--true"], "--true goes with --simulate only"),
        (["--bag", "a.mcap", "--duration", "3"], "--duration goes with --simulate only"),
        (["--simulate", "--true", "--engine", "x"], "choose one"),
        (["--simulate", "--true", "--backend", "openvino"], "--backend goes with an --engine only"),
        (["--simulate", "--true", "--align"], "--align goes with an --engine only"),
        (["--bag", "a.mcap", "--align"], "--align goes with an --engine only"),
        (["--bag", "a.mcap", "--visual-odometry"], "--visual-odometry goes with an --engine only"),
        (["--simulate", "--visual-odometry"], "--visual-odometry goes with --bag only"),
        (["--simulate", "nowhere", "--true"], "simulation 'nowhere'"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*options, "--out", str(tmp_path / "graph")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "graph").exists()


def test_a_bag_with_images_alone_asks_for_an_engine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bare.mcap"
    sink = McapSink(path, load_profile("default"), outputs=())
    sink.write(observation(sighting((1, 1, 1), (2, 1, 1)), 0))
    sink.close()
    assert main(["--bag", str(path), "--out", str(tmp_path / "graph")]) == 2
    assert "has no depth, labels, camera_info and an image; name an --engine" in capsys.readouterr().err


def test_the_topics_of_hydra_and_of_our_bags_are_known() -> None:
    info = {"/hydra/input/camera/rgb/camera_info": "sensor_msgs/msg/CameraInfo"}
    hydra = dict.fromkeys(
        (
            "/camera/color/image_raw",
            "/hydra/input/camera/depth_registered/image_rect",
            "/hydra/input/camera/semantic/image_raw",
            "/hydra/input/camera/semantic_color/image_raw",
            "/hydra/input/camera/rgb/image_raw",
        ),
        IMAGE,
    )
    found = output_topics({**hydra, **info})
    assert found is not None
    assert found.labels == "/hydra/input/camera/semantic/image_raw"
    assert found.image == "/camera/color/image_raw"
    assert output_topics(info) is None


def test_the_sink_maps_at_its_own_pace_and_hands_out_graphs_as_it_goes() -> None:
    graphs: list[SceneGraph] = []
    sink = GraphSink(period_s=0.2, update_s=2.0, on_graph=graphs.append)
    for number, one in enumerate(walk(-1.4)):  # 48 images, 10 a second
        sink.write(observation(one, number))
    sink.close()
    assert sink.mapped == 24
    assert len(graphs) == 3
    assert graphs[-1].objects


def test_the_sink_leaves_out_frames_without_a_pose_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    sink = GraphSink()
    for number, one in enumerate(list(walk(-1.4))[:6]):
        sink.write(observation(one, number, placed=False))
    assert len(caplog.messages) == 1
    assert "no pose" in caplog.messages[0]
    with pytest.raises(SinkError, match="nothing was mapped: 6 frames had no pose"):
        sink.close()


def test_the_commands_of_the_page_are_understood() -> None:
    page = (ROOT / "docs" / "scene-graph.md").read_text(encoding="utf-8")
    commands = re.findall(r"m2h-graph (-.*)$", page, re.MULTILINE)
    assert len(commands) >= 4
    for line in commands:
        build_parser().parse_args(shlex.split(line))
    options = set(re.findall(r"--[a-z][a-z-]+", build_parser().format_help())) - {"--help"}
    assert options <= set(re.findall(r"--[a-z][a-z-]+", page))


def test_health_can_be_told(capsys: pytest.CaptureFixture[str]) -> None:
    from m2h_runtime.cli.graph import _tell
    from m2h_runtime.pipeline.health import Level

    Health(_tell).report("imu", Level.DEGRADED, "silent")
    assert capsys.readouterr().err == "m2h-graph: imu degraded: silent\n"
