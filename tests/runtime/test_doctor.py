"""m2h-doctor as its user meets it, on machines that lack things, and as the judge of an engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tiny_engine import make_tiny_engine, picture, twin

from m2h_runtime.cli import doctor, stack
from m2h_runtime.cli.doctor import main, verify
from m2h_runtime.engine import BACKENDS, open_engine
from m2h_runtime.engine.manifest import ParityRun, read_manifest
from m2h_runtime.errors import BackendUnavailableError, EngineError

if TYPE_CHECKING:
    from m2h_runtime.perception import Perception

ROOT = Path(__file__).resolve().parents[2]
OPTIONAL = ("onnxruntime", "openvino", "tensorrt", "tensorrt_rtx_bindings", "cuda", "rclpy", "torch")
CPU = "onnxruntime-cpu"


def python(
    *arguments: object, path: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """A new interpreter; `path` comes first among the places where it looks for modules."""
    places = [str(ROOT)] if path is None else [str(path), str(ROOT)]
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places), **variables},
    )


def m2h_doctor(*arguments: object, **more: Any) -> subprocess.CompletedProcess[str]:
    return python("-m", "m2h_runtime.cli.doctor", *arguments, **more)


def without(names: tuple[str, ...], *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command on a machine that lacks the libraries `names`."""
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({names!r}))\n"
        "from m2h_runtime.cli.doctor import main; sys.exit(main(sys.argv[1:]))"
    )
    return python("-c", code, *arguments)


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line on stderr, which is all there is."""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("m2h-doctor: ")
    assert (done.returncode, done.stdout) == (2, "")
    return lines[0]


@pytest.fixture
def engine(tmp_path: Path, tiny_engine: Path) -> Path:
    """A copy of the tiny engine, to be changed."""
    return Path(shutil.copytree(tiny_engine, tmp_path / "engine"))


def wrong_depth() -> Perception:
    right = twin(picture(0))
    return replace(right, depth=(right.depth * np.float32(1.1)).astype(np.float32))


# The stack


def test_the_stack_and_an_engine_are_shown_and_the_json_says_the_same(
    tmp_path: Path, tiny_engine: Path
) -> None:
    report = tmp_path / "doctor.json"
    done = m2h_doctor("--engine", tiny_engine, "--json", report)
    assert (done.returncode, done.stderr) == (0, "")
    facts = json.loads(report.read_text())
    assert list(tmp_path.iterdir()) == [report]

    machine = facts["machine"]
    assert machine["python"] == ".".join(map(str, sys.version_info[:3]))
    assert machine["cores"]["usable"] == len(os.sched_getaffinity(0))
    assert machine["ram_bytes"]["total"] > machine["ram_bytes"]["available"] > 0
    assert machine["cpu"]["model"] in done.stdout
    assert set(facts["libraries"]) == set(stack.LIBRARIES)
    assert facts["libraries"]["numpy"] == {"state": "found", "version": np.__version__, "detail": ""}
    assert "CPU" in facts["libraries"]["ONNX Runtime"]["detail"]
    assert "V4L2" in facts["libraries"]["OpenCV"]["detail"]
    for name, one in facts["libraries"].items():
        assert name in done.stdout
        assert one["version"] in done.stdout

    assert list(facts["backends"]) == list(BACKENDS)
    assert facts["backends"][CPU] == {"state": "found", "detail": ""}
    for one in facts["backends"].values():
        assert one["state"] == "found" or one["detail"], "what does not run says why"

    assert facts["engine"]["name"] == "tiny"
    assert facts["engine"]["size"] == [64, 96]
    assert facts["engine"]["random_weights"] is False
    assert facts["engine"]["verdict"] == "pass"
    assert facts["engine"]["target"]["kind"] == "onnx"
    assert facts["engine"]["files"] == "intact"
    assert facts["engine"]["backends"][CPU]["state"] == "found"
    assert "m2h-export --target tensorrt" in facts["engine"]["backends"]["tensorrt"]["detail"]
    assert facts["verify"] is None
    assert "64 high, 96 wide" in done.stdout


def test_a_machine_without_optional_libraries_is_told_what_to_install(
    tmp_path: Path, tiny_engine: Path
) -> None:
    report = tmp_path / "doctor.json"
    done = without(OPTIONAL, "--json", report, "--engine", tiny_engine)
    assert (done.returncode, done.stderr) == (0, "")
    facts = json.loads(report.read_text())
    for name in ("ONNX Runtime", "OpenVINO", "TensorRT", "TensorRT-RTX"):
        assert facts["libraries"][name]["state"] == "missing"
    assert facts["ros"]["rclpy"]["state"] == "missing"
    assert {one["state"] for one in facts["backends"].values()} == {"missing"}
    assert "pip install openvino" in done.stdout
    assert "pip install onnxruntime" in done.stdout


@pytest.mark.parametrize("name", ["numpy", "cv2", "yaml"])
def test_even_a_machine_without_what_we_need_is_shown(tmp_path: Path, tiny_engine: Path, name: str) -> None:
    report = tmp_path / "doctor.json"
    done = without((name,), "--json", report)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr  # without numpy, ONNX Runtime or OpenCV writes a line of its own
    facts = json.loads(report.read_text())
    if name == "cv2":
        assert facts["libraries"]["OpenCV"]["state"] == "missing"
        return
    assert facts["backends"]["all"]["state"] == "broken"
    assert name in facts["backends"]["all"]["detail"]
    assert f"a library that we need does not load (ModuleNotFoundError: import of {name}" in one_line(
        without((name,), "--engine", tiny_engine)
    )


def test_a_broken_library_is_shown_with_its_reason_and_leaves_the_others(
    tmp_path: Path, tiny_engine: Path
) -> None:
    report = tmp_path / "doctor.json"
    (tmp_path / "openvino.py").write_text("raise RuntimeError('built for\\nanother glibc')")
    done = m2h_doctor("--json", report, "--engine", tiny_engine, path=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    facts = json.loads(report.read_text())
    broken = {"state": "broken", "detail": "RuntimeError: built for another glibc"}
    assert facts["libraries"]["OpenVINO"] == {**broken, "version": ""}
    for states in (facts["backends"], facts["engine"]["backends"]):
        assert states["openvino"] == states["openvino-bf16"] == broken
        assert states[CPU]["state"] == "found"
    assert "BROKEN" in done.stdout

    refused = m2h_doctor("--verify", tiny_engine, "--backend", "openvino", path=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr == "m2h-doctor: openvino: RuntimeError: built for another glibc\n"


def test_a_backend_that_cannot_be_imported_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, "tensorrt", "m2h_runtime.engine.no_such_module:Engine")
    monkeypatch.setitem(BACKENDS, "openvino", "m2h_runtime.engine.ort:NoSuchEngine")
    states = doctor.backends()
    assert states["tensorrt"]["state"] == states["openvino"]["state"] == "broken"
    assert "no_such_module" in states["tensorrt"]["detail"]
    assert "NoSuchEngine" in states["openvino"]["detail"]
    assert states[CPU]["state"] == "found"


def test_an_edited_engine_is_shown_as_such(engine: Path) -> None:
    with (engine / "model.onnx").open("ab") as graph:
        graph.write(b"\0")
    assert "model.onnx: edited or damaged" in doctor.engine_facts(engine)["files"]


# Pieces of the stack, on machines that this is not


def test_cpus_of_both_kinds_are_read() -> None:
    x86 = stack.cpu("processor : 0\nmodel name : Fast One\nflags : fpu avx2 avx512f\nmodel name : Other\n")
    assert x86["model"] == "Fast One"
    assert [name for name, on in x86["features"].items() if on] == ["AVX2", "AVX512F"]
    assert "AMX-BF16" in x86["features"]
    orin = stack.cpu("processor : 0\nFeatures : fp asimd asimdhp\nCPU implementer : 0x41\nCPU part : 0xd42\n")
    assert orin["model"] == "ARM Cortex-A78AE"
    assert [name for name, on in orin["features"].items() if on] == ["NEON", "FP16"]
    assert stack.cpu("")["features"] == {}


def test_a_jetson_is_recognised(tmp_path: Path) -> None:
    assert stack.board(tmp_path) is None
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_bytes(b"NVIDIA Jetson AGX Orin Developer Kit\0")
    assert stack.board(tmp_path) == {"model": "NVIDIA Jetson AGX Orin Developer Kit", "l4t": ""}
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text("# R36 (release), REVISION: 4.3, GCID: 38968081\n")
    assert (stack.board(tmp_path) or {})["l4t"] == "R36.4.3"


def smi(folder: Path, script: str) -> None:
    """An nvidia-smi that is this shell script."""
    command = folder / "nvidia-smi"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)


SMI = (
    'case "$1" in\n'
    '--query*) echo "NVIDIA RTX 3080 Laptop GPU, 535.183.01, 16384 MiB";;\n'
    '*) echo "| NVIDIA-SMI 535.183.01   Driver Version: 535.183.01   CUDA Version: 12.2 |";;\n'
    "esac"
)


@pytest.mark.parametrize(
    ("script", "state", "said"),
    [
        (SMI, "found", ""),
        ("echo NVIDIA-SMI has failed, no driver; exit 9", "broken", "has failed, no driver"),
        ("exit 0", "missing", "lists no GPU"),
    ],
    ids=["a GPU", "no driver", "no GPU"],
)
def test_nvidia_smi_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, state: str, said: str
) -> None:
    smi(tmp_path, script)
    monkeypatch.setenv("PATH", str(tmp_path))
    facts = stack.gpu()
    assert facts["state"] == state
    assert said in facts["detail"]
    if state == "found":
        assert facts["devices"] == [{"name": "NVIDIA RTX 3080 Laptop GPU", "memory": "16384 MiB"}]
        assert (facts["driver"], facts["cuda"]) == ("535.183.01", "12.2")


def test_without_nvidia_smi_there_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert stack.gpu()["state"] == "missing"


def test_cameras_are_named_in_order_and_a_closed_one_says_what_helps(tmp_path: Path) -> None:
    devices, names = tmp_path / "dev", tmp_path / "sys"
    for number in (10, 2):
        (names / f"video{number}").mkdir(parents=True)
        (names / f"video{number}" / "name").write_text(f"Camera {number}\n")
    devices.mkdir()
    for name in ("video10", "video2", "video-notes"):
        (devices / name).touch()
    found = stack.cameras(devices, names, lambda path, _mode: path.name == "video2")
    assert [(one.device, one.name, one.readable) for one in found] == [
        (str(devices / "video2"), "Camera 2", True),
        (str(devices / "video10"), "Camera 10", False),
    ]
    assert found[0].hint == ""
    assert "video" in found[1].hint
    assert stack.cameras(tmp_path / "none", names) == []


def test_ros_that_is_installed_but_not_sourced_says_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    monkeypatch.setitem(sys.modules, "rclpy", None)
    assert stack.ros(tmp_path / "none")["hint"] == ""
    (tmp_path / "humble").mkdir()
    assert f"source {tmp_path}/humble/setup.bash" in stack.ros(tmp_path)["hint"]
    monkeypatch.setenv("ROS_DISTRO", "humble")
    assert "use the Python of ROS humble" in stack.ros(tmp_path)["hint"]


def test_opencv_video_is_read_from_its_build_information() -> None:
    build = "  Video I/O:\n    GStreamer:    YES (1.20.3)\n    v4l/v4l2:     NO\n"
    assert stack.opencv_video(build) == "FFmpeg no, GStreamer yes, V4L2 no"


# Verifying


def test_verifying_writes_the_verdict_and_opens_an_unverified_engine(tmp_path: Path) -> None:
    engine = make_tiny_engine(tmp_path / "engine", verdict="unverified")
    report = tmp_path / "doctor.json"
    with pytest.raises(EngineError, match="no passing parity verdict"):
        open_engine(engine, CPU)
    done = m2h_doctor("--verify", engine, "--json", report)
    assert (done.returncode, done.stderr) == (0, "")
    assert "pass; written into the manifest (before: unverified)" in done.stdout
    said = json.loads(report.read_text())["verify"]
    assert (said["backend"], said["verdict"], said["problems"]) == (CPU, "pass", [])
    parity = read_manifest(engine).parity
    assert parity.verdict == "pass"
    assert [(one.backend, one.verdict, one.images) for one in parity.runs] == [(CPU, "pass", 1)]
    assert parity.runs[0].mean == said["figures"]
    with open_engine(engine, CPU) as opened:
        opened.infer(picture(1))


def test_a_passing_engine_stays_so_and_other_backends_keep_their_runs(engine: Path) -> None:
    pytest.importorskip("openvino", reason="run where the package openvino is installed")
    before = read_manifest(engine)
    assert verify(engine, "openvino")["verdict_before"] == "pass"
    after = read_manifest(engine)
    assert [one.backend for one in after.parity.runs] == [CPU, "openvino"]
    assert after.parity.runs[0] == before.parity.runs[0]
    assert replace(after, parity=before.parity) == before, "nothing but the parity has changed"


def test_a_wrong_answer_fails_and_the_engine_is_refused_until_it_is_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = make_tiny_engine(tmp_path / "engine", golden=wrong_depth())
    report = tmp_path / "doctor.json"
    assert main(["--verify", str(engine), "--json", str(report)]) == 1
    assert "fail (depth_rel 0.0909 > 0.001" in capsys.readouterr().out
    assert json.loads(report.read_text())["verify"]["verdict"] == "fail"
    parity = read_manifest(engine).parity
    assert (parity.verdict, parity.runs[0].verdict) == ("fail", "fail")
    with pytest.raises(EngineError, match=r"no passing parity verdict \(fail\)"):
        open_engine(engine, CPU)

    verdict = read_manifest(engine).parity
    make_tiny_engine(engine)
    replace(read_manifest(engine), parity=verdict).write(engine)
    assert verify(engine)["verdict"] == "pass", "an earlier failure on this one frame can be mended"


def test_a_failure_over_many_images_is_not_undone_by_one(engine: Path) -> None:
    manifest = read_manifest(engine)
    failed = ParityRun(CPU, "fail", 8, {}, {})
    replace(manifest, parity=replace(manifest.parity, verdict="fail", runs=(failed,))).write(engine)
    before = (engine / "manifest.yaml").read_bytes()
    with pytest.raises(BackendUnavailableError, match="failed the parity check"):
        verify(engine)
    assert (engine / "manifest.yaml").read_bytes() == before


def test_figures_that_are_no_numbers_still_make_json(tmp_path: Path) -> None:
    doctor.write_json(tmp_path / "a.json", {"figures": [float("nan"), float("inf"), 1.5]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"figures": [None, None, 1.5]}


# Runs that fail as foreseen

FAILURES = {
    "missing engine": ("--engine {tmp}/none", "none: no such engine folder"),
    "missing engine to verify": ("--verify {tmp}/none", "none: no such engine folder"),
    "no engine": ("--engine {tmp}", "no manifest.yaml, so this is no engine"),
    "backend alone": ("--backend openvino", "--backend goes with --verify only"),
    "json in no folder": ("--json {tmp}/none/a.json", "a.json: cannot be written"),
    "json over a folder": ("--json {tmp}", "is a folder or a device"),
    "no such option": ("--fix", "unrecognized arguments: --fix"),
}


@pytest.mark.parametrize(("options", "said"), FAILURES.values(), ids=FAILURES)
def test_a_foreseen_failure_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: str, said: str
) -> None:
    try:
        code = main(options.format(tmp=tmp_path).split())
    except SystemExit as left:  # the parser's own complaints
        code = int(left.code or 0)
    printed = capsys.readouterr()
    assert (code, printed.out) == (2, "")
    assert said in printed.err
    assert printed.err.startswith("m2h-doctor: ")
    assert printed.err.count("\n") == 1


def test_a_missing_engine_is_one_line_of_the_real_command(tmp_path: Path) -> None:
    assert "no such engine folder" in one_line(m2h_doctor("--engine", tmp_path / "none"))


@pytest.mark.parametrize(
    ("backend", "said"),
    [("tensorflow", "no backend 'tensorflow'; there are "), ("tensorrt", "the engine was not built for it")],
)
def test_a_backend_that_cannot_verify_leaves_the_manifest(
    engine: Path, capsys: pytest.CaptureFixture[str], backend: str, said: str
) -> None:
    before = (engine / "manifest.yaml").read_bytes()
    assert main(["--verify", str(engine), "--backend", backend]) == 2
    assert said in capsys.readouterr().err
    assert (engine / "manifest.yaml").read_bytes() == before


def test_the_options_need_nothing_heavy() -> None:
    done = without(("numpy", "cv2", "yaml", "rich"), "--help")
    assert done.returncode == 0
    for option in ("--engine", "--json", "--verify", "--backend"):
        assert option in done.stdout
