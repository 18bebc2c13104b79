"""An int8 graph from an FP32 one: the layers that are bound by arithmetic, and only those.

Quantisation is written into the graph as QuantizeLinear and DequantizeLinear pairs around convolutions and matrix
products (the "QDQ" form), which OpenVINO turns into int8 kernels. Weights are symmetric int8 with a scale per output
channel; activations are uint8 with one scale and zero point per tensor (Jacob et al., arXiv 1712.05877, the scheme of
ONNX's QuantizeLinear). A tensor's range is the one with the least mean squared error on calibration pictures: a few
outliers are clipped so that all other values are finer.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from m2h_export.deploy.cost import multiply_adds, tensor_shapes
from m2h_runtime.errors import M2HError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

MIN_SHARE = 0.003
"""A layer that does less of the graph's arithmetic gains less than its conversions cost."""
MIN_INTENSITY = 60.0
"""Operations per value read and written. Below it a layer waits for memory, and so would its conversion: a 1 x 1
convolution from 64 channels to 9 has 16, one from 64 to 64 has 64, a 3 x 3 of 256 has 2304."""
SAMPLES, IN_ALL = 65536, 524288
"""So many values of a tensor are looked at in each calibration picture, and about so many in all of them."""
SHRINKS = tuple(np.linspace(1.0, 0.3, 29))
"""Parts of the full range that are tried."""


@dataclass(frozen=True)
class Site:
    """One layer to quantise: its node's index in the graph, and the names of its activation and its weight."""

    node: int
    activation: str
    weight: str


def to_int8(
    model: onnx.ModelProto, pictures: Sequence[NDArray[np.uint8]], step: Callable[[], object] = int
) -> onnx.ModelProto:
    """A copy of an FP32 graph whose arithmetic-bound layers compute in int8.

    Args:
        model: static FP32 graph with one input, `image`.
        pictures: calibration images, uint8 (H, W, 3) RGB at the graph's size.
        step: called after each picture.

    Raises:
        M2HError: the graph has no layer that is worth it, or there is no picture.
    """
    sites = find_sites(model)
    if not sites:
        raise M2HError("int8: no layer of this network is bound by arithmetic; --precision fp32 is as fast")
    ranges = activation_ranges(model, sorted({site.activation for site in sites}), pictures, step)
    return _with_pairs(model, sites, ranges)


def find_sites(model: onnx.ModelProto) -> list[Site]:
    """The layers that `to_int8` quantises: large, with constant weights, and bound by arithmetic."""
    shapes = tensor_shapes(model)
    weights = {tensor.name for tensor in model.graph.initializer}
    costs = [2 * multiply_adds(node, shapes) for node in model.graph.node]
    least = MIN_SHARE * sum(costs)
    sites = []
    for index, (node, cost) in enumerate(zip(model.graph.node, costs, strict=True)):
        if node.op_type not in ("Conv", "MatMul") or node.input[1] not in weights or cost < least:
            continue
        if node.op_type == "MatMul" and len(shapes[node.input[1]]) != 2:
            continue
        moved = math.prod(shapes[node.input[0]]) + math.prod(shapes[node.output[0]])
        if cost >= MIN_INTENSITY * moved:
            sites.append(Site(index, node.input[0], node.input[1]))
    return sites


