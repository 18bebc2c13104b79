"""The GPU benchmark on a CPU: all parts but CUDA."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import gpu
import numpy as np
import onnx
import pytest
from gpu_contestants import Buffers, in_onnxruntime, in_tensorrt, perception
from gpu_names import CONTESTANTS, SLOW
from onnx import TensorProto, helper, numpy_helper
from roofline import peaks, traffic
from sections import gpu as section
from timing import Clock
from tiny_engine import SIZE, make_tiny_engine, picture, twin

from m2h_runtime.engine.parity import compare

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Script


def test_ceilings_are_measured() -> None:
    found = peaks(Clock("cpu"), "cpu", side=64, copy_mb=1, repeats=2)
    assert set(found) == {"bf16_tflops", "fp16_tflops", "fp32_tflops", "copy_gb_s"}
    assert found["copy_gb_s"] > 0


def test_traffic_counts_weights_once_and_maps_at_each_node() -> None:
    def value(name: str, shape: list[int]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    weight = numpy_helper.from_array(np.ones((3, 5), np.float32), "w")
    shape = numpy_helper.from_array(np.array([10], np.int64), "shape")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]),  # reads 2 × 3, writes 2 × 5
        helper.make_node("Relu", ["y"], ["z"]),  # reads and writes 2 × 5
        helper.make_node("Reshape", ["z", "shape"], ["out"]),  # moves nothing
    ]
    graph = helper.make_graph(nodes, "g", [value("x", [2, 3])], [value("out", [10])], [weight, shape])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    assert traffic(model) == (4 * 15 + 8, 4 * (6 + 10 + 10 + 10))


def test_the_floor_takes_the_rate_of_the_type_and_the_longer_of_two_times() -> None:
    cost = {"gflop": 100.0, "fp16": {"weights_mb": 10, "activations_mb": 90}}
    cost["fp32"] = {"weights_mb": 20, "activations_mb": 180}
    rates = {"fp16_tflops": 500.0, "fp32_tflops": 50.0, "tf32_tflops": 250.0, "copy_gb_s": 1000.0}
    assert gpu.floor_ms(cost, rates, "fp16") == {"arithmetic_ms": 0.2, "memory_ms": 0.1}
    assert gpu.floor_ms(cost, rates, "tf32") == {"arithmetic_ms": 0.4, "memory_ms": 0.2}
    assert gpu.floor_ms(cost, rates, "fp32")["arithmetic_ms"] == 2.0


@pytest.mark.parametrize("name", ["onnxruntime-fp32", "onnxruntime-fp16-binding"])
def test_onnx_runtime_answers_through_static_buffers(name: str, tmp_path: Path) -> None:
    for precision in ("fp32", "fp16"):
        make_tiny_engine(tmp_path / precision)
    opened = in_onnxruntime(name, tmp_path, SIZE, Clock("cpu"))
    for seed in (0, 1):  # the second picture has to arrive in the buffers of the first
        figures = compare(opened.infer(picture(seed)), twin(picture(seed)))
        assert figures.label_agreement == 1.0
        assert figures.depth_max_abs_m < 1e-5
    assert (opened.step is None) == (name == "onnxruntime-fp32")


def test_buffers_copy_what_they_hand_out() -> None:
    buffers = Buffers(SIZE, Clock("cpu"))
    buffers.there["depth"].fill_(1.0)
    buffers.there["normals"][:, 2] = 1.0
    first = buffers.infer(lambda: None, picture(0))
    buffers.there["depth"].fill_(2.0)
    buffers.infer(lambda: None, picture(0))
    assert first.depth.max() == 1.0
    assert perception({n: t.numpy() for n, t in buffers.host.items()}).depth.max() == 2.0


def test_tensorrt_without_a_gpu_says_so(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="plans run on a GPU only"):
        in_tensorrt("tensorrt-fp16", tmp_path, SIZE, Clock("cpu"))


@pytest.fixture
def quick_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`gpu.py` with its children replaced by `answers`; returns the file that it wrote."""

    def run(answers: dict[str, Any], *options: str) -> dict[str, Any]:
        out = tmp_path / "gpu.json"

        def own_process(_: Path, arguments: list[object], **__: object) -> dict[str, Any]:
            answer = answers[str(arguments[0])]
            if isinstance(answer, BaseException):
                raise answer
            return dict(answer)

        monkeypatch.setattr(gpu, "own_process", own_process)
        models = ["--models", "m2h-nano", "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", ["gpu.py", *models, "--out", str(out), *options])
        try:
            gpu.main()
        finally:
            loaded: dict[str, Any] = json.loads(out.read_text())
        return loaded

    return run


PARTS: dict[str, Any] = {
    "peaks": {"fp16_tflops": 1.0, "fp32_tflops": 0.5, "bf16_tflops": 1.0, "copy_gb_s": 10.0},
    "reference": {"image": "a picture"},
    "graphs": {
        "gflop": 2.5,
        "fp32": {"weights_mb": 20, "activations_mb": 400},
        "fp16": {"weights_mb": 10, "activations_mb": 200},
    },
}


