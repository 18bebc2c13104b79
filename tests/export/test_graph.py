"""The exported graph: what is in it, what it costs, its types, and that it computes the same."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import torch
from golden import NANO_SIZE, input_image
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from m2h_export.deploy.contract_stage import ContractGraph, reference_perception
from m2h_export.deploy.cost import gflop, multiply_adds, node_count, tensor_shapes
from m2h_export.deploy.graph import check_contract
from m2h_export.deploy.int8 import (
    activation_scale,
    best_range,
    find_sites,
    quantised_weight,
    sampling_stride,
    to_int8,
)
from m2h_export.deploy.typed_fp16 import store_weights_as_fp16, to_fp16
from m2h_export.photographs import photographs
from m2h_runtime.engine.contract import OUTPUT_NAMES, output_specs
from m2h_runtime.engine.parity import compare, summary, violations
from m2h_runtime.errors import ContractError, M2HError
from m2h_runtime.label_space import default_label_space
from m2h_runtime.perception import Perception

if TYPE_CHECKING:
    from conftest import Traced
    from numpy.typing import NDArray

LABELS = default_label_space(41)
PRODUCTS = ("Conv", "ConvTranspose", "MatMul", "Gemm")


@pytest.fixture(scope="module")
def pictures() -> list[NDArray[np.uint8]]:
    return photographs(NANO_SIZE, None)


@pytest.fixture(scope="module")
def typed(traced: Traced) -> onnx.ModelProto:
    return to_fp16(traced.deploy)


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    """ONNX element type of every tensor."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    types = {tensor.name: tensor.data_type for tensor in inferred.graph.initializer}
    for value in [*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output]:
        types[value.name] = value.type.tensor_type.elem_type
    return types


