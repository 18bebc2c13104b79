from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import yaml
from tiny_engine import SIZE, make_tiny_engine, picture, twin

from m2h_runtime import open_engine
from m2h_runtime.cache import cache_folder
from m2h_runtime.engine import BACKENDS
from m2h_runtime.engine.manifest import GRAPH_NAME, MANIFEST_NAME, read_manifest
from m2h_runtime.engine.parity import compare, summary, violations
from m2h_runtime.engine.select import backend_class
from m2h_runtime.errors import BackendUnavailableError, ContractError, EngineError, InputError

if TYPE_CHECKING:
    from pathlib import Path

CPU_BACKENDS = ("onnxruntime-cpu", "openvino", "openvino-bf16")


@pytest.fixture(params=CPU_BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if (why := backend_class(name).unavailable()) is not None:
        pytest.skip(f"{name}: {why}; runs on machines that have it")
    return name


@pytest.fixture
def copy(tiny_engine: Path, tmp_path: Path) -> Path:
    """An engine folder of one's own, to spoil."""
    return shutil.copytree(tiny_engine, tmp_path / "engine")


def edit_manifest(folder: Path, **settings: object) -> None:
    path = folder / MANIFEST_NAME
    raw = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(raw | settings))


# Every backend


def test_a_backend_gives_what_numpy_gives(backend: str, tiny_engine: Path) -> None:
    with open_engine(tiny_engine, backend) as engine:
        assert engine.backend == backend
        assert backend in engine.choice
        for seed in (1, 2):
            figures = compare(engine.infer(picture(seed)), twin(picture(seed)))
            assert not violations(*summary([figures]), engine.numerics or "fp32")
        other = compare(engine.infer(picture(1)), twin(picture(2)))
        assert violations(*summary([other]), engine.numerics or "fp32"), "this comparison can fail"


def test_a_perception_is_the_callers_own(backend: str, tiny_engine: Path) -> None:
    with open_engine(tiny_engine, backend) as engine:
        first = engine.infer(picture(1))
        before = {name: getattr(first, name).copy() for name in ("depth", "semantics", "normals", "edges")}
        engine.infer(picture(2))
        for name, array in before.items():
            np.testing.assert_array_equal(getattr(first, name), array)
            assert not getattr(first, name).flags.writeable


def test_a_read_only_image_is_taken(backend: str, tiny_engine: Path) -> None:
    image = picture(1)
    image.setflags(write=False)
    with open_engine(tiny_engine, backend) as engine:
        np.testing.assert_array_equal(engine.infer(image).edges, picture(1)[..., 2])


def test_a_wrong_size_names_both(backend: str, tiny_engine: Path) -> None:
    with (
        open_engine(tiny_engine, backend) as engine,
        pytest.raises(ContractError, match=r"expected \(64, 96, 3\) uint8, got \(32, 96, 3\) uint8"),
    ):
        engine.infer(np.zeros((32, 96, 3), np.uint8))


def test_a_wrong_dtype_names_both(backend: str, tiny_engine: Path) -> None:
    with (
        open_engine(tiny_engine, backend) as engine,
        pytest.raises(ContractError, match=r"expected .*uint8, got .*float32"),
    ):
        engine.infer(np.zeros((*SIZE, 3), np.float32))


def test_a_wrong_golden_frame_is_refused(backend: str, tmp_path: Path) -> None:
    folder = make_tiny_engine(tmp_path / "lies", golden=twin(picture(9)))
    with pytest.raises(EngineError, match=f"on {backend}: wrong answer for the golden frame"):
        open_engine(folder, backend)


def test_an_engine_opens_twice(backend: str, tiny_engine: Path) -> None:
    for _ in range(2):
        engine = open_engine(tiny_engine, backend)
        engine.close()
        engine.close()


# The folder


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="nowhere: no such engine folder"):
        open_engine(tmp_path / "nowhere")


def test_a_missing_manifest_is_named(copy: Path) -> None:
    (copy / MANIFEST_NAME).unlink()
    with pytest.raises(EngineError, match=r"no manifest\.yaml"):
        open_engine(copy)


@pytest.mark.parametrize("text", ["", "just words", "a: [b", "- 1\n- 2"])
def test_a_manifest_that_is_none_is_named(copy: Path, text: str) -> None:
    (copy / MANIFEST_NAME).write_text(text)
    with pytest.raises(EngineError, match=r"manifest\.yaml: .*export the engine again"):
        open_engine(copy)


def test_a_newer_contract_is_refused(copy: Path) -> None:
    edit_manifest(copy, contract=99)
    with pytest.raises(EngineError, match=r"engine contract 99.*upgrade m2h-runtime"):
        open_engine(copy)


