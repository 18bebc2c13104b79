"""From m2h-run to m2h-graph, as the README has it: a walk is recorded, and the recording becomes a graph."""

from __future__ import annotations

from pathlib import Path

import pytest
from mcap.reader import make_reader
from mcap.writer import Writer

from m2h_runtime.cli.graph import main
from m2h_runtime.cli.run import main as run
from m2h_runtime.scene_graph.outputs import FILES

ENGINE = Path(__file__).resolve().parents[2] / "engines" / "m2h-nano-apartments"
PERCEIVED = ["--engine", str(ENGINE), "--backend", "onnxruntime-cpu", "--threads", "1"]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of a simulated walk with what the demo engine saw."""
    pytest.importorskip("embreex", reason="rendering needs embreex, which has wheels for x86-64")
    path = tmp_path_factory.mktemp("walk") / "walk.mcap"
    walk = ["--simulate", "9002", "--camera-fps", "10", "--frames", "20"]
    assert run([*walk, *PERCEIVED, "--record", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def unplaced(recording: Path) -> Path:
    """The same without its poses."""
    path = recording.with_name("unplaced.mcap")
    with recording.open("rb") as source, path.open("wb") as target:
        writer, channels = Writer(target), {}
        writer.start("ros2")
        for schema, channel, message in make_reader(source).iter_messages():
            if channel.topic == "/tf":
                continue
            if channel.id not in channels:
                known = writer.register_schema(schema.name, schema.encoding, schema.data)
                channels[channel.id] = writer.register_channel(channel.topic, channel.message_encoding, known)
            writer.add_message(channels[channel.id], message.log_time, message.data, message.publish_time)
        writer.finish()
    return path


def test_what_was_recorded_becomes_a_graph(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "graph"
    assert main(["--bag", str(recording), "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == FILES
    said = capsys.readouterr()
    assert said.err == ""
    assert int(said.out.split("mesh of ")[1].split()[0]) > 5000
    assert said.out.endswith(f"look at {out}/graph.html, or its picture {out}/graph.jpg\n")


def test_a_recording_is_perceived_anew_and_aligned(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "graph"
    assert main(["--bag", str(recording), *PERCEIVED, "--align", "--out", str(out)]) == 0
    assert capsys.readouterr().err == ""
    assert "engine m2h-nano" in (out / "graph.html").read_text()


def test_without_poses_visual_odometry_finds_them(
    unplaced: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "graph")
    assert main(["--bag", str(unplaced), "--out", out]) == 2
    assert "has no poses (/tf); name an --engine" in capsys.readouterr().err
    assert main(["--bag", str(unplaced), *PERCEIVED, "--out", out]) == 2
    assert "20 frames had no pose or no intrinsics; give --odometry" in capsys.readouterr().err
    assert main(["--bag", str(unplaced), *PERCEIVED, "--visual-odometry", "--out", out]) == 0
    assert "triangles" in capsys.readouterr().out
