"""m2h-run as its user meets it: real processes, real engines, real files."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from conftest import VIDEO_FRAMES
from tiny_engine import make_tiny_engine, picture

from m2h_runtime import shipped as shipped_module
from m2h_runtime.cli.run import main
from m2h_runtime.cli.status import StatusLine
from m2h_runtime.errors import InputError
from m2h_runtime.shipped import shipped_engine

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
PINNED = (
    "--camera --video --images --simulate --engine --backend --record --sheet --frames --report --realtime --threads "
    "--allow-unverified --camera-size --camera-fps"
)
COMMAND = [sys.executable, "-m", "m2h_runtime.cli.run"]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def m2h_run(
    *arguments: object, cwd: Path | None = None, before: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=cwd,
        env=environment(),
        preexec_fn=before,  # sets a limit of the child, nothing else
    )


def on_cpu(engine: Path) -> tuple[object, ...]:
    return "--engine", engine, "--backend", "onnxruntime-cpu"


def frames_in(path: Path) -> int:
    return round(cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT))


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute at 25 FPS."""
    path = tmp_path_factory.mktemp("video") / "minute.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (160, 120))
    image = picture(4, (120, 160))
    for _ in range(60 * 25):
        writer.write(image)
    writer.release()
    return path


@pytest.fixture(scope="module")
def slow_engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny engine with so much idle work that a frame takes some 100 ms."""
    return make_tiny_engine(tmp_path_factory.mktemp("engines") / "slow", work=1500)


# Runs that go well


def test_a_video_is_processed_recorded_and_reported(tmp_path: Path, video: Path, tiny_engine: Path) -> None:
    record, sheet, report = tmp_path / "out.mp4", tmp_path / "out.png", tmp_path / "out.json"
    done = m2h_run(
        "--video", video, *on_cpu(tiny_engine), "--record", record, "--sheet", sheet, "--report", report
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "backend: onnxruntime-cpu: as asked; self-test passed" in done.stdout
    assert "weights: tests/tiny_engine.py" in done.stdout
    assert f"finished: {VIDEO_FRAMES} frames" in done.stdout
    assert frames_in(record) == VIDEO_FRAMES
    assert cv2.imread(str(sheet)).shape[1] == 5 * 256
    said = json.loads(report.read_text())
    assert said["outcome"] == "finished"
    assert said["error"] is None
    assert said["frames"] == {
        "captured": VIDEO_FRAMES,
        "perceived": VIDEO_FRAMES,
        "written": {"record": VIDEO_FRAMES, "sheet": VIDEO_FRAMES},
    }
    assert sum(drop["frames"] for drop in said["drops"]) == 0
    stages = ["capture", "queue", "preprocess", "engine", "hand-out", "sink record", "sink sheet"]
    assert list(said["latency_ms"]) == stages
    assert said["health"] == []
    for stage in said["latency_ms"].values():
        assert stage["count"] == VIDEO_FRAMES
        assert 0 <= stage["p50"] <= stage["p95"] <= stage["p99"] <= stage["max"]
    assert said["engine"]["name"] == "tiny"
    assert said["engine"]["backend"] == "onnxruntime-cpu"
    assert said["engine"]["random_weights"] is False
    assert len(said["engine"]["engine_id"]) == 16
    assert 0 < said["time_to_first_perception_s"] < 3
    assert said["fps"] > 0
    assert said["machine"]["cores"] >= 1
    assert said["machine"]["versions"]["onnxruntime"]


def test_images_are_processed_and_random_weights_are_said(tmp_path: Path, photographs: Path) -> None:
    engine = make_tiny_engine(tmp_path / "random", random_weights=True)
    report = tmp_path / "out.json"
    done = m2h_run("--images", photographs / "*.png", *on_cpu(engine), "--report", report)
    assert done.returncode == 0, done.stderr
    assert "weights: RANDOM, not trained" in done.stdout
    said = json.loads(report.read_text())
    assert said["frames"]["perceived"] == 4
    assert said["engine"]["random_weights"] is True


def test_the_frame_limit_ends_a_run(tmp_path: Path, long_video: Path, tiny_engine: Path) -> None:
    record = tmp_path / "out.mp4"
    done = m2h_run("--video", long_video, *on_cpu(tiny_engine), "--frames", 3, "--record", record)
    assert done.returncode == 0, done.stderr
    assert "finished: 3 frames" in done.stdout
    assert frames_in(record) == 3


def test_the_engine_has_nearly_all_of_the_time(tmp_path: Path, long_video: Path, slow_engine: Path) -> None:
    report = tmp_path / "out.json"
    record = tmp_path / "out.mp4"
    done = m2h_run(
        "--video", long_video, *on_cpu(slow_engine), "--frames", 8, "--report", report, "--record", record
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(report.read_text())["engine_share"] > 0.9


def test_realtime_drops_frames_of_a_slow_engine_and_accounts_for_each(
    tmp_path: Path, video: Path, slow_engine: Path
) -> None:
    report, record = tmp_path / "out.json", tmp_path / "out.mp4"
    done = m2h_run(
        "--video", video, *on_cpu(slow_engine), "--realtime", "--report", report, "--record", record
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(report.read_text())
    assert said["source"]["live"] is True
    replaced = next(drop["frames"] for drop in said["drops"] if "newer frame" in drop["reason"])
    assert replaced > 0
    assert f"dropped {replaced} at slot: a newer frame came" in done.stdout
    assert said["frames"]["perceived"] + replaced == said["frames"]["captured"] == VIDEO_FRAMES
    engine_ms = said["latency_ms"]["engine"]["p50"]
    assert engine_ms <= said["latency_ms"]["age"]["p50"] < engine_ms + 200
    assert abs(frames_in(record) - VIDEO_FRAMES) <= 5, "it plays at the recorded pace in spite of the drops"


def test_unverified_engines_open_only_when_asked_for(tmp_path: Path, photographs: Path) -> None:
    engine = make_tiny_engine(tmp_path / "new", verdict="unverified")
    refused = m2h_run("--images", photographs / "*.png", *on_cpu(engine))
    assert refused.returncode == 2
    assert "no passing parity verdict (unverified)" in one_line(refused)
    assert m2h_run("--images", photographs / "*.png", *on_cpu(engine), "--allow-unverified").returncode == 0


def test_help_names_every_option() -> None:
    done = m2h_run("--help")
    assert done.returncode == 0
    for option in PINNED.split():
        assert option in done.stdout


# Ctrl-C


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_cleanly(
    tmp_path: Path, long_video: Path, tiny_engine: Path, number: signal.Signals, code: int
) -> None:
    record, sheet, report = tmp_path / "out.mp4", tmp_path / "out.png", tmp_path / "out.json"
    arguments = ["--video", long_video, "--realtime", *on_cpu(tiny_engine)]
    arguments += ["--record", record, "--sheet", sheet, "--report", report]
    child = subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    wait_for_first_frame(tmp_path, child)
    time.sleep(0.4)
    child.send_signal(number)
    stdout, stderr = child.communicate(timeout=20)
    assert (child.returncode, stderr) == (code, "")
    assert "interrupted:" in stdout
    said = json.loads(report.read_text())
    assert said["outcome"] == "interrupted"
    assert 0 < said["frames"]["perceived"] < 1000
    assert said["frames"]["written"]["record"] == said["frames"]["perceived"]
    assert frames_in(record) >= said["frames"]["perceived"]
    assert cv2.imread(str(sheet)) is not None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.json", "out.mp4", "out.png"]


def wait_for_first_frame(folder: Path, child: subprocess.Popen[str]) -> None:
    """The recording's temporary file is made with the first frame."""
    deadline = time.monotonic() + 20
    while not list(folder.glob(".out.*.mp4")):
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


