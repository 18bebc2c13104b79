"""Parity: the engine just made against PyTorch fp32, per output, on real photographs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from m2h_export.deploy.contract_stage import CrossViewGraph, reference_perception, reference_views
from m2h_export.photographs import camera_of, moved_cameras, seen_from
from m2h_runtime.engine.contract import Neighbours, single_view
from m2h_runtime.engine.manifest import ParityRun
from m2h_runtime.engine.parity import coarsest, compare, summary, violations
from m2h_runtime.engine.select import BACKENDS, backend_class, unavailable
from m2h_runtime.errors import M2HError, ParityError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from m2h_export.deploy.contract_stage import ContractGraph
    from m2h_export.models import CrossView
    from m2h_runtime.engine.base import Engine
    from m2h_runtime.engine.manifest import Manifest
    from m2h_runtime.engine.parity import Figures
    from m2h_runtime.label_space import LabelSpace
    from m2h_runtime.perception import Perception

REQUIRED = {
    "onnx": "onnxruntime-cpu",
    "openvino": "openvino",
    "tensorrt": "tensorrt",
    "tensorrt-rtx": "tensorrt-rtx",
}
"""The backend whose failure means that the export failed. The others are recorded, and not used if they fail."""

FEATURES_REL = {"fp32": 1e-3, "fp16": 1e-2, "bf16": 3e-2}
"""Bounds of a cross-view engine's `features`: root mean square of the difference over that of the reference."""


@dataclass(frozen=True)
class Sample:
    """One inference: uint8 (H, W, 3) RGB, and for two or more views the neighbours."""

    image: NDArray[np.uint8]
    views: Neighbours | None = None


@dataclass(frozen=True)
class Reference:
    """What PyTorch fp32 makes of a sample; `features` (1, K, h, w) of a cross-view network."""

    outputs: Perception
    features: NDArray[np.float32] | None = None


def samples(graph: ContractGraph, images: Sequence[NDArray[np.uint8]]) -> list[Sample]:
    """What an engine is compared on: every image, and for a cross-view network each of them in two ways.

    First with neighbours, then alone. The neighbours are the image itself as seen from a little beside, if it were a
    plane in front of the camera, with that pose and with their features from PyTorch.
    """
    if not isinstance(graph, CrossViewGraph):
        return [Sample(image) for image in images]
    both = [(Sample(image, _neighbours(graph, image)), Sample(image)) for image in images]
    return [sample for pair in both for sample in pair]


@torch.inference_mode()
def _neighbours(graph: CrossViewGraph, image: NDArray[np.uint8]) -> Neighbours:
    """Features are rounded as a golden file stores them."""
    camera = camera_of(image)
    poses = moved_cameras(graph.views.neighbours)
    network = cast("CrossView", graph.network)
    seen = [torch.from_numpy(seen_from(image, pose, camera))[None] for pose in poses]
    features = torch.cat([network.encode_spatial(graph.picture(picture)) for picture in seen])
    return Neighbours(features.numpy(), poses, camera).rounded()


def reference_outputs(
    graph: ContractGraph, inputs: Sequence[Sample], labels: LabelSpace, step: Callable[[], None]
) -> list[Reference]:
    """The published network's outputs for every sample; `step` is called after each."""
    outputs = []
    for sample in inputs:
        outputs.append(_reference(graph, sample, labels))
        step()
    return outputs


def _reference(graph: ContractGraph, sample: Sample, labels: LabelSpace) -> Reference:
    if not isinstance(graph, CrossViewGraph):
        return Reference(reference_perception(graph, sample.image, labels))
    height, width = sample.image.shape[:2]
    views = sample.views or single_view(height, width, graph.views)
    return Reference(*reference_views(graph, sample.image, views, labels))


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
    inputs: Sequence[Sample],
    references: Sequence[Reference],
) -> tuple[ParityRun, list[str]]:
    """Run one backend over all samples. Returns the figures with the verdict, and what is wrong if it failed.

    A cross-view engine has to be right alone and with neighbours; the figures are those of all its samples.
    """
    try:
        with backend_class(backend).open(folder, manifest, None) as engine:
            found = [_compared(engine, *pair) for pair in zip(inputs, references, strict=True)]
            numerics = coarsest(manifest, engine.numerics)
    except M2HError as error:
        return ParityRun(backend, "fail", len(inputs), {}, {}), [str(error)]
    groups = {"": found}
    if manifest.views is not None:
        alone = [sample.views is None for sample in inputs]
        groups = {
            told: [one for one, single in zip(found, alone, strict=True) if single == wanted]
            for told, wanted in (("single view: ", True), ("with neighbours: ", False))
        }
    problems = [told + problem for told, group in groups.items() for problem in _problems(group, numerics)]
    mean, worst = summary([figures for figures, _ in found])
    if manifest.views is not None:
        apart = [features for _, features in found]
        mean["features_rel"], worst["features_rel"] = _rounded(sum(apart) / len(apart)), _rounded(max(apart))
    return ParityRun(backend, "fail" if problems else "pass", len(inputs), mean, worst), problems


def _compared(engine: Engine, sample: Sample, reference: Reference) -> tuple[Figures, float]:
    """The figures of the five outputs, and how far the features are off; 0 without any."""
    figures = compare(engine.infer(sample.image, sample.views), reference.outputs)
    if reference.features is None or engine.features is None:
        return figures, 0.0
    difference = engine.features.astype(np.float64) - reference.features
    return figures, float(
        np.sqrt(np.mean(difference**2) / np.mean(reference.features.astype(np.float64) ** 2))
    )


def _problems(found: Sequence[tuple[Figures, float]], numerics: str) -> list[str]:
    problems = violations(*summary([figures for figures, _ in found]), numerics)
    features = float(np.mean([apart for _, apart in found]))
    if numerics in FEATURES_REL and not features <= FEATURES_REL[numerics]:  # also true for NaN
        problems.append(f"features_rel {features:.3g} > {FEATURES_REL[numerics]:g}")
    return problems


def _rounded(value: float) -> float:
    return float(f"{float(value):.6g}")


def refuse(backend: str, problems: list[str]) -> ParityError:
    """The error of an export whose engine does not do what the network does."""
    return ParityError(
        f"{backend}: the engine differs from PyTorch fp32 ({'; '.join(problems)}); nothing was written. "
        "Try --precision fp32, or another version of the backend"
    )
