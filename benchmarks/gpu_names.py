"""Who takes part in gpu.py, by name; nothing heavy is imported to list them."""

from __future__ import annotations

from typing import Any

TORCH: dict[str, dict[str, Any]] = {  # arguments of torch_forms.Form
    "eager-fp32": {},  # PyTorch's own settings: convolutions may use TF32, products may not
    "eager-fp32-strict": {},  # the reference of everybody's parity
    "eager-tf32": {},
    "eager-fp16-autocast": {"precision": "fp16", "autocast": True},
    "eager-fp16": {"precision": "fp16"},
    "rewritten-eager-fp16": {"rewritten": True, "precision": "fp16"},
    "compile-fp32": {"compiled": "reduce-overhead"},
    "compile-fp16": {"compiled": "reduce-overhead", "precision": "fp16"},
    "rewritten-compile-fp16": {"rewritten": True, "compiled": "reduce-overhead", "precision": "fp16"},
}
STRICT = "eager-fp32-strict"
TF32 = {STRICT: (False, False), "eager-tf32": (True, True)}  # products, convolutions
ORT = {  # precision of the graph, I/O binding, provider, CUDA graph
    "onnxruntime-fp32": ("fp32", False, "CUDA", False),
    "onnxruntime-fp16": ("fp16", False, "CUDA", False),
    "onnxruntime-fp16-binding": ("fp16", True, "CUDA", False),
    "onnxruntime-fp16-graph": ("fp16", True, "CUDA", True),
    "onnxruntime-fp16-tensorrt": ("fp16", True, "Tensorrt", True),
}
TENSORRT = ("tensorrt-fp16", "tensorrt-rtx-fp16")
RUNTIME = {  # our own backends: what m2h-run would use
    "m2h-runtime-onnxruntime-cuda": "onnxruntime-cuda",
    "m2h-runtime-tensorrt": "tensorrt",
    "m2h-runtime-tensorrt-rtx": "tensorrt-rtx",
    "m2h-runtime-onnxruntime-cpu": "onnxruntime-cpu",
}
SLOW = tuple(name for name in TORCH if "compile" in name)
"""Ready only after a minute or so: they come last."""
CONTESTANTS = tuple(
    sorted((*TORCH, *ORT, *TENSORRT, *RUNTIME), key=lambda name: name in SLOW)  # otherwise in this order
)
