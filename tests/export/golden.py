"""Reference outputs of the published networks, and what tests compare with them. See tests/data/README.md."""

from __future__ import annotations

import gzip
import json
import math
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from m2h_export.models import build_model
from m2h_export.models.layers import nearest
from m2h_export.random_weights import fill_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from m2h_export.models import M2H
    from m2h_export.models.cross_task import Mixing

DATA = Path(__file__).resolve().parents[1] / "data"
NANO_SIZE = (112, 144)
OUTPUTS = ("depth", "normals", "edges", "semantics")
STRIDES = {"depth": 4, "normals": 4, "edges": 8, "semantics": 16}


class Case(NamedTuple):
    """A network with filled weights, and a picture."""

    network: str
    seed: int
    size: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.network}_seed{self.seed}_{self.size[0]}x{self.size[1]}"


CASES = (
    Case("m2h-small", 0, (224, 224)),
    Case("m2h-small", 1, (240, 320)),
    Case("m2h", 0, (224, 224)),
)


def golden(case: Case) -> dict[str, NDArray[np.generic]]:
    with np.load(DATA / f"golden_{case}.npz", allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def published_shapes(network: str) -> dict[str, tuple[int, ...]]:
    with gzip.open(DATA / f"state_dict_{network}.json.gz", "rt", encoding="utf-8") as stream:
        return {name: tuple(shape) for name, shape in json.load(stream).items()}


def input_image(seed: int, size: tuple[int, int]) -> Tensor:
    """Normalised network input, float32 (1, 3, H, W): smooth waves plus fine noise. The golden arrays' picture."""
    rng = np.random.Generator(np.random.PCG64([seed, 0xCA3E7A]))
    ys, xs = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]), indexing="ij")
    image = np.zeros((3, *size))
    for channel in range(3):
        for _ in range(6):
            fy, fx = rng.uniform(0.5, 9.0, 2)
            phase, weight = rng.uniform(0, 2 * math.pi), rng.uniform(0.2, 0.7)
            image[channel] += weight * np.sin(2 * math.pi * (fy * ys + fx * xs) + phase)
    image += 0.1 * rng.standard_normal(image.shape)
    return torch.from_numpy(image[None].astype(np.float32))


@lru_cache(maxsize=8)
def filled(network: str, seed: int = 0, mixing: Mixing | None = None, ggfm: bool | None = None) -> M2H:
    """A network in evaluation mode with filled weights. Shared between tests: copy it before changing it."""
    model = build_model(network, mixing=mixing, ggfm=ggfm)
    fill_weights(model, seed)
    return model.eval()


@torch.inference_mode()
def run(network: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """All outputs at the picture's size, without the batch axis: also logits that come on the head's own grid."""
    out = network(image)
    out["semantics"] = nearest(out["semantics"], (image.shape[-2], image.shape[-1]))
    return {name: out[name][0] for name in OUTPUTS}


def largest_difference(a: Tensor | NDArray[np.generic], b: Tensor | NDArray[np.generic]) -> float:
    """Of two arrays of one shape; NaN where one has a NaN, which no tolerance admits."""
    first, second = (np.asarray(x, np.float64).squeeze() for x in (a, b))
    assert first.shape == second.shape
    return float(np.abs(first - second).max())


def differences(a: dict[str, Tensor], b: dict[str, Tensor]) -> dict[str, float]:
    return {name: largest_difference(a[name], b[name]) for name in OUTPUTS}


def differences_to_golden(
    outputs: dict[str, Tensor], stored: dict[str, NDArray[np.generic]]
) -> dict[str, float]:
    kept = {name: outputs[name][..., ::step, ::step] for name, step in STRIDES.items()}
    return {name: largest_difference(kept[name], stored[name]) for name in OUTPUTS}


def wrong_labels(logits: Tensor, labels: NDArray[np.generic]) -> int:
    """How many pixels of (K, H, W) logits decide for another class, near ties (1e-4) apart."""
    truth = torch.from_numpy(labels.astype(np.int64))
    gap = logits.max(dim=0).values - logits.gather(0, truth[None])[0]
    return int((gap > 1e-4).sum())
