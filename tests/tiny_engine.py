"""A real engine folder that takes a moment to make: plain arithmetic on the image instead of a network.

The graph obeys the engine contract. `twin` is the same arithmetic in numpy, written apart from it. A cross-view engine
(`views`) adds to the depth what its neighbours are and where: `twin_among`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from m2h_runtime.engine.contract import (
    Neighbours,
    Views,
    contract_version,
    input_specs,
    output_specs,
)
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
VIEWS = Views(neighbours=1, channels=3, stride=8)
WEIGHTS = np.arange(1, 13, dtype=np.float32).reshape(3, 4) / 20
"""What each number of a pose counts in the depth."""


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


def features_of(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The spatial features of a cross-view tiny engine: float32 (1, 3, h, w), means over 8x8 pixels, 0..1."""
    height, width = image.shape[0] // 8, image.shape[1] // 8
    blocks = image.astype(np.float32).reshape(height, 8, width, 8, 3).mean(axis=(1, 3)) / 255
    return np.ascontiguousarray(blocks.transpose(2, 0, 1))[None]


def twin_among(image: NDArray[np.uint8], views: Neighbours | None) -> Perception:
    """As `twin`, and the depth larger by what the neighbours are and where.

    The mean over the neighbours of |WEIGHTS * (pose - identity)|, summed, plus the mean difference of the features
    times fx / 100.
    """
    said = twin(image)
    if views is None:
        return said
    more = 0.0
    for pose, features in zip(views.neighbour_from_camera, views.features, strict=True):
        moved = np.abs(WEIGHTS * (pose - np.eye(3, 4)))
        apart = np.abs(features - features_of(image)[0]).mean() if moved.any() else 0.0
        more += moved.sum() + apart * views.intrinsics[0] / 100
    depth = said.depth + np.float32(more / len(views.features))
    return replace(said, depth=depth.astype(np.float32))


def neighbours(seed: int = 5, count: int = 1, size: tuple[int, int] = SIZE) -> Neighbours:
    """Frames of `picture(seed)` and on, each a little further to the right, of an ordinary camera."""
    poses = np.tile(np.eye(3, 4, dtype=np.float32), (count, 1, 1))
    poses[:, 0, 3] = -0.1 * np.arange(1, count + 1)
    features = np.concatenate([features_of(picture(seed + i, size)) for i in range(count)])
    return Neighbours(features, poses, np.array((80, 81, 47.5, 31.5), np.float32))


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
    views: Views | None = None,
) -> Path:
    """Write the engine folder and return it.

    Args:
        folder: made if it is missing.
        verdict: the parity verdict in the manifest.
        random_weights: what the manifest says about the weights.
        golden: outputs to store for the golden frame instead of the right ones.
        work: so many 15x15 convolutions that change nothing; 100 take some 10 ms on one core.
        fragile: the depth of a black image is NaN.
        views: makes a cross-view engine of 3 channels and stride 8, see `twin_among`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    graph = _graph(work, fragile, views)
    onnx.save(graph, folder / GRAPH_NAME)
    near = None if views is None else neighbours(count=views.neighbours).rounded()
    write_golden(folder, picture(0), golden or twin_among(picture(0), near), near)
    Manifest(
        contract=contract_version(views),
        name="tiny",
        size=SIZE,
        precision="fp32",
        label_space=LABELS,
        depth_range_m=(1.0, 5.0) if views is None else (1.0, None),
        normals_frame="camera_optical_frame",
        resize="stretch",
        checkpoint=Checkpoint("tests/tiny_engine.py", "", random_weights),
        target=Target("onnx"),
        graph=GraphFacts(17, len(graph.graph.node), len(graph.graph.node), 0.0, 0.0),
        parity=Parity(verdict, "numpy twin", (ParityRun("onnxruntime-cpu", verdict, 1, {}, {}),)),
        files={name: file_facts(folder / name) for name in (GRAPH_NAME, GOLDEN_NAME)},
        views=views,
    ).write(folder)
    return folder


def _graph(work: int, fragile: bool, views: Views | None) -> onnx.ModelProto:
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
        node("Identity", ["depth_1" if work else "depth_0"], ["depth_2" if views else "depth"]),
        *(_compared(views, constants) if views else []),
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
        [_value_info(spec) for spec in input_specs(height, width, views)],
        [_value_info(spec) for spec in output_specs(height, width, views)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def _compared(views: Views, constants: dict[str, np.ndarray]) -> list[onnx.NodeProto]:
    """`features` of the image, and `depth` from `depth_2` and the neighbours."""
    node = helper.make_node
    constants |= {
        "identity": np.eye(3, 4, dtype=np.float32)[None],
        "weights": WEIGHTS[None],
        "byte": np.array(255, np.float32),
        "percent": np.array(100, np.float32),
        "count": np.array(views.neighbours, np.float32),
        "nought": np.array(0, np.float32),
        "first": np.array([0], np.int64),
        "pair": np.array([-1, 1, 1, 1], np.int64),
    }
    return [
        node("Transpose", ["real"], ["colors"], perm=[0, 3, 1, 2]),
        node("AveragePool", ["colors"], ["pooled"], kernel_shape=[8, 8], strides=[8, 8]),
        node("Div", ["pooled", "byte"], ["features"]),
        node("Sub", ["neighbour_from_camera", "identity"], ["step"]),
        node("Mul", ["step", "weights"], ["weighted"]),
        node("Abs", ["weighted"], ["distances"]),
        node("ReduceSum", ["distances"], ["moved"], keepdims=0),
        node("ReduceMax", ["distances"], ["largest"], axes=[1, 2], keepdims=0),
        node("Reshape", ["largest", "pair"], ["largest_4"]),
        node("Greater", ["largest_4", "nought"], ["is_other"]),
        node("Where", ["is_other", "neighbour_features", "features"], ["others"]),
        node("Sub", ["others", "features"], ["gap"]),
        node("Abs", ["gap"], ["gaps"]),
        node("ReduceMean", ["gaps"], ["means"], axes=[1, 2, 3], keepdims=0),
        node("Gather", ["intrinsics", "first"], ["fx"]),
        node("Div", ["fx", "percent"], ["focal"]),
        node("Mul", ["means", "focal"], ["apart"]),
        node("ReduceSum", ["apart"], ["apart_sum"], keepdims=0),
        node("Add", ["moved", "apart_sum"], ["sum"]),
        node("Div", ["sum", "count"], ["more"]),
        node("Add", ["depth_2", "more"], ["depth"]),
    ]


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
