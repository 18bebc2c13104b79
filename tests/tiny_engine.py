"""A real engine folder that takes a moment to make: plain arithmetic on the image instead of a network.

The graph obeys the engine contract. `twin` is the same arithmetic in numpy, written apart from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from m2h_runtime.engine.contract import CONTRACT_VERSION, input_spec, output_specs
from m2h_runtime.engine.manifest import (
    GOLDEN_NAME,
    GRAPH_NAME,
    Checkpoint,
    GraphFacts,
    Manifest,
    Parity,
    ParityRun,
    Target,
    file_facts,
)
from m2h_runtime.engine.selftest import write_golden
from m2h_runtime.label_space import generic_label_space
from m2h_runtime.perception import Perception

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from m2h_runtime.engine.manifest import Verdict

SIZE = (64, 96)
LABELS = generic_label_space(2)


def twin(image: NDArray[np.uint8]) -> Perception:
    """What the tiny engine makes of uint8 (H, W, 3).

    Depth is 1 + mean / 64 metres, the class is "red above 128", confidence is green, edges are blue, and the
    normal leans right with red, down with green.
    """
    real = image.astype(np.float32)
    lean = np.stack([real[..., 0] / 255 - 0.5, real[..., 1] / 255 - 0.5, -np.ones(image.shape[:2])], axis=-1)
    return Perception(
        depth=(1 + real.mean(axis=-1) / 64).astype(np.float32),
        semantics=(image[..., 0] > 128).astype(np.uint8),
        confidence=image[..., 1].copy(),
        normals=(lean / np.linalg.norm(lean, axis=-1, keepdims=True)).astype(np.float32),
        edges=image[..., 2].copy(),
        label_space=LABELS,
    )


def picture(seed: int, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """A smooth random image, uint8 (H, W, 3) RGB, another one for every seed."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    phase, wave = rng.uniform(0, 6.28, 3), rng.uniform(0.02, 0.12, (2, 3))
    waves = np.sin(x[..., None] * wave[0] + y[..., None] * wave[1] + phase)
    return (127.5 + 120 * waves).astype(np.uint8)


def make_tiny_engine(
    folder: Path,
    *,
    verdict: Verdict = "pass",
    random_weights: bool = False,
    golden: Perception | None = None,
    work: int = 0,
    fragile: bool = False,
) -> Path:
    """Write the engine folder and return it.

    Args:
        folder: made if it is missing.
        verdict: the parity verdict in the manifest.
        random_weights: what the manifest says about the weights.
        golden: outputs to store for the golden frame instead of the right ones.
        work: so many 15x15 convolutions that change nothing; 100 take some 10 ms on one core.
        fragile: the depth of a black image is NaN.
    """
    folder.mkdir(parents=True, exist_ok=True)
    graph = _graph(work, fragile)
    onnx.save(graph, folder / GRAPH_NAME)
    write_golden(folder, picture(0), golden or twin(picture(0)))
    Manifest(
        contract=CONTRACT_VERSION,
        name="tiny",
        size=SIZE,
        precision="fp32",
        label_space=LABELS,
        depth_range_m=(1.0, 5.0),
        normals_frame="camera_optical_frame",
        resize="stretch",
        checkpoint=Checkpoint("tests/tiny_engine.py", "", random_weights),
        target=Target("onnx"),
        graph=GraphFacts(17, len(graph.graph.node), len(graph.graph.node), 0.0, 0.0),
        parity=Parity(verdict, "numpy twin", (ParityRun("onnxruntime-cpu", verdict, 1, {}, {}),)),
        files={name: file_facts(folder / name) for name in (GRAPH_NAME, GOLDEN_NAME)},
    ).write(folder)
    return folder


def _graph(work: int, fragile: bool) -> onnx.ModelProto:
    height, width = SIZE
    constants = {
        "i0": np.array(0, np.int64),
        "i1": np.array(1, np.int64),
        "i2": np.array(2, np.int64),
        "k64": np.array(64, np.float32),
        "k1": np.array(1, np.float32),
        "k128": np.array(128, np.uint8),
        "gain": np.array([1 / 255, 1 / 255, 0], np.float32).reshape(1, 3, 1, 1),
        "offset": np.array([-0.5, -0.5, -1], np.float32).reshape(1, 3, 1, 1),
    }
    node = helper.make_node
    if work:
        constants["kernels"] = np.random.default_rng(0).normal(size=(work, 3, 15, 15)).astype(np.float32)
        constants["nothing"] = np.array(0, np.float32)
    nodes = [
        node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        node("ReduceMean", ["real"], ["mean"], axes=[3], keepdims=0),
        node("Div", ["mean", "k64"], ["part_0"]),
        *(_fragile() if fragile else [node("Identity", ["part_0"], ["part"])]),
        node("Add", ["part", "k1"], ["depth_0"]),
        *(_busy() if work else []),
        node("Identity", ["depth_1" if work else "depth_0"], ["depth"]),
        node("Gather", ["image", "i0"], ["red"], axis=3),
        node("Greater", ["red", "k128"], ["is_red"]),
        node("Cast", ["is_red"], ["semantics"], to=TensorProto.UINT8),
        node("Gather", ["image", "i1"], ["confidence"], axis=3),
        node("Transpose", ["real"], ["planes"], perm=[0, 3, 1, 2]),
        node("Mul", ["planes", "gain"], ["scaled"]),
        node("Add", ["scaled", "offset"], ["lean"]),
        node("ReduceL2", ["lean"], ["length"], axes=[1], keepdims=1),
        node("Div", ["lean", "length"], ["normals"]),
        node("Gather", ["image", "i2"], ["edges"], axis=3),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [_value_info(input_spec(height, width))],
        [_value_info(spec) for spec in output_specs(height, width)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def _busy() -> list[onnx.NodeProto]:
    """Wide convolutions of the image, averaged and scaled by 0: time spent, nothing changed."""
    node = helper.make_node
    return [
        node("Transpose", ["real"], ["busy_in"], perm=[0, 3, 1, 2]),
        node("Conv", ["busy_in", "kernels"], ["busy"], pads=[7, 7, 7, 7]),
        node("ReduceMean", ["busy"], ["busy_mean"], axes=[1], keepdims=0),
        node("Mul", ["busy_mean", "nothing"], ["busy_out"]),
        node("Add", ["depth_0", "busy_out"], ["depth_1"]),
    ]


def _fragile() -> list[onnx.NodeProto]:
    """Times the brightest value divided by itself: 1, or NaN where all is black."""
    node = helper.make_node
    return [
        node("ReduceMax", ["real"], ["brightest"], keepdims=0),
        node("Div", ["brightest", "brightest"], ["one"]),
        node("Mul", ["part_0", "one"], ["part"]),
    ]


def _value_info(spec: object) -> onnx.ValueInfoProto:
    dtype = helper.np_dtype_to_tensor_dtype(spec.dtype)  # type: ignore[attr-defined]
    return helper.make_tensor_value_info(spec.name, dtype, spec.shape)  # type: ignore[attr-defined]