def row(ms: float, computes_in: str) -> dict[str, Any]:
    times = {"p50": ms, "p90": ms, "p99": 2 * ms, "min": ms, "max": 2 * ms}
    told = {"engine_ms": times, "with_copies_ms": {key: value + 1 for key, value in times.items()}}
    return {**told, "computes_in": computes_in, "proof": {"numerics": "fp16", "problems": []}}


def test_a_contestant_that_crashes_costs_its_own_row_only(quick_run: Any) -> None:
    answers = {
        **PARTS,
        "eager-fp32": row(80.0, "tf32"),
        "eager-fp16": gpu.TurnError("killed by signal 11"),
        "onnxruntime-fp16-graph": row(42.0, "fp16"),
    }
    names = ("eager-fp32", "eager-fp16", "onnxruntime-fp16-graph")
    result = quick_run(answers, "--contestants", *names)
    found = result["models"]["m2h-nano"]["contestants"]
    assert found["eager-fp16"] == {"missing": "killed by signal 11"}
    assert found["onnxruntime-fp16-graph"]["roofline_share"] == pytest.approx(21 / 42)  # memory: 210 MB
    assert result["finished"]


def test_what_was_measured_before_an_interrupt_is_in_the_file(quick_run: Any, tmp_path: Path) -> None:
    answers = {**PARTS, "eager-fp32": row(80.0, "tf32"), "eager-fp16": KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        quick_run(answers, "--contestants", "eager-fp32", "eager-fp16")
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert not result["finished"]
    assert result["models"]["m2h-nano"]["contestants"]["eager-fp32"]["engine_ms"]["p50"] == 80.0


def test_what_does_not_fit_the_budget_is_named(quick_run: Any) -> None:
    result = quick_run(PARTS, "--contestants", "eager-fp32", "--budget-s", "0")
    assert result["peaks"] == {"missing": "left out: --budget-s 0 was used up"}
    assert "nothing to compare with" in str(result["models"]["m2h-nano"]["contestants"]["eager-fp32"])


def test_without_a_reference_nothing_is_timed(quick_run: Any) -> None:
    answers = {**PARTS, "reference": gpu.TurnError("out of memory")}
    result = quick_run(answers, "--contestants", "eager-fp32")
    assert result["models"]["m2h-nano"]["contestants"]["eager-fp32"] == {
        "missing": "nothing to compare with: out of memory"
    }


def test_an_unknown_contestant_is_refused(tmp_path: Path, script: Script) -> None:
    done = script("gpu", "--out", tmp_path / "gpu.json", "--contestants", "tensorflow")
    assert done.returncode == 2
    assert "--contestants tensorflow: there are eager-fp32, " in done.stderr


def test_what_has_to_be_compiled_comes_last() -> None:
    assert CONTESTANTS[-len(SLOW) :] == SLOW
    assert len(SLOW) == 3


def test_the_report_compares_with_eager_and_names_who_is_missing(quick_run: Any) -> None:
    answers = {
        **PARTS,
        "eager-fp32": row(80.0, "tf32"),
        "tensorrt-fp16": row(4.0, "fp16"),
        "onnxruntime-fp16": gpu.TurnError("no provider"),
    }
    names = ("eager-fp32", "tensorrt-fp16", "onnxruntime-fp16")
    entry = quick_run(answers, "--contestants", *names)["models"]["m2h-nano"]
    lines = section.network("m2h", entry)
    assert any(line.startswith("| tensorrt-fp16 | 4.000 | 8.000 | 5.000 | 20.0 |") for line in lines)
    assert "- without onnxruntime-fp16: no provider" in lines
    assert (
        "- `m2h`, fastest engine: tensorrt-fp16, 4.000 ms (≤ 5: met), 20.0 × eager fp32 (≥ 8: met)." in lines
    )


@pytest.mark.slow  # a graph is traced and a dozen processes import torch
def test_every_part_that_a_cpu_can_run_runs(tmp_path: Path, script: Script) -> None:
    out = tmp_path / "gpu.json"
    done = script("gpu", "--device", "cpu", "--models", "m2h-nano", "--quick", "--out", out)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert result["finished"]
    found = result["models"]["m2h-nano"]["contestants"]
    ran = {name for name, answer in found.items() if "missing" not in answer}
    assert ran == {
        *("eager-fp32", "eager-fp32-strict", "eager-tf32"),
        *("onnxruntime-fp32", "onnxruntime-fp16", "onnxruntime-fp16-binding"),
        "m2h-runtime-onnxruntime-cpu",
    }
    assert all(found[name]["proof"]["problems"] == [] for name in ran)
    assert found["onnxruntime-fp16-graph"]["missing"] == "a CPU has no CUDA graphs"
    assert 0 < found["eager-fp32"]["roofline_share"] < 1
