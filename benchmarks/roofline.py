"""The two ceilings of a device, measured: matrix products and a big copy; and what a graph asks of them."""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import onnx
    from timing import Clock

_VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Constant", "Shape"})
"""Operators that move no data."""


def peaks(clock: Clock, device: str, side: int, copy_mb: int, repeats: int) -> dict[str, float]:
    """TFLOP/s of matrix products of `side`³ by type, and GB/s of a copy, bytes read plus bytes written.

    Random numbers: products of zeros run faster than any real ones.
    """
    found = {
        "bf16_tflops": product(clock, device, side, repeats, torch.bfloat16),
        "fp16_tflops": product(clock, device, side, repeats, torch.float16),
        "fp32_tflops": product(clock, device, side, repeats, torch.float32),
    }
    if device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
        found["tf32_tflops"] = product(clock, device, side, repeats, torch.float32)
        torch.backends.cuda.matmul.allow_tf32 = False
    source = torch.randint(0, 256, (copy_mb * 1_000_000,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    ms = median(clock.times(lambda: target.copy_(source), repeats, warm_up=3))
    return {**found, "copy_gb_s": round(2 * source.numel() / ms / 1e6, 1)}


def product(clock: Clock, device: str, side: int, repeats: int, dtype: torch.dtype) -> float:
    """10¹² operations per second, the median."""
    a = torch.randn(side, side, device=device).to(dtype)
    b = torch.randn(side, side, device=device).to(dtype)
    ms = median(clock.times(lambda: a @ b, repeats, warm_up=3))
    return round(2 * side**3 / ms / 1e9, 3)


def traffic(model: onnx.ModelProto) -> tuple[int, int]:
    """Bytes of the weights, read once, and of the activations: each read by every node that takes it and written once.

    That is what a graph moves if no two nodes are fused and nothing stays in a cache. An engine that fuses moves less.
    """
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    weights = {t.name: math.prod(t.dims) * _width(t.data_type) for t in inferred.graph.initializer}
    sizes = {}
    for value in [*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output]:
        tensor = value.type.tensor_type
        sizes[value.name] = math.prod(d.dim_value for d in tensor.shape.dim) * _width(tensor.elem_type)
    nodes = [node for node in inferred.graph.node if node.op_type not in _VIEWS]
    moved = sum(sizes.get(name, 0) for node in nodes for name in [*node.input, *node.output])
    return sum(weights.values()), moved


def _width(element: int) -> int:
    import onnx

    return int(onnx.helper.tensor_dtype_to_np_dtype(element).itemsize)
