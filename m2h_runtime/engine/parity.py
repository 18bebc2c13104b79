"""How far an engine's outputs are from the PyTorch fp32 reference, and how far is too far."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from m2h_runtime.engine.manifest import Manifest


class DenseOutputs(Protocol):
    """The five arrays to compare: a `Perception`, or a reference of the same shapes."""

    @property
    def depth(self) -> NDArray[np.float32]: ...  # noqa: D102
    @property
    def semantics(self) -> NDArray[np.uint8]: ...  # noqa: D102
    @property
    def confidence(self) -> NDArray[np.uint8]: ...  # noqa: D102
    @property
    def normals(self) -> NDArray[np.float32]: ...  # noqa: D102
    @property
    def edges(self) -> NDArray[np.uint8]: ...  # noqa: D102


@dataclass(frozen=True)
class Figures:
    """Differences between one image's outputs and their reference. Smaller is better, save the two marked.

    Attributes:
        depth_rel: mean |depth - reference| / reference.
        depth_scale: median depth / reference; 1 is best (this one shows a lost metric scale).
        depth_max_abs_m: largest absolute difference, metres.
        label_agreement: share of pixels with the same class id; 1 is best.
        confidence_mae: mean absolute difference of the class probability, 0..1.
        normal_deg: mean angle between the normals, degrees.
        edge_mae: mean absolute difference of the boundary probability, 0..1.
        nonfinite: how many depth and normal values are NaN or infinite.
    """

    depth_rel: float
    depth_scale: float
    depth_max_abs_m: float
    label_agreement: float
    confidence_mae: float
    normal_deg: float
    edge_mae: float
    nonfinite: int


@dataclass(frozen=True)
class Limits:
    """Bounds that the mean over the images has to keep; no image may have a NaN or infinity."""

    depth_rel: float
    depth_scale_off: float
    label_agreement: float
    normal_deg: float
    edge_mae: float


LIMITS = {
    "fp32": Limits(
        depth_rel=1e-3, depth_scale_off=1e-3, label_agreement=0.999, normal_deg=0.1, edge_mae=5e-3
    ),
    "fp16": Limits(depth_rel=1e-2, depth_scale_off=1e-2, label_agreement=0.99, normal_deg=1.0, edge_mae=1e-2),
    # bf16 keeps 8 bits of mantissa: a network's own noise, still far below its error on real scenes.
    "bf16": Limits(depth_rel=2e-2, depth_scale_off=1e-2, label_agreement=0.95, normal_deg=3.0, edge_mae=2e-2),
    # int8 in the large layers, and mostly bf16 around them. Random weights decide between classes by a hair.
    "int8": Limits(depth_rel=2e-2, depth_scale_off=1e-2, label_agreement=0.93, normal_deg=4.0, edge_mae=2e-2),
}


_COARSENESS = ("fp32", "fp16", "bf16", "int8")


def coarsest(manifest: Manifest, numerics: str | None) -> str:
    """Whose limits hold: the coarsest of the graph's types, its stored weights and what the backend computes in."""
    return max(manifest.precision, manifest.weights, numerics or "fp32", key=_COARSENESS.index)


def compare(got: DenseOutputs, reference: DenseOutputs) -> Figures:
    """The figures of one image; both sides at the same size H × W."""
    depth, true_depth = got.depth.astype(np.float64), reference.depth.astype(np.float64)
    nonfinite = int(np.count_nonzero(~np.isfinite(depth)) + np.count_nonzero(~np.isfinite(got.normals)))
    difference = np.abs(depth - true_depth)
    return Figures(
        depth_rel=float(np.mean(difference / true_depth)),
        depth_scale=float(np.median(depth / true_depth)),
        depth_max_abs_m=float(difference.max()),
        label_agreement=float(np.mean(got.semantics == reference.semantics)),
        confidence_mae=_mean_byte_difference(got.confidence, reference.confidence),
        normal_deg=float(np.mean(angles_deg(got.normals, reference.normals))),
        edge_mae=_mean_byte_difference(got.edges, reference.edges),
        nonfinite=nonfinite,
    )


def angles_deg(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Angle between unit vectors (H, W, 3), degrees, stable near 0 and 180: 2 atan2(|a-b|, |a+b|)."""
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    apart = np.linalg.norm(wide_a - wide_b, axis=-1)
    along = np.linalg.norm(wide_a + wide_b, axis=-1)
    angle: NDArray[np.float64] = np.degrees(2 * np.arctan2(apart, along))
    return angle


def summary(figures: Sequence[Figures]) -> tuple[dict[str, float], dict[str, float]]:
    """Mean and worst of every figure over the images, rounded to 6 significant digits."""
    columns = {
        f.name: np.array([getattr(one, f.name) for one in figures]) for f in dataclasses.fields(Figures)
    }
    mean = {name: _rounded(values.mean()) for name, values in columns.items()}
    worst = {name: _rounded(values.max()) for name, values in columns.items()}
    worst["label_agreement"] = _rounded(columns["label_agreement"].min())
    scale = columns["depth_scale"]
    worst["depth_scale"] = _rounded(scale[np.argmax(np.abs(scale - 1))])
    return mean, worst


def violations(mean: dict[str, float], worst: dict[str, float], numerics: str) -> list[str]:
    """What breaks the limits of `numerics`, a key of `LIMITS`, one phrase each; empty means a pass."""
    limits = LIMITS[numerics]
    found = []
    if worst["nonfinite"] > 0:
        found.append(f"{worst['nonfinite']:.0f} NaN or infinite values")
    for name, bound in (
        ("depth_rel", limits.depth_rel),
        ("normal_deg", limits.normal_deg),
        ("edge_mae", limits.edge_mae),
    ):
        if not mean[name] <= bound:  # also true for NaN
            found.append(f"{name} {mean[name]:.3g} > {bound:g}")
    if not abs(mean["depth_scale"] - 1) <= limits.depth_scale_off:
        found.append(f"depth_scale {mean['depth_scale']:.4g} is not 1 ± {limits.depth_scale_off:g}")
    if not mean["label_agreement"] >= limits.label_agreement:
        found.append(f"label_agreement {mean['label_agreement']:.4f} < {limits.label_agreement:g}")
    return found


def _mean_byte_difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    return float(np.mean(np.abs(a.astype(np.int16) - b.astype(np.int16)))) / 255


def _rounded(value: float) -> float:
    return float(f"{float(value):.6g}")