# Runs that fail as foreseen


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line on stderr, which is all of it."""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("m2h-run: ")
    return lines[0]


# Options, in which {tmp} is the folder of the fixture below, and what the one line says.
FAILURES = {
    "no source": ("", "--bag --topic --simulate is required"),
    "two sources": ("--camera 0 --images x", "not allowed with"),
    "missing camera": ("--camera /dev/video93", "/dev/video93: no such camera"),
    "no camera": ("--camera /dev/null", "/dev/null: not a camera"),
    "missing video": ("--video {tmp}/none.mp4", "none.mp4: no such video file"),
    "no video": ("--video {tmp}/text.mp4", "text.mp4: no frame in it can be decoded"),
    "no images": ("--images {tmp}/*.jpeg", "no image file fits"),
    "16-bit image": ("--images {tmp}/deep.png", "deep.png: uint16 (64, 96, 3) is not an 8-bit"),
    "no image": ("--images {tmp}/text.png", "text.png: not an image"),
    "no frames": ("--video x --frames 0", "expected a whole number from 1 up, got '0'"),
    "camera option": (
        "--video x --camera-fps 30",
        "--oak and --simulate only, not with --video",
    ),
    "realtime camera": ("--camera 0 --realtime", "and --simulate only, not with --camera"),
    "bad size": ("--camera 0 --camera-size big", "expected WIDTHxHEIGHT, e.g. 1280x720, got 'big'"),
    "missing folder": ("--video x --record {tmp}/none/a.mp4", "a.mp4: cannot be written"),
    "read-only place": ("--video x --report /proc/a.json", "/proc/a.json: cannot be written"),
    "sheet in a file": ("--video x --sheet {tmp}/text.png/a.png", "a.png: cannot be written"),
    "record over input": ("--video {tmp}/text.mp4 --record {tmp}/text.mp4", "is the input;"),
    "avi": ("--video x --record {tmp}/a.avi", "recordings are MP4 files, or MCAP; call it a.mp4 or .mcap"),
}


@pytest.fixture
def bad_inputs(tmp_path: Path) -> Path:
    cv2.imwrite(str(tmp_path / "deep.png"), np.zeros((64, 96, 3), np.uint16))
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "text.png").write_text("no image")
    return tmp_path


@pytest.mark.parametrize(("options", "said"), FAILURES.values(), ids=FAILURES)
def test_a_foreseen_failure_is_one_line(bad_inputs: Path, tiny_engine: Path, options: str, said: str) -> None:
    before = sorted(bad_inputs.iterdir())
    done = m2h_run(*options.format(tmp=bad_inputs).split(), *on_cpu(tiny_engine))
    assert said in one_line(done)
    assert done.returncode == 2
    assert sorted(bad_inputs.iterdir()) == before, "nothing half-made is left"


@pytest.mark.parametrize(
    ("engine", "backend", "said"),
    [
        ("nowhere", "auto", "nowhere: no such engine folder"),
        ("tiny", "tensorflow", "no backend 'tensorflow'; there are auto, "),
    ],
)
def test_a_bad_engine_option_is_one_line(
    tmp_path: Path, video: Path, tiny_engine: Path, engine: str, backend: str, said: str
) -> None:
    folder = tiny_engine if engine == "tiny" else tmp_path / engine
    done = m2h_run("--video", video, "--engine", folder, "--backend", backend)
    assert said in one_line(done)
    assert done.returncode == 2


def test_a_bad_image_among_good_ones_is_found_and_the_report_says_so(
    tmp_path: Path, photographs: Path, tiny_engine: Path
) -> None:
    for index, good in enumerate(sorted(photographs.iterdir())[:2]):
        (tmp_path / f"{index}.png").write_bytes(good.read_bytes())
    (tmp_path / "2.png").write_bytes((tmp_path / "1.png").read_bytes()[:60])
    report = tmp_path / "out.json"
    done = m2h_run("--images", tmp_path / "*.png", *on_cpu(tiny_engine), "--report", report)
    assert "2.png: not an image that OpenCV reads, or damaged" in one_line(done)
    assert done.returncode == 2
    said = json.loads(report.read_text())
    assert said["outcome"] == "failed"
    assert "2.png" in said["error"]
    assert said["frames"]["perceived"] == 2


def test_a_full_disk_while_recording_is_one_line_and_leaves_no_video(
    tmp_path: Path, long_video: Path, tiny_engine: Path
) -> None:
    def no_file_over_100_kb() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    record, report = tmp_path / "out.mp4", tmp_path / "out.json"
    done = m2h_run(
        "--video", long_video, *on_cpu(tiny_engine), "--record", record, "--report", report,
        before=no_file_over_100_kb,
    )  # fmt: skip
    assert "out.mp4: the recording cannot be written (file too large)" in one_line(done)
    assert done.returncode == 2
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]
    assert json.loads(report.read_text())["outcome"] == "failed"


# Pieces


def test_the_demo_engine_is_found_here_or_its_absence_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shipped_module, "DEMO_ENGINE", Path("engines") / "no-such-demo")
    with pytest.raises(InputError, match="no --engine given and no engines/no-such-demo here"):
        shipped_engine()
    (tmp_path / "engines" / "no-such-demo").mkdir(parents=True)
    assert shipped_engine() == tmp_path / "engines" / "no-such-demo"


def test_the_command_can_be_called_as_a_function(
    photographs: Path, tiny_engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGINT)
    assert main(["--images", str(photographs / "*.png"), *map(str, on_cpu(tiny_engine))]) == 0
    assert "finished: 4 frames" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is before


class Stream:
    """A text stream that is a terminal, or not, and keeps what was written."""

    def __init__(self, terminal: bool) -> None:
        self.terminal = terminal
        self.text = ""

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""


@pytest.mark.parametrize(("terminal", "shown"), [(True, 41), (False, 2)])
def test_the_status_line_is_rewritten_on_a_terminal_and_rare_elsewhere(terminal: bool, shown: int) -> None:
    from m2h_runtime.pipeline import Counts

    class Run:
        counts = Counts(captured=9, perceived=7, replaced=1, lost={}, written={}, dropped={"record": 1})
        recent_fps = 29.96

    now_ns = 0
    stream: Any = Stream(terminal)
    line = StatusLine(stream, lambda: now_ns)
    for now_ns in range(0, 10_000_000_001, 50_000_000):  # noqa: B007  # 10 s at 20 FPS
        line.update(Run)  # type: ignore[arg-type]
    line.end()
    assert stream.text.count("7 frames   30.0 FPS   2 dropped") == shown
    assert stream.text.count("\n") == (1 if terminal else 2)
    assert stream.text.startswith("\r") == terminal


def test_a_recordings_replay_gives_the_same_perceptions(
    tmp_path: Path, video: Path, tiny_engine: Path
) -> None:
    """Camera to MCAP, that MCAP through the engine to a second one: bit for bit the same outputs."""
    first, second = tmp_path / "first.mcap", tmp_path / "second.mcap"
    done = m2h_run("--video", video, *on_cpu(tiny_engine), "--record", first)
    assert (done.returncode, done.stderr) == (0, "")
    done = m2h_run("--bag", first, *on_cpu(tiny_engine), "--record", second)
    assert (done.returncode, done.stderr) == (0, "")
    was, again = messages(first), messages(second)
    outputs = {topic for topic in was if topic.startswith("/m2h/")}
    assert {"/m2h/depth/image", "/m2h/labels/image", "/m2h/normals/image"} <= outputs
    for topic in outputs:
        assert len(was[topic]) == VIDEO_FRAMES
        assert was[topic] == again[topic], topic


def messages(path: Path) -> dict[str, list[tuple[int, bytes]]]:
    """Log time and bytes of every message, by topic."""
    from mcap.reader import make_reader

    found: dict[str, list[tuple[int, bytes]]] = {}
    with path.open("rb") as stream:
        for _, channel, message in make_reader(stream).iter_messages():
            found.setdefault(channel.topic, []).append((message.log_time, message.data))
    return found
