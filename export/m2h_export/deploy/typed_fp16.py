"""Precision decided in the graph: a typed FP16 graph with FP32 islands, from an FP32 one.

TensorRT 11 knows strongly typed networks only, and FP16 vision transformers go wrong where LayerNorm and softmax
overflow. So types are written into the ONNX graph, and TensorRT 10, 11, TensorRT-RTX and ONNX Runtime CUDA all do
the same. Converting the graph also spares us tracing half-precision convolutions on a CPU.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

ISLANDS = frozenset(
    {
        "LayerNormalization",  # sums of squares
        "Softmax",  # sums of exponentials
        "ReduceMean",  # sums over whole maps
        "ReduceSum",
        "ReduceL2",
        "Pow",
        "Sqrt",
        "Exp",
        "Reciprocal",
        "Div",
        "Clip",  # the 1e-12 under a norm is zero in half precision
        "GridSample",  # a position in half precision is parts of a cell off
    }
)
"""Operators that stay in FP32 wherever they are."""

FEATURES_IN = "neighbour_features"
"""An input that is data like any other: it comes from a graph in half precision."""

_TYPE_OF_ITS_OWN = frozenset({"Cast", "Shape", "ConstantOfShape", "Range"})
_BORDER = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm", "Resize"})
_FLOAT_ARGUMENTS = {"Resize": (1, 2)}  # roi and scales are float32 whatever the data is


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of an FP32 graph with FP16 weights and activations.

    FP32 stay: the operators of `ISLANDS`, everything from the uint8 input to the first convolution, and
    everything from the last convolution, product or resize to an output. So do the poses and intrinsics of a
    cross-view graph with all that is computed of them, and the matches that are sampled there with their product, as
    nothing bounds them. Inputs and outputs keep their types.
    """
    return _Typer(model).run()


class _Typer:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = onnx.shape_inference.infer_shapes(model, data_prop=True)
        graph = self.model.graph
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        self.types = {name: tensor.data_type for name, tensor in self.weights.items()}
        for value in [*graph.input, *graph.value_info, *graph.output]:
            self.types[value.name] = value.type.tensor_type.elem_type
        self.outputs = {value.name for value in graph.output}
        self.islands = self._islands()
        self.now = dict(self.types)  # the type that each value has in the new graph
        self.nodes: list[NodeProto] = []
        self.made: dict[tuple[str, int], str] = {}
        self.new_weights: dict[str, TensorProto] = {}

    def _islands(self) -> set[int]:
        """Indices of the nodes that stay in FP32."""
        nodes = self.model.graph.node
        keep = {i for i, node in enumerate(nodes) if node.op_type in ISLANDS}
        before = {value.name for value in self.model.graph.input} - {FEATURES_IN}
        for i, node in enumerate(nodes):
            if node.op_type not in _BORDER and any(name in before for name in node.input):
                keep.add(i)
                # A decision has no precision to hand on.
                before.update(name for name in node.output if self.types.get(name) != TensorProto.BOOL)
        after = set(self.outputs)
        for i in reversed(range(len(nodes))):
            if nodes[i].op_type not in _BORDER and any(name in after for name in nodes[i].output):
                keep.add(i)
                after.update(nodes[i].input)
        return keep | self._sampled()

    def _sampled(self) -> set[int]:
        """Indices of what leads to a map that positions are looked up in, back to the product that made it."""
        keep, wanted = (
            set(),
            {node.input[0] for node in self.model.graph.node if node.op_type == "GridSample"},
        )
        for i, node in reversed(list(enumerate(self.model.graph.node))):
            if wanted.intersection(node.output):
                keep.add(i)
                wanted.update(() if node.op_type in _BORDER else node.input)
        return keep

    def run(self) -> onnx.ModelProto:
        for i, node in enumerate(self.model.graph.node):
            self._convert(i, node)
        graph = helper.make_graph(
            self.nodes,
            self.model.graph.name,
            self.model.graph.input,
            self.model.graph.output,
            list(self.new_weights.values()),
        )
        typed = helper.make_model(
            graph, opset_imports=self.model.opset_import, ir_version=self.model.ir_version
        )
        onnx.checker.check_model(typed, full_check=True)
        return typed

    def _convert(self, index: int, node: NodeProto) -> None:
        new = NodeProto()
        new.CopyFrom(node)
        if node.op_type == "Constant":
            self.nodes.append(new)
            self.types[node.output[0]] = self.now[node.output[0]] = _constant_type(node)
            return
        wanted = TensorProto.FLOAT if index in self.islands else TensorProto.FLOAT16
        keep_float = _FLOAT_ARGUMENTS.get(node.op_type, ())
        for position, name in enumerate(node.input):
            new.input[position] = self._as(name, TensorProto.FLOAT if position in keep_float else wanted)
        for name in node.output:
            if self.types.get(name) == TensorProto.FLOAT and node.op_type not in _TYPE_OF_ITS_OWN:
                self.now[name] = wanted
        self.nodes.append(new)
        for position, name in enumerate(node.output):
            if name in self.outputs and self.now.get(name) != self.types[name]:
                new.output[position] = f"{name}_fp16"  # an output keeps its type
                self.nodes.append(
                    helper.make_node("Cast", [new.output[position]], [name], to=self.types[name])
                )
                self.made[name, wanted] = new.output[position]  # for those who read it here
                self.now[name] = self.types[name]

    def _as(self, name: str, wanted: int) -> str:
        """The name of `name` in the wanted float type; other types and empty names stay as they are."""
        if not name or self.types.get(name) != TensorProto.FLOAT:
            if name in self.weights:
                self.new_weights[name] = self.weights[name]
            return name
        if name in self.weights:
            return self._weight_as(name, wanted)
        if self.now[name] == wanted:
            return name
        if (name, wanted) not in self.made:
            cast = f"{name}_{'fp16' if wanted == TensorProto.FLOAT16 else 'fp32'}"
            self.nodes.append(helper.make_node("Cast", [name], [cast], name=f"cast_{cast}", to=wanted))
            self.made[name, wanted] = cast
        return self.made[name, wanted]

    def _weight_as(self, name: str, wanted: int) -> str:
        if wanted == TensorProto.FLOAT:
            self.new_weights[name] = self.weights[name]
            return name
        half = f"{name}_fp16"
        if half not in self.new_weights:
            values = numpy_helper.to_array(self.weights[name])
            self.new_weights[half] = numpy_helper.from_array(values.astype(np.float16), half)
        return half


def _constant_type(node: NodeProto) -> int:
    for attribute in node.attribute:
        if attribute.name == "value":
            return int(attribute.t.data_type)
    return int(TensorProto.INT64)


def store_weights_as_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """An FP32 graph whose large weights lie in the file as FP16, each behind a Cast: half the size, same speed.

    Runtimes fold the casts when they load the graph.
    """
    halved = onnx.ModelProto()
    halved.CopyFrom(model)
    casts = []
    for tensor in halved.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < 1024:
            continue
        values, name = numpy_helper.to_array(tensor), tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_fp16"))
        casts.append(
            helper.make_node("Cast", [tensor.name], [name], name=f"cast_{name}", to=TensorProto.FLOAT)
        )
    nodes = [*casts, *halved.graph.node]
    del halved.graph.node[:]
    halved.graph.node.extend(nodes)
    onnx.checker.check_model(halved, full_check=True)
    return halved