def perceptions(model: onnx.ModelProto, images: list[NDArray[np.uint8]]) -> list[Perception]:
    """What ONNX Runtime makes of a graph."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = []
    for image in images:
        out = dict(zip(OUTPUT_NAMES, session.run(OUTPUT_NAMES, {"image": image[None]}), strict=True))
        for spec in output_specs(*NANO_SIZE):
            assert (out[spec.name].dtype, out[spec.name].shape) == (spec.dtype, spec.shape)
        arrays = {name: value[0] for name, value in out.items()}
        normals = np.ascontiguousarray(arrays.pop("normals").transpose(1, 2, 0))
        found.append(Perception(**arrays, normals=normals, label_space=LABELS))
    return found


# What is in the graph


@pytest.mark.parametrize("name", ["published", "deploy"])
def test_graph_has_the_tensors_of_the_contract(name: str, traced: Traced) -> None:
    graph = getattr(traced, name).graph
    found = {
        value.name: (
            value.type.tensor_type.elem_type,
            [d.dim_value for d in value.type.tensor_type.shape.dim],
        )
        for value in [*graph.input, *graph.output]
    }
    h, w = NANO_SIZE
    assert found == {
        "image": (TensorProto.UINT8, [1, h, w, 3]),
        "depth": (TensorProto.FLOAT, [1, h, w]),
        "semantics": (TensorProto.UINT8, [1, h, w]),
        "confidence": (TensorProto.UINT8, [1, h, w]),
        "normals": (TensorProto.FLOAT, [1, 3, h, w]),
        "edges": (TensorProto.UINT8, [1, h, w]),
    }
    assert [value.name for value in graph.output] == list(OUTPUT_NAMES)


def test_contract_check_refuses_another_size_name_or_type(traced: Traced) -> None:
    check_contract(traced.deploy, NANO_SIZE)
    with pytest.raises(ContractError, match="exported graph: expected"):
        check_contract(traced.deploy, (112, 160))
    renamed = onnx.compose.add_prefix(traced.deploy, "x_")
    with pytest.raises(ContractError, match="'x_image'"):
        check_contract(renamed, NANO_SIZE)
    retyped = onnx.ModelProto()
    retyped.CopyFrom(traced.deploy)
    retyped.graph.node.append(helper.make_node("Cast", ["depth"], ["deep"], to=TensorProto.DOUBLE))
    retyped.graph.output[0].CopyFrom(
        helper.make_tensor_value_info("deep", TensorProto.DOUBLE, (1, *NANO_SIZE))
    )
    with pytest.raises(ContractError, match="float64"):
        check_contract(retyped, NANO_SIZE)


def is_square(node: onnx.NodeProto | None) -> bool:
    """x - mean, x ** 2 or x * x: what a decomposed LayerNorm takes means of. A product with weights is none."""
    if node is None:
        return False
    return node.op_type in ("Pow", "Sub") or (node.op_type == "Mul" and node.input[0] == node.input[1])


def test_layer_norm_is_one_node(traced: Traced) -> None:
    """Two a block, two a cross-task layer, one an ASPP. Decomposed it would be slow, and overflow in half precision."""
    graph = traced.deploy.graph
    assert all(opset.version >= 17 for opset in traced.deploy.opset_import if not opset.domain)
    counts = Counter(node.op_type for node in graph.node)
    assert counts["LayerNormalization"] == 2 * 4 + 2 * 2 + 2
    maker = {name: node for node in graph.node for name in node.output}
    squares = [
        node.name
        for node in graph.node
        if node.op_type == "ReduceMean" and is_square(maker.get(node.input[0]))
    ]
    assert not squares
    assert counts["Pow"] + counts["Sqrt"] + counts["ReduceL2"] <= 3  # the length of a normal, twice


def test_graph_is_static(traced: Traced) -> None:
    counts = Counter(node.op_type for node in traced.deploy.graph.node)
    assert not counts.keys() & {"Shape", "ConstantOfShape", "Range", "NonZero", "Loop", "If", "Scan"}
    shapes = tensor_shapes(traced.deploy)
    assert all(name in shapes for node in traced.deploy.graph.node for name in node.output if name)
    assert all(0 not in shape for shape in shapes.values())
    assert not traced.deploy.functions
    assert {opset.domain for opset in traced.deploy.opset_import} == {""}


def test_tensorrt_can_read_it(traced: Traced, typed: onnx.ModelProto) -> None:
    """TensorRT does not permute uint8, and has no GroupNormalization before version 10."""
    for model in (traced.deploy, typed):
        types = types_of(model)
        assert not [node.name for node in model.graph.node if node.op_type == "GroupNormalization"]
        for node in model.graph.node:
            if node.op_type in ("Transpose", "Mul", "Add", "Sub", "Resize"):
                assert types[node.input[0]] != TensorProto.UINT8, node.name
        assert TensorProto.DOUBLE not in types.values()


def test_rewrites_save_nodes_and_work(traced: Traced) -> None:
    assert node_count(traced.deploy) < 0.8 * node_count(traced.published)
    assert gflop(traced.deploy) < 0.95 * gflop(traced.published)


def test_graph_carries_no_notes_of_the_exporter(traced: Traced) -> None:
    """They are source lines and paths of the machine that traced it."""
    graph = traced.deploy.graph
    for part in (
        *graph.node,
        *graph.input,
        *graph.output,
        *graph.value_info,
        *graph.initializer,
        graph,
        traced.deploy,
    ):
        assert not part.metadata_props
        assert not part.doc_string


# What it costs


def tiny(
    nodes: list[onnx.NodeProto], inputs: dict[str, tuple[int, ...]], output: str, **weights: tuple[int, ...]
) -> float:
    """FLOPs that the counter finds in a graph with zero weights."""
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in weights.items()],
    )
    return 1e9 * gflop(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))


def test_flops_by_hand() -> None:
    node = helper.make_node
    conv = node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1], strides=[2, 2])
    assert tiny([conv], {"x": (1, 3, 8, 10)}, "y", w=(16, 3, 3, 3)) == pytest.approx(
        2 * (16 * 4 * 5) * (3 * 3 * 3)
    )
    grouped = node("Conv", ["x", "w"], ["y"], group=4)
    assert tiny([grouped], {"x": (1, 8, 6, 6)}, "y", w=(8, 2, 3, 3)) == pytest.approx(
        2 * (8 * 4 * 4) * (2 * 3 * 3)
    )
    wider = node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2])
    assert tiny([wider], {"x": (1, 5, 3, 4)}, "y", w=(5, 7, 2, 2)) == pytest.approx(
        2 * (5 * 3 * 4) * (7 * 2 * 2)
    )
    product = node("MatMul", ["a", "b"], ["y"])
    assert tiny([product], {"a": (2, 3, 4, 5), "b": (2, 3, 5, 6)}, "y") == pytest.approx(
        2 * (2 * 3) * 4 * 5 * 6
    )
    gemm = node("Gemm", ["a", "b"], ["y"], transA=1)
    assert tiny([gemm], {"a": (7, 3), "b": (7, 4)}, "y") == pytest.approx(2 * 3 * 7 * 4)
    rest = [node("Relu", ["x"], ["r"]), node("Add", ["r", "x"], ["y"])]
    assert tiny(rest, {"x": (1, 8, 6, 6)}, "y") == 0


def test_nodes_by_hand() -> None:
    nodes = [
        helper.make_node("Constant", [], ["one"], value_float=1.0),
        helper.make_node("Add", ["x", "one"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "tiny", [], [])
    assert node_count(helper.make_model(graph)) == 1


def test_flops_of_the_published_graph_are_those_that_torch_counts(traced: Traced) -> None:
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):  # with gradients on, attention is made of parts that it sees
        traced.model(input_image(0, NANO_SIZE))
    assert gflop(traced.published) == pytest.approx(counter.get_total_flops() / 1e9, rel=0.01)


# What it computes


def test_both_graphs_compute_what_torch_computes(traced: Traced, pictures: list[NDArray[np.uint8]]) -> None:
    references = [reference_perception(traced.reference, image, LABELS) for image in pictures[:3]]
    for model in (traced.published, traced.deploy):
        found = perceptions(model, pictures[:3])
        assert not violations(
            *summary([compare(a, b) for a, b in zip(found, references, strict=True)]), "fp32"
        )
    shuffled = [compare(a, b) for a, b in zip(found, references[1:] + references[:1], strict=True)]
    assert violations(*summary(shuffled), "fp32"), "this comparison can fail"


def test_half_graph_agrees_with_the_full_one(
    traced: Traced, typed: onnx.ModelProto, pictures: list[NDArray[np.uint8]]
) -> None:
    figures = [
        compare(half, full)
        for half, full in zip(perceptions(typed, pictures), perceptions(traced.deploy, pictures), strict=True)
    ]
    mean, worst = summary(figures)
    assert not violations(mean, worst, "fp16")
    assert mean["label_agreement"] >= 0.99
    assert mean["depth_rel"] <= 0.01
    assert mean["normal_deg"] <= 1.0
    assert mean["normal_deg"] > 0, "it is another precision"
    assert worst["nonfinite"] == 0


def test_half_graph_has_half_weights_and_full_islands(typed: onnx.ModelProto) -> None:
    onnx.checker.check_model(typed, full_check=True)
    types = types_of(typed)
    weights = {tensor.name for tensor in typed.graph.initializer}
    counts: Counter[str] = Counter()
    for node in typed.graph.node:
        if node.op_type in PRODUCTS:
            assert {types[name] for name in node.input if name} == {TensorProto.FLOAT16}, node.name
            counts["weighted"] += any(name in weights for name in node.input)
        if node.op_type in ("LayerNormalization", "Softmax", "ReduceMean", "Exp"):
            full = {types[name] for name in [*node.input, *node.output] if name} - {TensorProto.INT64}
            assert full == {TensorProto.FLOAT}, node.name
            counts[node.op_type] += 1
    assert counts["weighted"] > 100
    assert counts["LayerNormalization"] == 2 * 4 + 2 * 2 + 2
    assert counts["Softmax"] == 4 + 2
    large = [
        t.name for t in typed.graph.initializer if np.prod(t.dims) > 4096 and t.data_type == TensorProto.FLOAT
    ]
    assert not large


def test_half_graph_keeps_the_contract_and_halves_the_file(traced: Traced, typed: onnx.ModelProto) -> None:
    check_contract(typed, NANO_SIZE)
    assert typed.ByteSize() < 0.56 * traced.deploy.ByteSize()
    assert gflop(typed) == pytest.approx(gflop(traced.deploy))


def test_typing_leaves_its_input_alone(traced: Traced) -> None:
    before = traced.deploy.SerializeToString(deterministic=True)
    to_fp16(traced.deploy)
    store_weights_as_fp16(traced.deploy)
    assert traced.deploy.SerializeToString(deterministic=True) == before


def test_half_weights_halve_the_file_and_hardly_change_the_outputs(
    traced: Traced, pictures: list[NDArray[np.uint8]]
) -> None:
    stored = store_weights_as_fp16(traced.deploy)
    check_contract(stored, NANO_SIZE)
    assert stored.ByteSize() < 0.56 * traced.deploy.ByteSize()
    types = types_of(stored)
    for node in stored.graph.node:
        if node.op_type in PRODUCTS:
            assert {types[name] for name in node.input if name} == {TensorProto.FLOAT}, node.name
    images = pictures[:3]
    found = zip(perceptions(stored, images), perceptions(traced.deploy, images), strict=True)
    assert not violations(*summary([compare(a, b) for a, b in found]), "fp16")


# The contract's own steps


class Fixed(nn.Module):
    """A network that answers the same to every picture, and keeps what it was shown."""

    def __init__(self, out: dict[str, Tensor]) -> None:
        super().__init__()
        self.out, self.seen = out, torch.empty(0)

    def forward(self, picture: Tensor) -> dict[str, Tensor]:
        self.seen = picture
        return self.out


def fixed(size: tuple[int, int] = (4, 6), classes: int = 5) -> dict[str, Tensor]:
    torch.manual_seed(3)
    return {
        "depth": torch.rand(1, 1, *size) * 20 + 0.001,
        "semantics": 3 * torch.randn(1, classes, *size),
        "normals": torch.randn(1, 3, *size) * torch.rand(1, 1, *size),
        "edges": 3 * torch.randn(1, 1, *size),
    }


def test_contract_steps_are_what_the_contract_says() -> None:
    out = fixed()
    network = Fixed(out)
    image = torch.randint(0, 256, (1, 4, 6, 3), dtype=torch.uint8)
    mean, std = (0.48, 0.47, 0.46), (0.25, 0.26, 0.27)
    found = ContractGraph(network, mean, std)(image)
    wanted = (image.permute(0, 3, 1, 2) / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[
        :, None, None
    ]
    torch.testing.assert_close(network.seen, wanted, atol=2e-6, rtol=0)
    torch.testing.assert_close(found.depth, out["depth"][:, 0])
    chances = out["semantics"].softmax(dim=1).max(dim=1)
    assert torch.equal(found.semantics, chances.indices.byte())
    assert (found.confidence.float() - 255 * chances.values).abs().max() <= 0.501
    torch.testing.assert_close(found.normals, nn.functional.normalize(out["normals"], dim=1))
    assert (found.edges.float() - 255 * out["edges"][:, 0].sigmoid()).abs().max() <= 0.501


def test_depth_limit_and_normal_signs() -> None:
    out = fixed()
    image = torch.zeros(1, 4, 6, 3, dtype=torch.uint8)
    plain = ContractGraph(Fixed(out), (0, 0, 0), (1, 1, 1))(image)
    found = ContractGraph(Fixed(out), (0, 0, 0), (1, 1, 1), max_depth_m=10.0, normals_sign=(1, -1, -1))(image)
    assert plain.depth.max() > 10
    assert torch.equal(found.depth, plain.depth.clamp(max=10.0))
    assert torch.equal(found.normals, plain.normals * torch.tensor([1.0, -1.0, -1.0])[:, None, None])


def test_a_vanishing_normal_is_no_nan() -> None:
    out = fixed() | {"normals": torch.zeros(1, 3, 4, 6)}
    found = ContractGraph(Fixed(out), (0, 0, 0), (1, 1, 1))(torch.zeros(1, 4, 6, 3, dtype=torch.uint8))
    assert found.normals.isfinite().all()


def test_logits_on_a_coarser_grid_give_the_nearest_decision() -> None:
    out = fixed((4, 6)) | {"semantics": 3 * torch.randn(1, 5, 2, 3)}
    found = ContractGraph(Fixed(out), (0, 0, 0), (1, 1, 1))(torch.zeros(1, 4, 6, 3, dtype=torch.uint8))
    small = out["semantics"].argmax(dim=1).byte()
    assert torch.equal(found.semantics, small.repeat_interleave(2, 1).repeat_interleave(2, 2))


def test_normals_have_unit_length(traced: Traced, pictures: list[NDArray[np.uint8]]) -> None:
    (found,) = perceptions(traced.deploy, pictures[:1])
    assert np.abs(np.linalg.norm(found.normals, axis=-1) - 1).max() < 1e-5


@pytest.fixture(scope="module")
def quantised(traced: Traced, pictures: list[NDArray[np.uint8]]) -> onnx.ModelProto:
    return to_int8(traced.deploy, [np.ascontiguousarray(picture[:, ::-1]) for picture in pictures])


def test_int8_is_for_the_large_layers_only(traced: Traced, quantised: onnx.ModelProto) -> None:
    shapes = tensor_shapes(traced.deploy)
    sites = find_sites(traced.deploy)
    whole = sum(2 * multiply_adds(node, shapes) for node in traced.deploy.graph.node)
    assert sites
    for site in sites:
        assert 2 * multiply_adds(traced.deploy.graph.node[site.node], shapes) > 0.003 * whole
    stored = {tensor.name: tensor for tensor in quantised.graph.initializer}
    kinds = Counter(node.op_type for node in quantised.graph.node)
    assert kinds["QuantizeLinear"] == len({site.activation for site in sites})
    assert kinds["DequantizeLinear"] == kinds["QuantizeLinear"] + len({site.weight for site in sites})
    for site in sites:
        assert site.weight not in stored  # the float weights are gone from the file
        assert stored[f"{site.weight}:int8"].data_type == TensorProto.INT8


def test_int8_graph_keeps_its_parity(
    traced: Traced, quantised: onnx.ModelProto, pictures: list[NDArray[np.uint8]]
) -> None:
    pairs = zip(perceptions(quantised, pictures), perceptions(traced.deploy, pictures), strict=True)
    mean, worst = summary([compare(got, reference) for got, reference in pairs])
    assert not violations(mean, worst, "int8")
    assert violations(mean, worst, "fp32")  # it does compute in int8


def test_ranges_clip_outliers_and_hold_zero() -> None:
    values = np.random.default_rng(0).normal(3.0, 0.1, 100_000).astype(np.float32)
    assert best_range(values)[0] == 0.0
    low, high = best_range(np.append(values, np.float32(300.0)))
    assert (low, 3.2 < high < 300.0) == (0.0, True)
    scale, zero = activation_scale(-1.0, 3.0)
    assert (round(-1.0 / scale) + zero, round(3.0 / scale) + zero) == (0, 255)


def test_int8_weights_are_symmetric_per_output_channel() -> None:
    weight = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    weight[1] *= 100.0
    values, scale = quantised_weight(weight, 0)
    assert np.abs(values).max() == 127
    error = np.abs(values * scale[:, None, None, None] - weight).max(axis=(1, 2, 3))
    assert np.all(error <= 0.5001 * scale)  # a wide channel costs its neighbours nothing


@pytest.mark.parametrize(("tokens", "channels"), [(368, 384), (256, 768), (256, 1536), (1, 7), (50176, 9)])
def test_int8_calibration_looks_at_every_channel(tokens: int, channels: int) -> None:
    seen = np.arange(tokens * channels)[:: sampling_stride(tokens * channels, 65536)] % channels
    assert len(np.unique(seen)) == channels


def test_int8_needs_pictures(traced: Traced) -> None:
    with pytest.raises(M2HError, match="no calibration pictures"):
        to_int8(traced.deploy, [])
