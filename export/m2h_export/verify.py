"""Parity: the engine just made against PyTorch fp32, per output, on real photographs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m2h_export.deploy.contract_stage import reference_perception
from m2h_runtime.engine.manifest import ParityRun
from m2h_runtime.engine.parity import coarsest, compare, summary, violations
from m2h_runtime.engine.select import BACKENDS, backend_class, unavailable
from m2h_runtime.errors import M2HError, ParityError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from m2h_export.deploy.contract_stage import ContractGraph
    from m2h_runtime.engine.manifest import Manifest
    from m2h_runtime.label_space import LabelSpace
    from m2h_runtime.perception import Perception

REQUIRED = {
    "onnx": "onnxruntime-cpu",
    "openvino": "openvino",
    "tensorrt": "tensorrt",
    "tensorrt-rtx": "tensorrt-rtx",
}
"""The backend whose failure means that the export failed. The others are recorded, and not used if they fail."""


def reference_outputs(
    graph: ContractGraph, images: Sequence[NDArray[np.uint8]], labels: LabelSpace, step: Callable[[], None]
) -> list[Perception]:
    """The published network's outputs for every image; `step` is called after each."""
    outputs = []
    for image in images:
        outputs.append(reference_perception(graph, image, labels))
        step()
    return outputs


def backends_to_verify(target: str) -> list[str]:
    """The target's own backend, then all others that can run its graph on this machine."""
    own = REQUIRED[target]
    plans = ("tensorrt", "tensorrt-rtx")
    others = [name for name in BACKENDS if name != own and name not in plans]
    return [name for name in (own, *others) if unavailable(name) is None]


def verify(
    backend: str,
    folder: Path,
    manifest: Manifest,
    images: Sequence[NDArray[np.uint8]],
    references: Sequence[Perception],
) -> tuple[ParityRun, list[str]]:
    """Run one backend over all images. Returns the figures with the verdict, and what is wrong if it failed."""
    try:
        with backend_class(backend).open(folder, manifest, None) as engine:
            figures = [
                compare(engine.infer(image), ref) for image, ref in zip(images, references, strict=True)
            ]
            numerics = coarsest(manifest, engine.numerics)
    except M2HError as error:
        return ParityRun(backend, "fail", len(images), {}, {}), [str(error)]
    mean, worst = summary(figures)
    problems = violations(mean, worst, numerics)
    return ParityRun(backend, "fail" if problems else "pass", len(images), mean, worst), problems


def refuse(backend: str, problems: list[str]) -> ParityError:
    """The error of an export whose engine does not do what the network does."""
    return ParityError(
        f"{backend}: the engine differs from PyTorch fp32 ({'; '.join(problems)}); nothing was written. "
        "Try --precision fp32, or another version of the backend"
    )
