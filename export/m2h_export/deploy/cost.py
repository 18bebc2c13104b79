"""Nodes and arithmetic of an ONNX graph."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import onnx

if TYPE_CHECKING:
    from collections.abc import Mapping


def node_count(model: onnx.ModelProto) -> int:
    """Nodes that do something: constants are not counted."""
    return sum(node.op_type != "Constant" for node in model.graph.node)


def gflop(model: onnx.ModelProto) -> float:
    """10⁹ operations of one run: 2 per multiply-add of convolutions and matrix products, nothing else."""
    shapes = tensor_shapes(model)
    return sum(2 * multiply_adds(node, shapes) for node in model.graph.node) / 1e9


def tensor_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor whose shape inference finds it; 0 stands for an unknown length."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    shapes: dict[str, tuple[int, ...]] = {t.name: tuple(t.dims) for t in inferred.graph.initializer}
    for value in [*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output]:
        if value.type.tensor_type.HasField("shape"):
            shapes[value.name] = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
    return shapes


def multiply_adds(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Multiply-adds of one convolution or matrix product; 0 for everything else."""
    if node.op_type == "Conv":  # weight (cout, cin / groups, *k): every output value is a product that long
        return math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
    if node.op_type == "ConvTranspose":  # weight (cin, cout / groups, *k): every input value goes there
        return math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])
    if node.op_type in ("MatMul", "Gemm"):
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-2 if transposed else -1]
    return 0
