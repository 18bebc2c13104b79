"""From a torch module to one clean, static, typed ONNX graph."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch

from m2h_runtime.engine.contract import input_specs, output_specs
from m2h_runtime.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from m2h_export.deploy.contract_stage import ContractGraph
    from m2h_runtime.engine.contract import Views

OPSET = 20
"""LayerNormalization is a node since 17, Gelu since 20; TensorRT 10.3, the oldest that we build with, reads 20."""


def export_graph(graph: ContractGraph, size: tuple[int, int]) -> onnx.ModelProto:
    """Trace a contract graph for pictures of (H, W) and return it as a checked fp32 ONNX model.

    Raises:
        ContractError: the exported graph's tensors are not those of the contract.
    """
    inputs, outputs = input_specs(*size, graph.views), output_specs(*size, graph.views)
    zeros = {spec.name: torch.from_numpy(np.zeros(spec.shape, spec.dtype)) for spec in inputs}
    model = trace(graph, zeros, [spec.name for spec in outputs])
    check_contract(model, size, graph.views)
    return model


def trace(module: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> onnx.ModelProto:
    """A module as an fp32 ONNX model without the exporter's notes.

    Args:
        module: returns a tuple of tensors.
        inputs: its arguments in order, by the names that they get; only their shapes and types matter.
        outputs: names of what it returns.
    """
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        _quiet("torch.onnx", "onnxscript"),
    ):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=OPSET,
            dynamo=True,
            optimize=True,
            verbose=False,
        )
    model: onnx.ModelProto = program.model_proto
    model.graph.name = "m2h"
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    graph_values = (model.graph.input, model.graph.output, model.graph.value_info, model.graph.initializer)
    for value in (value for values in graph_values for value in values):
        del value.metadata_props[:]
        value.doc_string = ""
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
    del model.functions[:]
    return model


def check_contract(model: onnx.ModelProto, size: tuple[int, int], views: Views | None = None) -> None:
    """Compare a graph's border with the contract and run ONNX's own checker.

    Raises:
        ContractError: a tensor has another name, type or shape.
    """
    onnx.checker.check_model(model, full_check=True)
    for values, specs in (
        (model.graph.input, input_specs(*size, views)),
        (model.graph.output, output_specs(*size, views)),
    ):
        found = [
            (
                value.name,
                onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type),
                tuple(d.dim_value for d in value.type.tensor_type.shape.dim),
            )
            for value in values
        ]
        wanted = [(spec.name, spec.dtype, spec.shape) for spec in specs]
        if found != wanted:
            raise ContractError(f"exported graph: expected {wanted}, got {found}")


@contextlib.contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """The exporter logs every step; a person exporting wants to hear of errors only."""
    before = [(name, logging.getLogger(name).level) for name in names]
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        for name, level in before:
            logging.getLogger(name).setLevel(level)
