"""m2h-run with temporal alignment and visual odometry, from the command line to report and recording."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from m2h_runtime.cli.run import main

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
ENGINE = ROOT / "engines" / "m2h-nano-apartments"
FRAMES = 30
WALK = ("--simulate", "9002-handheld", "--camera-fps", 15, "--frames", FRAMES)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "m2h_runtime.cli.run", "--engine", ENGINE, "--threads", 1, *arguments]
    done = subprocess.run(
        [*map(str, command)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def walks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """A recorded walk as the engine sees it, the same aligned, and the report of the second run."""
    pytest.importorskip("embreex", reason="rendering needs embreex, which has wheels for x86-64")
    folder = tmp_path_factory.mktemp("walks")
    plain, aligned, report = folder / "plain.mcap", folder / "aligned.mcap", folder / "run.json"
    run(*WALK, "--record", plain)
    done = run(*WALK, "--align", "--record", aligned, "--report", report)
    assert f"aligned by: 1 off, {FRAMES - 1} poses" in done.stdout
    return plain, aligned, json.loads(report.read_text())


def messages(path: Path, ending: str) -> list[tuple[int, Any]]:
    """Stamps and messages of the topics with this ending."""
    from rosbags.highlevel import AnyReader

    with AnyReader([path]) as reader:
        connections = [c for c in reader.connections if c.topic.endswith(ending)]
        return [
            (stamp_ns, reader.deserialize(raw, connection.msgtype))
            for connection, stamp_ns, raw in reader.messages(connections)
        ]


def jerks(path: Path) -> float:
    """Median over pixels and frames of the second difference of log depth: what no steady motion explains."""
    depths = []
    for _, message in messages(path, "/depth/image"):
        image = message.data.view(np.float32).reshape(message.height, message.width)
        depths.append(np.log(np.where(image > 0, image, np.nan)))
    assert len(depths) == FRAMES
    steps = [after - before for before, after in pairwise(depths)]
    return float(np.nanmedian([np.abs(after - before) for before, after in pairwise(steps)]))


def positions(path: Path) -> dict[int, NDArray[np.float64]]:
    """Of the camera by stamp, from /tf."""
    found = {}
    for stamp_ns, message in messages(path, "/tf"):
        at = message.transforms[0].transform.translation
        found[stamp_ns] = np.array([at.x, at.y, at.z])
    return found


def test_alignment_takes_flicker_out_of_what_is_published(walks: tuple[Path, Path, dict[str, Any]]) -> None:
    plain, aligned, _ = walks
    assert jerks(aligned) < 0.5 * jerks(plain)


def test_the_report_says_how_frames_were_aligned(walks: tuple[Path, Path, dict[str, Any]]) -> None:
    said = walks[2]
    assert said["alignment"]["frames"] == {"off": 1, "poses": FRAMES - 1}
    assert said["latency_ms"]["align"]["p50"] > 0
    assert said["health"] == []


def test_without_intrinsics_alignment_says_why_it_is_off(video: Path, tmp_path: Path) -> None:
    report = tmp_path / "run.json"
    done = run("--video", video, "--align", "--report", report)
    assert set(json.loads(report.read_text())["alignment"]["frames"]) == {"off"}
    assert done.stderr.count("alignment degraded: off: the camera's intrinsics are unknown; give") == 1


def test_visual_odometry_places_a_recording_that_has_no_odometry(
    walks: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    out, report = tmp_path / "located.mcap", tmp_path / "run.json"
    done = run(
        "--bag", walks[0], "--visual-odometry", "--align", "--record", out, "--report", report
    )  # of the bag's poses, which are on /tf, m2h-run reads none
    assert "drifts" in done.stderr
    assert json.loads(report.read_text())["alignment"]["frames"]["poses"] >= FRAMES - 5
    truth, found = positions(walks[0]), positions(out)
    shared = sorted(truth.keys() & found.keys())
    assert len(shared) >= FRAMES - 5
    way, drawn = (
        sum(float(np.linalg.norm(b - a)) for a, b in pairwise([table[stamp] for stamp in shared]))
        for table in (truth, found)
    )
    assert 0.5 < drawn / way < 2.0  # its metres are the network's


def test_a_source_with_poses_keeps_its_own(tmp_path: Path) -> None:
    pytest.importorskip("embreex", reason="rendering needs embreex, which has wheels for x86-64")
    out = tmp_path / "walk.mcap"
    done = run(*WALK[:-1], 5, "--visual-odometry", "--record", out)
    assert "visual odometry" not in done.stderr
    assert len(positions(out)) == 5


def test_masked_edges_without_alignment_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--simulate", "--mask-depth-edges"]) == 2
    assert capsys.readouterr().err == "m2h-run: --mask-depth-edges goes with --align\n"
