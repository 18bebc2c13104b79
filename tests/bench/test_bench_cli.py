"""m2h-bench as its user meets it: a real engine, real processes, real files."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from stand_ins import NumpyEngine
from tiny_engine import make_tiny_engine

from m2h_runtime import open_engine
from m2h_runtime.bench.against import against_result
from m2h_runtime.bench.loop import LoopRun
from m2h_runtime.bench.sensors import Sensors
from m2h_runtime.bench.slowed import SlowedEngine
from m2h_runtime.bench.soak import soak
from m2h_runtime.bench.stopping import Stop
from m2h_runtime.cli.bench import main
from m2h_runtime.errors import EngineError

if TYPE_CHECKING:
    from m2h_runtime.perception import Perception

ROOT = Path(__file__).resolve().parents[2]
BACKEND = ["--backend", "onnxruntime-cpu", "--threads", "1"]


@pytest.fixture(scope="module")
def measured(tiny_engine: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all reports of one short run of everything."""
    folder = tmp_path_factory.mktemp("bench")
    files = [
        part for kind in ("json", "md", "png", "html") for part in (option(kind), str(folder / f"out.{kind}"))
    ]
    settings = ["--seconds", "1.5", "--rates", "20,40", "--soak", "0.04", "--starts", "1"]
    assert main(["--engine", str(tiny_engine), *BACKEND, *settings, *files]) == 0
    return folder


def option(kind: str) -> str:
    return "--markdown" if kind == "md" else f"--{kind}"


@pytest.fixture
def result(measured: Path) -> dict[str, Any]:
    return dict(json.loads((measured / "out.json").read_text()))


def test_the_json_names_machine_and_engine(result: dict[str, Any], tiny_engine: Path) -> None:
    assert result["schema"] == "m2h-bench/1"
    assert result["outcome"] == "finished"
    with open_engine(tiny_engine, "onnxruntime-cpu") as engine:
        assert result["engine"]["engine_id"] == engine.manifest.engine_id()
    assert result["engine"]["backend"] == "onnxruntime-cpu"
    assert (result["engine"]["threads"], result["engine"]["size"]) == (1, [64, 96])
    assert {
        "cpu",
        "cores",
        "governor",
        "memory_bytes",
        "gpu",
        "power_mode",
        "load_average",
        "versions",
    } <= set(result["machine"])


def test_the_figures_agree_with_each_other(result: dict[str, Any]) -> None:
    latency = result["latency"]
    times = [ms for block in latency["blocks"] for ms in block["times_ms"]]
    assert latency["ms"]["count"] == len(times) == sum(latency["histogram"]["counts"])
    assert latency["ms"]["p50"] == pytest.approx(np.median(times), abs=0.001)
    assert (latency["reference"]["name"], latency["reference"]["threads"]) == ("m2h-nano", 1)
    assert all(len(block["reference_ms"]) >= 2 for block in latency["blocks"])
    assert result["warm_up"]["first_ms"] > 0
    for run in [*result["loop"], result["peak"], result["soak"]]:
        lost = sum(drop["frames"] for drop in run["drops"] if drop["stage"] in ("slot", "engine"))
        assert run["captured"] == run["perceived"] + lost
        assert set(run["stages_ms"]) == {"capture", "queue", "preprocess", "engine"}


def test_the_loop_keeps_the_rate_of_the_camera(result: dict[str, Any]) -> None:
    assert [run["input_hz"] for run in result["loop"]] == [20.0, 40.0]
    for run in result["loop"]:
        assert run["captured"] == pytest.approx(1.5 * run["input_hz"], rel=0.3)
        assert run["fps"] <= 1.2 * run["input_hz"]
        assert run["age_ms"]["p50"] >= run["stages_ms"]["engine"]["p50"]
    assert result["peak"]["fps"] > 40
    assert "age_ms" not in result["peak"]


def test_threads_are_told_by_name(result: dict[str, Any]) -> None:
    shares = result["peak"]["cores_by_thread"]
    assert {"MainThread", "capture", "sink bench"} <= set(shares)
    assert shares["MainThread"] > shares["sink bench"]


def test_the_soak_has_memory_and_says_what_is_unknown(result: dict[str, Any]) -> None:
    soaked = result["soak"]
    memory = soaked["sensors"]["memory_mb"]["resident"]
    assert len(memory) == len(soaked["sensors"]["at_s"]) >= 8
    assert memory[-1] > 20
    assert not set(soaked["unknown"]) & set(soaked["sensors"])


def test_a_cold_start_has_its_steps(result: dict[str, Any]) -> None:
    for state in ("cold", "warm"):
        steps = result["cold_start"][state]["median_s"]
        assert sum(seconds for name, seconds in steps.items() if name != "total") == pytest.approx(
            steps["total"], abs=0.01
        )


