"""From a torch module to one clean, static, typed ONNX graph."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from typing import TYPE_CHECKING

import onnx
import torch

from m2h_runtime.engine.contract import OUTPUT_NAMES, input_spec, output_specs
from m2h_runtime.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from m2h_export.deploy.contract_stage import ContractGraph

OPSET = 20
"""LayerNormalization is a node since 17, Gelu since 20; TensorRT 10.3, the oldest that we build with, reads 20."""


def export_graph(graph: ContractGraph, size: tuple[int, int]) -> onnx.ModelProto:
    """Trace a contract graph for pictures of (H, W) and return it as a checked fp32 ONNX model.

    Raises:
        ContractError: the exported graph's tensors are not those of the contract.
    """
    image = torch.zeros(1, *size, 3, dtype=torch.uint8)
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        _quiet("torch.onnx", "onnxscript"),
    ):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph.eval(),
            (image,),
            input_names=["image"],
            output_names=list(OUTPUT_NAMES),
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
    check_contract(model, size)
    return model


def check_contract(model: onnx.ModelProto, size: tuple[int, int]) -> None:
    """Compare a graph's border with the contract and run ONNX's own checker.

    Raises:
        ContractError: a tensor has another name, type or shape.
    """
    onnx.checker.check_model(model, full_check=True)
    for values, specs in (
        (model.graph.input, (input_spec(*size),)),
        (model.graph.output, output_specs(*size)),
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
