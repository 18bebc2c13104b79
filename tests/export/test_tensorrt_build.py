"""TensorRT-RTX plans, really built on this CPU; TensorRT's own needs a GPU and is tested as far as it goes without."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from m2h_export.build import ExportSpec, deploy_graph, load_network
from m2h_export.deploy.contract_stage import published_graph
from m2h_export.steps import Steps
from m2h_export.tensorrt_build import build_plan, check_target, known_bad
from m2h_runtime.engine import trt_library
from m2h_runtime.errors import BackendUnavailableError, EngineError, InputError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx_bindings") is None,
    reason="TensorRT-RTX has wheels for x86-64 and Python >= 3.11; run on such a machine",
)


def small_graph(path: Path, operator: str = "Relu") -> Path:
    """A typed FP16 graph with what the builder has been picky about."""
    rng = np.random.default_rng(0)
    half = {
        "w": rng.standard_normal((8, 3, 3, 3)),
        "m": rng.standard_normal((8, 8)),
    }
    weights = [numpy_helper.from_array(value.astype(np.float16), name) for name, value in half.items()]
    weights += [
        numpy_helper.from_array(np.ones(8, np.float32), "scale"),
        numpy_helper.from_array(np.zeros(8, np.float32), "shift"),
        numpy_helper.from_array(np.array([], np.float32), "roi"),
        numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales"),
        numpy_helper.from_array(np.array([1], np.int64), "one"),
    ]
    nodes = [
        helper.make_node("Cast", ["image"], ["f"], to=TensorProto.FLOAT16),
        helper.make_node("Transpose", ["f"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "w"], ["c"], pads=[1, 1, 1, 1], name="first_conv"),
        helper.make_node(operator, ["c"], ["a"], name="suspect"),
        helper.make_node("Transpose", ["a"], ["b"], perm=[0, 2, 3, 1]),
        helper.make_node("Cast", ["b"], ["b32"], to=TensorProto.FLOAT),
        helper.make_node("LayerNormalization", ["b32", "scale", "shift"], ["n32"], axis=-1),
        helper.make_node("Softmax", ["n32"], ["s32"], axis=-1),
        helper.make_node("Cast", ["s32"], ["s"], to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["s", "m"], ["p"]),
        helper.make_node("Gelu", ["p"], ["g"]),
        helper.make_node("Transpose", ["g"], ["h"], perm=[0, 3, 1, 2]),
        helper.make_node("Resize", ["h", "roi", "scales"], ["r"], mode="linear"),
        helper.make_node("TopK", ["r", "one"], ["top", "best"], axis=1),
        helper.make_node("Cast", ["best"], ["labels"], to=TensorProto.UINT8),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 16, 24, 3])],
        [helper.make_tensor_value_info("labels", TensorProto.UINT8, [1, 1, 32, 48])],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_builds_ahead_of_time_without_a_gpu(tmp_path: Path) -> None:
    graph = small_graph(tmp_path / "model.onnx")
    facts = build_plan(graph, tmp_path / "model.plan", kind="tensorrt-rtx", compute_capability="8.6")
    assert (tmp_path / "model.plan").stat().st_size == facts.plan_bytes > 10_000
    assert facts.compute_capability == "8.6"
    assert facts.gpu is None
    assert facts.layers > 10


@pytest.mark.parametrize("capability", [None, "8.7", "9.9", "eight"])
def test_compute_capability_has_to_be_one_that_it_builds_for(tmp_path: Path, capability: str | None) -> None:
    graph = small_graph(tmp_path / "model.onnx")
    with pytest.raises(InputError, match=r"--compute-capability.*8\.6.*12\.0"):
        build_plan(graph, tmp_path / "model.plan", kind="tensorrt-rtx", compute_capability=capability)
    assert not (tmp_path / "model.plan").exists()


def test_a_graph_that_it_cannot_read_is_one_line_with_the_node(tmp_path: Path) -> None:
    graph = small_graph(tmp_path / "model.onnx", operator="Det")
    with pytest.raises(EngineError, match=r"suspect.*Det") as caught:
        build_plan(graph, tmp_path / "model.plan", kind="tensorrt-rtx", compute_capability="8.6")
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx"]


def test_a_place_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    graph = small_graph(tmp_path / "model.onnx")
    with pytest.raises(InputError, match="cannot be written"):
        build_plan(graph, tmp_path / "none" / "model.plan", kind="tensorrt-rtx", compute_capability="8.6")


def test_ctrl_c_stops_the_builder(tmp_path: Path) -> None:
    graph = small_graph(tmp_path / "model.onnx")
    # The builder polls between steps: a signal that is pending when it starts is seen at the first of them.
    before = signal.getsignal(signal.SIGINT)
    stop = threading.Event()

    def press() -> None:
        while not stop.is_set():
            if signal.getsignal(signal.SIGINT) is not before:
                os.kill(os.getpid(), signal.SIGINT)
                return
            time.sleep(0.0005)

    thread = threading.Thread(target=press)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            build_plan(graph, tmp_path / "model.plan", kind="tensorrt-rtx", compute_capability="8.6")
    finally:
        stop.set()
        thread.join()
    assert not (tmp_path / "model.plan").exists()
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("version", "capability", "warned"),
    [
        ("10.3.0.30", "8.7", True),
        ("10.4.0", "8.6", True),
        ("10.13.3.9", "12.0", True),
        ("10.13.3.9", "8.7", False),
        ("11.4.0.106", "12.0", False),
        ("10", "8.7", False),
    ],
)
def test_known_bad_versions_are_announced(version: str, capability: str, warned: bool) -> None:
    warning = known_bad("tensorrt", version, capability)
    assert (warning is not None) == warned
    assert warning is None or version in warning
    assert known_bad("tensorrt-rtx", "1.7.1.116", capability) is None


@pytest.mark.skipif(
    importlib.util.find_spec("tensorrt") is not None,
    reason="TensorRT is here: a machine without it runs this",
)
def test_tensorrt_target_without_tensorrt_says_where_it_comes_from() -> None:
    with pytest.raises(BackendUnavailableError, match="JetPack"):
        check_target("tensorrt", None)


def test_the_library_loads_without_library_path() -> None:
    code = "from m2h_runtime.engine.trt_library import load; print(load('tensorrt-rtx').__version__)"
    environment = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("1.")
    assert trt_library.missing("tensorrt-rtx") is None


def export_typed(model: str, folder: Path) -> Path:
    spec = ExportSpec(model, None, (224, 224), "fp16", "onnx", folder / "engine")
    network, _ = load_network(spec)
    graph, _ = deploy_graph(
        spec, network, published_graph(network, None, (1, 1, 1)), Steps(Console(quiet=True))
    )
    onnx.save(graph, folder / "model.onnx")
    return folder / "model.onnx"


@pytest.mark.slow  # exporting m2h alone takes half a minute on two cores
@pytest.mark.parametrize("model", ["m2h-small", "m2h"])
def test_plans_of_the_published_networks_build(model: str, tmp_path: Path) -> None:
    graph = export_typed(model, tmp_path)
    for capability in ("8.6", "8.9"):
        plan = tmp_path / f"{capability}.plan"
        facts = build_plan(graph, plan, kind="tensorrt-rtx", compute_capability=capability)
        # FP16: the plan is about half of the fp32 weights, 116 and 326 MB.
        assert facts.plan_bytes < (100e6 if model == "m2h-small" else 250e6)
        assert facts.layers > 1000