def test_markdown_png_and_html_are_there(measured: Path, result: dict[str, Any]) -> None:
    page = (measured / "out.md").read_text()
    assert f"| engine alone | {result['latency']['ms']['p50']:.2f} |" in page
    assert "40 Hz: age at publish" in page
    assert "Seconds to the first perception" in page
    assert cv2.imread(str(measured / "out.png")).shape[1] > 800
    web = (measured / "out.html").read_text()
    assert "data:image/png;base64," in web
    assert not re.search(r'(src|href)="(?!data:)', web)


def test_a_result_is_no_different_from_itself(
    measured: Path, result: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = quiet_copies(result, tmp_path, 1.0)
    assert main(["--compare", a, b]) == 0
    assert capsys.readouterr().out.startswith("no difference (B/A 1.000, 95 % interval 0.9")


def test_fail_if_slower_is_an_exit_code(
    result: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = quiet_copies(result, tmp_path, 1.3)
    assert main(["--compare", a, b, "--fail-if-slower", "10"]) == 1
    assert "B is 30.0 % slower (" in capsys.readouterr().out
    assert main(["--compare", a, b, "--fail-if-slower", "40"]) == 0
    assert main(["--compare", b, a, "--fail-if-slower", "10"]) == 0


def quiet_copies(result: dict[str, Any], folder: Path, slower: float) -> list[str]:
    """The result as if nobody had disturbed it, and the same with longer times."""
    names = []
    for name, factor in (("a", 1.0), ("b", slower)):
        copy = json.loads(json.dumps(result))
        block = copy["latency"]["blocks"][0]
        times = [factor * (2.0 + 0.01 * (i % 7)) for i in range(100)]
        copy["latency"]["blocks"] = [
            {**block, "at_s": 0.2 * i, "times_ms": times, "probe_ms": 1.0, "others": 0.0} for i in range(20)
        ]
        (folder / f"{name}.json").write_text(json.dumps(copy))
        names.append(str(folder / f"{name}.json"))
    return names


def test_a_host_that_changed_its_speed_is_not_blamed_on_the_engine(
    result: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = quiet_copies(result, tmp_path, 1.3)
    other = json.loads(Path(b).read_text())
    for block in other["latency"]["blocks"]:
        block["reference_ms"] = [1.3 * ms for ms in block["reference_ms"]]
    Path(b).write_text(json.dumps(other))
    assert main(["--compare", a, b]) == 0
    assert capsys.readouterr().out.startswith("no difference (B/A 1.000")
    other["latency"]["reference"] = None  # as from a machine on which it does not open
    Path(b).write_text(json.dumps(other))
    assert main(["--compare", a, b]) == 0
    assert "B is 30.0 % slower (" in capsys.readouterr().out


def test_without_a_reference_engine_it_measures_and_says_what_is_lost(
    tiny_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("m2h_runtime.shipped.DEMO_ENGINE", Path("engines") / "gone")
    told = tmp_path / "a.json"
    measured = ["--engine", str(tiny_engine), *BACKEND, "--only", "latency", "--seconds", "0.5"]
    assert main([*measured, "--json", str(told)]) == 0
    assert (
        "no reference engine takes turns, so --compare can only judge runs of one clock: "
        in capsys.readouterr().err
    )
    assert json.loads(told.read_text())["latency"]["reference"] is None


def test_what_differs_is_said(
    result: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = quiet_copies(result, tmp_path, 1.3)
    other = json.loads(Path(b).read_text())
    other["engine"]["threads"] = 2
    Path(b).write_text(json.dumps(other))
    assert main(["--compare", a, b]) == 0
    told = capsys.readouterr()
    assert told.err == "m2h-bench: not only the engine differs: threads (1 and 2)\n"
    assert "slower" in told.out
    other["machine"]["cpu"] = "Another"
    Path(b).write_text(json.dumps(other))
    assert main(["--compare", a, b]) == 0
    assert "cannot tell: the machines differ: cpu (" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"schema": "m2h-bench/0"}', "its schema is 'm2h-bench/0', expected 'm2h-bench/1'"),
        ("[]", "its schema is None"),
        ("no json", "is no JSON"),
        ('{"schema": "m2h-bench/1", "machine": {}, "engine": {}}', "has no latency of the engine"),
        ('{"schema": "m2h-bench/1", "latency": {"blocks": [{}]}}', "has no latency of the engine"),
    ],
)
def test_compare_refuses_what_it_cannot_read_in_one_line(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    assert main(["--compare", str(path), str(path)]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--fail-if-slower 5", "goes with --compare or --against"),
        ("--compare a b --seconds 3", "--seconds does not go with --compare"),
        ("--json /nowhere/x.json", "/nowhere/x.json: cannot be written"),
        ("--engine /nowhere", "no such engine folder"),
        ("--compare /nowhere/a /nowhere/b", "/nowhere/a: cannot be read"),
    ],
)
def test_what_cannot_be_is_one_line(arguments: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(shlex.split(arguments)) == 2
    assert said in capsys.readouterr().err


def test_an_unknown_part_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "speed"])
    assert "there are latency, loop, peak, soak, cold-start" in capsys.readouterr().err


def test_against_finds_more_work_and_fails_for_ci(tiny_engine: Path, tmp_path: Path) -> None:
    heavy = make_tiny_engine(tmp_path / "heavy", work=30)
    out = tmp_path / "out.json"
    told = ["--json", str(out), "--seconds", "2", "--fail-if-slower", "20"]
    assert main(["--engine", str(tiny_engine), *BACKEND, "--against", str(heavy), *told]) == 1
    against = json.loads(out.read_text())["against"]
    assert against["verdict"]["kind"] == "slower"
    assert against["verdict"]["ratio"] > 1.2
    assert {turn["first"] for turn in against["turns"]} <= {"A", "B"}


def test_an_engine_that_is_slowed_is_found_in_turns(tmp_path: Path) -> None:
    folder = make_tiny_engine(tmp_path / "engine", work=20)
    with (
        open_engine(folder, "onnxruntime-cpu", threads=1) as a,
        open_engine(folder, "onnxruntime-cpu", threads=1) as b,
    ):
        slowed = SlowedEngine(b, 0.5)
        verdict = against_result((a, folder), (slowed, folder), 6.0, Stop())["verdict"]
    assert verdict["kind"] == "slower"
    assert verdict["ratio"] == pytest.approx(1.5, abs=0.3)


class LeakyEngine(SlowedEngine):
    """Keeps two megabytes of every frame."""

    def infer(self, rgb: np.ndarray) -> Perception:
        self.__dict__.setdefault("kept", []).append(np.ones(1 << 18))
        return super().infer(rgb)


@pytest.mark.parametrize(("kind", "leaks"), [(SlowedEngine, False), (LeakyEngine, True)])
def test_a_soak_finds_a_leak(kind: type[SlowedEngine], leaks: bool, tiny_engine: Path) -> None:
    with open_engine(tiny_engine, "onnxruntime-cpu", threads=1) as engine:
        image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
        told = soak(kind(engine, 0.0), image, 4.0, 30.0, Stop(), Sensors())
    assert told["memory"]["leaks"] is leaks, told["memory"]


def test_an_engine_that_answers_nothing_ends_the_measurement(
    tiny_engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> None:
        raise EngineError("the device is gone")

    monkeypatch.setattr("m2h_runtime.bench.loop.LATE_S", 0.2)
    run = LoopRun(NumpyEngine(tiny_engine, gone), np.zeros((64, 96, 3), np.uint8), 0.2, 20.0)
    with pytest.raises(EngineError, match="no perception came: engine: the device is gone"):
        run.run(Stop())


def test_ctrl_c_writes_what_is_there(tiny_engine: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    command = [sys.executable, "-m", "m2h_runtime.cli.bench", "--engine", str(tiny_engine), *BACKEND]
    process = subprocess.Popen(
        [*command, "--only", "latency,loop", "--rates", "20", "--seconds", "20", "--json", str(out)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(6)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=20)
    assert process.returncode == 130, stderr
    result = json.loads(out.read_text())
    assert result["outcome"] == "interrupted"
    assert result["latency"]["ms"]["count"] > 50
    assert "loop" not in result
    assert "interrupted: the rest was not measured" in stdout


def test_the_commands_of_the_page_are_understood() -> None:
    from m2h_runtime.cli import bench, bench_mapping

    page = (ROOT / "docs" / "m2h-bench.md").read_text(encoding="utf-8")
    commands = [
        shlex.split(line, comments=True) for line in re.findall(r"^m2h-bench\b(.*)$", page, re.MULTILINE)
    ]
    mapping = [words[1:] for words in commands if words[:1] == ["mapping"]]
    assert len(commands) - len(mapping) >= 6
    assert len(mapping) >= 3
    for parser, theirs in (
        (bench.build_parser(), [words for words in commands if words[:1] != ["mapping"]]),
        (bench_mapping.build_parser(), mapping),
    ):
        for words in theirs:
            parser.parse_args(words)
        options = set(re.findall(r"--[a-z][a-z-]+", parser.format_help())) - {"--help"}
        assert options <= set(re.findall(r"--[a-z][a-z-]+", page))
