"""The golden frame: one image with its PyTorch fp32 outputs, run on this very device before the first frame.

TensorRT 10.3 and 10.4 are known to answer wrongly for vision transformers and say nothing; so every engine
proves itself where it runs.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from m2h_runtime.arrays import check_array
from m2h_runtime.engine.contract import Neighbours
from m2h_runtime.engine.manifest import GOLDEN_NAME
from m2h_runtime.engine.parity import Figures, coarsest, compare, summary, violations
from m2h_runtime.errors import EngineError
from m2h_runtime.perception import Perception

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from m2h_runtime.engine.base import Engine
    from m2h_runtime.engine.manifest import Manifest


@dataclass(frozen=True)
class Golden:
    """An image, uint8 (H, W, 3) RGB, and what the network makes of it; of a cross-view engine with neighbours."""

    image: NDArray[np.uint8]
    outputs: Perception
    views: Neighbours | None = None


def write_golden(
    folder: Path, image: NDArray[np.uint8], reference: Perception, views: Neighbours | None = None
) -> None:
    """Store `image` and its reference outputs; normals as float16 (0.03 degrees) to save space.

    Args:
        folder: of the engine.
        image: uint8 (H, W, 3) RGB at the engine's size.
        reference: what the network makes of it and of `views`.
        views: of a cross-view engine, real neighbours: an identity pose would leave the warping untested. Features are
            stored as float16, so give `views.rounded()` to the network for `reference`.
    """
    extra: dict[str, Any] = {}
    if views is not None:
        extra = {**views.tensors, "neighbour_features": views.features.astype(np.float16)}
    np.savez_compressed(
        folder / GOLDEN_NAME,
        image=image,
        depth=reference.depth,
        semantics=reference.semantics,
        confidence=reference.confidence,
        normals=reference.normals.astype(np.float16),
        edges=reference.edges,
        **extra,
    )


def read_golden(folder: Path, manifest: Manifest) -> Golden:
    """Read the golden frame of a checked engine folder.

    Raises:
        EngineError: it is missing, not of the engine's size, or without the neighbours of a cross-view engine.
    """
    path = folder / GOLDEN_NAME
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        image = check_array("golden image", arrays["image"], np.uint8, (*manifest.size, 3))
        outputs = Perception(
            depth=arrays["depth"],
            semantics=arrays["semantics"],
            confidence=arrays["confidence"],
            normals=arrays["normals"].astype(np.float32),
            edges=arrays["edges"],
            label_space=manifest.label_space,
        )
        views = None if manifest.views is None else _neighbours(arrays)
    except (OSError, KeyError, ValueError) as error:
        raise EngineError(f"{path}: unreadable golden frame ({error}); export the engine again") from error
    return Golden(image, outputs, views)


def _neighbours(arrays: dict[str, NDArray[np.generic]]) -> Neighbours:
    return Neighbours(
        arrays["neighbour_features"].astype(np.float32),
        arrays["neighbour_from_camera"].astype(np.float32),
        arrays["intrinsics"].astype(np.float32),
    )


@dataclass(frozen=True)
class SelfTest:
    """What the golden frame showed. `problems` is empty when the engine passed; `median_ms` is a warm frame."""

    figures: Figures
    problems: tuple[str, ...]
    median_ms: float


def run_self_test(engine: Engine, golden: Golden, budget_s: float = 0.0) -> SelfTest:
    """Run the golden frame, compare it, and time further runs for about `budget_s` (0: one run, not warm)."""
    started = time.perf_counter()
    perception = _infer(engine, golden)
    times_ms = [1e3 * (time.perf_counter() - started)]
    figures = compare(perception, golden.outputs)
    mean, worst = summary([figures])
    problems = tuple(violations(mean, worst, coarsest(engine.manifest, engine.numerics)))
    if engine.features is not None and not np.isfinite(engine.features).all():
        problems += ("features that are not finite",)
    while not problems and time.perf_counter() - started < budget_s:
        before = time.perf_counter()
        _infer(engine, golden)
        times_ms.append(1e3 * (time.perf_counter() - before))
    warm = times_ms[1:] or times_ms
    return SelfTest(figures, problems, float(np.median(warm)))


def _infer(engine: Engine, golden: Golden) -> Perception:
    return engine.infer(golden.image) if golden.views is None else engine.infer(golden.image, golden.views)