def activation_ranges(
    model: onnx.ModelProto,
    names: Sequence[str],
    pictures: Sequence[NDArray[np.uint8]],
    step: Callable[[], object] = int,
) -> dict[str, tuple[float, float]]:
    """The range to quantise each named tensor over, from what the pictures bring about; it always holds 0.

    Raises:
        M2HError: there is no picture.
    """
    if not pictures:
        raise M2HError("int8: no calibration pictures")
    import onnxruntime as ort

    # Hundreds of pictures must not fill the memory.
    per_picture = max(1, min(SAMPLES, IN_ALL // len(pictures)))
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(
        _sampling(model, names, per_picture).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found: list[list[NDArray[np.float32]]] = []
    for picture in pictures:
        found.append(session.run([_sample_of(name) for name in names], {"image": picture[None]}))
        step()
    samples = zip(names, zip(*found, strict=True), strict=True)
    return {name: best_range(np.concatenate(values)) for name, values in samples}


def _sample_of(name: str) -> str:
    return f"{name}:sample"


def sampling_stride(size: int, samples: int) -> int:
    """Every how many-th of `size` values to look at: no factor in common, else it would be some channels for ever."""
    stride = max(1, size // samples)
    while math.gcd(stride, size) > 1:
        stride += 1
    return stride


def _sampling(model: onnx.ModelProto, names: Sequence[str], samples: int) -> onnx.ModelProto:
    """The graph with one more output per name: every n-th value of that tensor, as whole maps would be gigabytes."""
    watched = copy.deepcopy(model)
    shapes = tensor_shapes(model)
    for name in names:
        stride = sampling_stride(math.prod(shapes[name]), samples)
        flat = f"{name}:flat"
        parts = [f"{flat}:{part}" for part in ("start", "end", "axis", "step")]
        ends = (0, np.iinfo(np.int64).max, 0, stride)
        constants = dict(zip((f"{flat}:shape", *parts), (-1, *ends), strict=True))
        watched.graph.initializer.extend(
            numpy_helper.from_array(np.array([value], np.int64), tensor)
            for tensor, value in constants.items()
        )
        watched.graph.node.append(helper.make_node("Reshape", [name, f"{flat}:shape"], [flat]))
        watched.graph.node.append(helper.make_node("Slice", [flat, *parts], [_sample_of(name)]))
        watched.graph.output.append(
            helper.make_tensor_value_info(_sample_of(name), onnx.TensorProto.FLOAT, [None])
        )
    return watched


def best_range(values: NDArray[np.float32]) -> tuple[float, float]:
    """The (low, high) with low <= 0 <= high whose 256 steps represent `values` with the least squared error."""
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    return min(((low * r, high * r) for r in SHRINKS), key=lambda limits: _squared_error(values, limits))


def _squared_error(values: NDArray[np.float32], limits: tuple[float, float]) -> float:
    scale, zero = activation_scale(*limits)
    steps = np.clip(np.rint(values / np.float32(scale)), -zero, 255 - zero)
    return float(np.mean((steps * np.float32(scale) - values) ** 2))


def activation_scale(low: float, high: float) -> tuple[float, int]:
    """Scale and zero point that map [low, high], which holds 0, onto 0..255 with 0 exactly representable."""
    scale = max(high - low, 1e-8) / 255
    return scale, round(-low / scale)


def quantised_weight(weight: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int8 values and a scale for every slice along `axis`, the output channels."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scale = np.maximum(np.abs(weight).max(axis=others, keepdims=True), 1e-12) / 127
    values = np.clip(np.rint(weight / scale), -127, 127).astype(np.int8)
    return values, scale.reshape(-1).astype(np.float32)


def _with_pairs(
    model: onnx.ModelProto, sites: Sequence[Site], ranges: Mapping[str, tuple[float, float]]
) -> onnx.ModelProto:
    made = copy.deepcopy(model)
    graph = made.graph
    arrays = {tensor.name: tensor for tensor in graph.initializer}
    at = {site.node: site for site in sites}
    nodes: list[NodeProto] = []
    ready: dict[str, str] = {}
    for index, node in enumerate(graph.node):
        if (site := at.get(index)) is not None:
            for name in (site.activation, site.weight):
                if name not in ready:
                    pair = (
                        _weight_pair(arrays[name], 0 if node.op_type == "Conv" else 1)
                        if name == site.weight
                        else _activation_pair(name, ranges[name])
                    )
                    ready[name] = pair.nodes[-1].output[0]
                    nodes += pair.nodes
                    graph.initializer.extend(pair.constants)
            node.input[0], node.input[1] = ready[site.activation], ready[site.weight]
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    onnx.checker.check_model(made)
    return made


@dataclass(frozen=True)
class _Pair:
    nodes: list[NodeProto]
    constants: list[onnx.TensorProto]


def _weight_pair(weight: onnx.TensorProto, axis: int) -> _Pair:
    """Weights are stored as int8: a quarter of the file."""
    values, scale = quantised_weight(np.asarray(numpy_helper.to_array(weight), np.float32), axis)
    names = [f"{weight.name}:{part}" for part in ("int8", "scale", "zero")]
    zero = np.zeros(scale.shape, np.int8)
    arrays: tuple[NDArray[Any], ...] = (values, scale, zero)
    constants = [numpy_helper.from_array(a, n) for a, n in zip(arrays, names, strict=True)]
    return _Pair([helper.make_node("DequantizeLinear", names, [f"{weight.name}:real"], axis=axis)], constants)


def _activation_pair(name: str, limits: tuple[float, float]) -> _Pair:
    scale, zero = activation_scale(*limits)
    names = [f"{name}:scale", f"{name}:zero"]
    constants = [
        numpy_helper.from_array(np.array(scale, np.float32), names[0]),
        numpy_helper.from_array(np.array(zero, np.uint8), names[1]),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", [name, *names], [f"{name}:uint8"]),
        helper.make_node("DequantizeLinear", [f"{name}:uint8", *names], [f"{name}:real"]),
    ]
    return _Pair(nodes, constants)