def test_an_unknown_setting_names_its_neighbour(copy: Path) -> None:
    edit_manifest(copy, precison="fp16")
    with pytest.raises(EngineError, match="no setting 'precison'; the nearest is 'precision'"):
        open_engine(copy)


def test_a_manifest_survives_writing_and_reading(tiny_engine: Path, tmp_path: Path) -> None:
    manifest = read_manifest(tiny_engine)
    manifest.write(tmp_path)
    assert read_manifest(tmp_path).engine_id() == manifest.engine_id()
    assert read_manifest(tmp_path).label_space == manifest.label_space


def test_an_edited_graph_is_refused(copy: Path) -> None:
    graph = bytearray((copy / GRAPH_NAME).read_bytes())
    graph[len(graph) // 2] ^= 1
    (copy / GRAPH_NAME).write_bytes(graph)
    with pytest.raises(EngineError, match=r"model\.onnx: edited or damaged"):
        open_engine(copy, "onnxruntime-cpu")


def test_a_missing_graph_is_named(copy: Path) -> None:
    (copy / GRAPH_NAME).unlink()
    with pytest.raises(EngineError, match=r"model\.onnx: missing"):
        open_engine(copy, "onnxruntime-cpu")


# The verdict


@pytest.mark.parametrize("verdict", ["unverified", "fail"])
def test_an_engine_without_a_passing_verdict_is_refused(tmp_path: Path, verdict: str) -> None:
    folder = make_tiny_engine(tmp_path / "engine", verdict=verdict)  # type: ignore[arg-type]
    with pytest.raises(EngineError, match=rf"no passing parity verdict \({verdict}\)"):
        open_engine(folder, "openvino")


def test_an_unverified_engine_opens_when_asked_for(tmp_path: Path) -> None:
    folder = make_tiny_engine(tmp_path / "engine", verdict="unverified")
    with open_engine(folder, "onnxruntime-cpu", allow_unverified=True) as engine:
        np.testing.assert_array_equal(engine.infer(picture(1)).edges, picture(1)[..., 2])


def test_a_golden_frame_that_fails_is_a_warning_then(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_tiny_engine(tmp_path / "engine", verdict="unverified", golden=twin(picture(9)))
    with open_engine(folder, "onnxruntime-cpu", allow_unverified=True) as engine:
        assert "FAILED" in engine.choice
    assert "wrong answer for the golden frame" in caplog.text


# The choice


def test_an_unknown_backend_is_told_which_there_are(tiny_engine: Path) -> None:
    with pytest.raises(InputError, match="no backend 'tensorflow'; there are auto, tensorrt"):
        open_engine(tiny_engine, "tensorflow")


def test_a_backend_that_this_machine_lacks_is_told_why(tiny_engine: Path) -> None:
    if backend_class("onnxruntime-cuda").unavailable() is None:
        pytest.skip("this machine has onnxruntime-gpu; the message is checked on those without")
    with pytest.raises(BackendUnavailableError, match=r"onnxruntime-cuda: .*pip"):
        open_engine(tiny_engine, "onnxruntime-cuda")


def test_auto_measures_once_and_remembers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M2H_CACHE", str(tmp_path / "cache"))
    cache_folder.cache_clear()
    try:
        folder = make_tiny_engine(tmp_path / "engine")
        with open_engine(folder) as engine:
            first = engine.backend
            assert "the fastest that passes" in engine.choice
            assert engine.choice.count(" ms") >= 1
        (note,) = (tmp_path / "cache" / "choice").glob("*.json")
        assert json.loads(note.read_text())["backend"] == first
        with open_engine(folder) as engine:
            assert engine.backend == first
            assert "when last measured" in engine.choice
        other = next(name for name in CPU_BACKENDS if name != first)
        note.write_text(json.dumps({"backend": other}))
        with open_engine(folder) as engine:
            assert engine.backend == other, "the note decides, so the second start did not measure"
    finally:
        cache_folder.cache_clear()


def test_auto_tells_why_nothing_fits(tmp_path: Path) -> None:
    folder = make_tiny_engine(tmp_path / "lies", golden=twin(picture(9)))
    with pytest.raises(EngineError, match="no backend can run it here") as caught:
        open_engine(folder)
    assert all(name in str(caught.value) for name in BACKENDS)


def test_a_broken_library_does_not_stop_the_others(tiny_engine: Path, tmp_path: Path) -> None:
    (tmp_path / "openvino.py").write_text("raise RuntimeError('half installed')\n")
    code = (
        "from m2h_runtime import open_engine\n"
        "from m2h_runtime.engine.select import unavailable\n"
        f"print(unavailable('openvino')); print(open_engine({str(tiny_engine)!r}).backend)"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "M2H_CACHE": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "broken (half installed)" in done.stdout
    assert done.stdout.splitlines()[-1] == "onnxruntime-cpu"
