"""A simulation as a source: rendered in another process, watched here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from m2h_runtime.errors import InputError, SourceError
from m2h_runtime.simulation.episode import Episode, default_camera
from m2h_runtime.sources import EndOfStream, PacedSource, SimulationSource
from m2h_runtime.sources.simulation import parse_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from m2h_runtime.frame import Frame

ROOT = Path(__file__).resolve().parents[2]


def next_frame(source: SimulationSource, patience_s: float = 60.0) -> Frame:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if (frame := source.read(0.2)) is not None:
            return frame
    raise AssertionError("no frame came")


def lives(send: Callable[[int, int], None], number: int) -> bool:
    """Whether `os.kill` or `os.killpg` finds a process or group."""
    try:
        send(number, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("apartment", (9001, "handheld")),
        ("9001", (9001, "handheld")),
        ("9002-handheld", (9002, "handheld")),
        ("0-wheeled", (0, "wheeled")),
        ("17-drone", (17, "drone")),
    ],
)
def test_names(name: str, expected: tuple[int, str]) -> None:
    assert parse_name(name) == expected


@pytest.mark.parametrize(
    "name", ["", "house", "-1", "9001-", "9001-flying", "drone", "9001-drone ", "1" * 10]
)
def test_wrong_names_are_one_line(name: str) -> None:
    with pytest.raises(InputError, match="give apartment, or an apartment's seed") as error:
        SimulationSource(name)
    assert "\n" not in str(error.value)


def test_every_frame_of_the_walk_comes_once_in_order() -> None:
    with SimulationSource("3-drone", size=(48, 64), fps=10.0, duration_s=3.0) as source:
        assert source.describe() == "simulated apartment 3, drone, 64x48 at 10 FPS"
        assert (source.live, source.fps) == (False, 10.0)
        frames = [next_frame(source) for _ in range(30)]
        for _ in range(2):
            with pytest.raises(EndOfStream):
                next_frame(source)
        pid = source._process.pid
    assert pid is not None
    assert not lives(os.kill, pid)
    source.close()
    assert [frame.stamp_ns for frame in frames] == [i * 100_000_000 for i in range(30)]
    assert [frame.sequence for frame in frames] == list(range(30))
    episode = Episode(3, "drone", 3.0, default_camera(64, 48))
    for index in (0, 29):
        assert np.array_equal(frames[index].image, episode.shot(index / 10).image)


def test_frames_have_their_intrinsics_their_pose_and_their_motion() -> None:
    said: list[str | None] = []
    with SimulationSource("3-drone", size=(48, 64), fps=10.0, duration_s=1.0, health=said.append) as source:
        assert source.imu is not None
        before = next_frame(source)
        for _ in range(9):
            frame = next_frame(source)
            window = source.imu.window(before.stamp_ns, frame.stamp_ns)
            assert window is not None
            assert window.complete
            assert window.camera_rotation is not None
            assert frame.world_from_camera is not None
            assert before.world_from_camera is not None
            true = frame.world_from_camera[:3, :3].T @ before.world_from_camera[:3, :3]
            np.testing.assert_allclose(window.camera_rotation, true, atol=2e-3)
            before = frame
    camera = default_camera(64, 48)
    assert before.camera is not None
    assert before.camera.size == (48, 64)
    assert (before.camera.fx, before.camera.cx, before.camera.cy) == (camera.fx, camera.cx, camera.cy)
    assert said == []


def test_frames_left_out_leave_no_gap_in_the_motion() -> None:
    """Stamped anew too, as m2h-run --realtime does."""
    said: list[str | None] = []
    walk = SimulationSource("3-drone", (48, 64), 1000.0, 1.0, keep_pace=True, health=said.append)
    with PacedSource(walk) as source:
        assert source.imu is not None
        frames: list[Frame] = []
        complete = 0
        with suppress(EndOfStream):
            while True:
                frame = source.read(0.2)
                if frame is None:
                    continue
                if frames:
                    window = source.imu.window(frames[-1].stamp_ns, frame.stamp_ns)
                    complete += window is not None and window.complete
                frames.append(frame)
    assert complete >= len(frames) - 2
    assert abs(frames[-1].stamp_ns - time.time_ns()) < 5e9
    assert said == []


def test_keeping_pace_leaves_frames_out() -> None:
    """At a rate that nobody can render, the walk takes its own time all the same."""
    with SimulationSource("3-drone", size=(48, 64), fps=1000.0, duration_s=2.0, keep_pace=True) as source:
        stamps = [next_frame(source).stamp_ns]
        begun = time.monotonic()
        with pytest.raises(EndOfStream):
            while True:
                stamps.append(next_frame(source).stamp_ns)
        took = time.monotonic() - begun
    assert stamps[0] == 0
    assert (np.diff(stamps) > 0).all()
    assert 2 < len(stamps) < 1500
    assert took < 4


def test_closing_in_the_middle_ends_the_renderer() -> None:
    source = SimulationSource("3-drone", size=(48, 64))
    pid = source._process.pid
    assert pid is not None
    assert lives(os.kill, pid)
    source.close()
    source.close()
    assert not lives(os.kill, pid)


def test_a_killed_renderer_is_one_line() -> None:
    with SimulationSource("3-drone") as source:
        next_frame(source)
        assert source._process.pid is not None
        os.kill(source._process.pid, signal.SIGKILL)
        with pytest.raises(
            SourceError, match=r"apartment 3, drone.*killed by signal 9; free some memory"
        ) as error:
            while True:
                next_frame(source, 5.0)
    assert "\n" not in str(error.value)


def test_an_error_of_the_renderer_is_passed_on() -> None:
    with (
        SimulationSource("3-drone", duration_s=-1.0) as source,
        pytest.raises(InputError, match=r"a duration of -1\.0 s; give a positive one"),
    ):
        next_frame(source)


def m2h_run(*options: object) -> list[str]:
    return [sys.executable, "-m", "m2h_runtime.cli.run", *map(str, options), "--backend", "onnxruntime-cpu"]


@pytest.mark.parametrize("pace", [[], ["--realtime"]], ids=["all frames", "realtime"])
def test_m2h_run_watches_a_simulation(tmp_path: Path, tiny_engine: Path, pace: list[str]) -> None:
    report = tmp_path / "report.json"
    command = m2h_run(
        "--simulate", "9001-wheeled", "--engine", tiny_engine, "--frames", 4, "--report", report, *pace
    )
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "source: simulated apartment 9001, wheeled, 320x240 at 30 FPS" in done.stdout
    said = json.loads(report.read_text())
    assert said["frames"]["perceived"] == 4
    assert said["source"]["live"] is bool(pace)
    if not pace:
        assert sum(drop["frames"] for drop in said["drops"]) == 0


def test_m2h_run_names_a_wrong_simulation(tiny_engine: Path) -> None:
    done = subprocess.run(
        m2h_run("--simulate", "house", "--engine", tiny_engine), capture_output=True, text=True, check=False, cwd=ROOT
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("m2h-run: simulation 'house': give apartment, or an apartment's seed")
    assert done.stderr.count("\n") == 1


def test_ctrl_c_ends_the_run_and_its_renderer(tmp_path: Path, tiny_engine: Path) -> None:
    """A terminal sends it to both processes."""
    record = tmp_path / "walk.mp4"
    child = subprocess.Popen(
        m2h_run("--simulate", "--engine", tiny_engine, "--record", record),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".walk.*.mp4")):  # made with the first frame
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(child.pid, signal.SIGINT)
    stdout, stderr = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "Traceback" not in stderr
    assert "interrupted:" in stdout
    deadline = time.monotonic() + 10
    while lives(os.killpg, child.pid):
        assert time.monotonic() < deadline, "the renderer goes on"
        time.sleep(0.02)
