"""Metric depth errors, pooled over all pixels or averaged over pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from m2h_export.evaluation.checks import check_choice, check_pair
from m2h_runtime.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Aggregate = Literal["pooled", "per_image"]
AGGREGATES = ("pooled", "per_image")
CAPS = {"none": (0.0, float("inf")), "multi_task": (0.0, 80.0), "single_task": (1e-3, 10.0)}
"""Open intervals of valid true depth in metres, by name: InvPT and MTI-Net on NYUD; SAK, TaskPrompter and CvM;
the single-task NYU evaluators."""
DELTA_BASE = 1.25
TINY_M = 1e-9
_EIGEN_SIZE = (480, 640)
_EIGEN_CROP = (slice(45, 471), slice(41, 601))
_DELTAS = ("delta1", "delta2", "delta3")
_SUMS = ("squared", "log_squared", "log", "abs_rel", "sq_rel", "log10", *_DELTAS)


class DepthMeter:
    """Sums of depth errors over valid pixels.

    Args:
        cap: which true depths count: a name of `CAPS`, or an upper bound in metres (M2H: 10 NYUD, 20 Hypersim,
            80 Cityscapes). Bounds are strict.
        aggregate: "pooled" divides the sums over all pictures once; "per_image" is the mean over pictures.
        clip: what happens to predictions that no logarithm takes. "multi_task" clamps them at 0 and takes 1e-9
            for 0; "single_task" clips to the bounds of the cap (to at least 1e-3 m).
        eigen_crop: count rows 45..470 and columns 41..600 of 480 × 640 alone.
    """

    def __init__(
        self,
        cap: str | float = "multi_task",
        aggregate: Aggregate = "pooled",
        clip: Literal["multi_task", "single_task"] = "multi_task",
        *,
        eigen_crop: bool = False,
    ) -> None:
        check_choice("depth aggregate", aggregate, AGGREGATES)
        check_choice("depth clip", clip, ("multi_task", "single_task"))
        self.bounds = _bounds(cap)
        self.aggregate = aggregate
        self.clip = clip
        self.eigen_crop = eigen_crop
        self.images = 0
        self.pixels = 0
        self._sums = dict.fromkeys(_SUMS, 0.0)
        self._means = dict.fromkeys(_metrics(dict.fromkeys(_SUMS, 0.0), 1), 0.0)

    def add(self, prediction: NDArray[np.float32], truth: NDArray[np.float32]) -> None:
        """Count one picture; both float (H, W), metres, 0 in the truth where nothing was measured.

        Raises:
            ContractError: the shapes differ, or the prediction is not finite.
            InputError: the Eigen crop was asked for and the picture is not 480 × 640.
        """
        check_pair("depth", prediction, truth)
        if self.eigen_crop:
            if truth.shape != _EIGEN_SIZE:
                raise InputError(f"the Eigen crop is defined on 480x640, the truth is {truth.shape}; drop it")
            prediction, truth = prediction[_EIGEN_CROP], truth[_EIGEN_CROP]
        low, high = self.bounds
        valid = (truth > low) & (truth < high)
        count = int(valid.sum())
        if not count:
            return
        sums = _sums(self._clipped(prediction[valid].astype(np.float64)), truth[valid].astype(np.float64))
        self._sums = {name: self._sums[name] + sums[name] for name in _SUMS}
        means = _metrics(sums, count)
        self._means = {name: self._means[name] + means[name] for name in means}
        self.pixels += count
        self.images += 1

    def merge(self, other: DepthMeter) -> None:
        """Add the sums of another meter of the same variant.

        Raises:
            InputError: its variant is another.
        """
        mine = (self.bounds, self.aggregate, self.clip, self.eigen_crop)
        if mine != (other.bounds, other.aggregate, other.clip, other.eigen_crop):
            raise InputError("depth: meters of different variants cannot be merged")
        self._sums = {name: self._sums[name] + other._sums[name] for name in _SUMS}
        self._means = {name: self._means[name] + other._means[name] for name in self._means}
        self.pixels += other.pixels
        self.images += other.images

    def result(self) -> dict[str, float]:
        """RMSE (m), logRMSE (natural), AbsRel, SqRel (m), log10, delta1..3 (fractions), SILog (× 100)."""
        if not self.pixels:
            return dict.fromkeys(self._means, float("nan"))
        if self.aggregate == "pooled":
            return _metrics(self._sums, self.pixels)
        return {name: total / self.images for name, total in self._means.items()}

    def _clipped(self, depth: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.clip == "single_task":
            return np.clip(depth, max(self.bounds[0], CAPS["single_task"][0]), self.bounds[1])
        return np.where(depth <= 0, TINY_M, depth)


def _bounds(cap: str | float) -> tuple[float, float]:
    if isinstance(cap, str):
        check_choice("depth cap", cap, CAPS)
        return CAPS[cap]
    if not cap > 0:
        raise InputError(f"depth cap {cap}: expected a positive number of metres")
    return 0.0, float(cap)


def _sums(p: NDArray[np.float64], g: NDArray[np.float64]) -> dict[str, float]:
    error, log = g - p, np.log(p) - np.log(g)
    ratio = np.maximum(g / p, p / g)
    sums = {
        "squared": np.square(error).sum(),
        "log_squared": np.square(log).sum(),
        "log": log.sum(),
        "abs_rel": (np.abs(error) / g).sum(),
        "sq_rel": (np.square(error) / g).sum(),
        "log10": np.abs(np.log10(g) - np.log10(p)).sum(),
    }
    sums |= {name: (ratio < DELTA_BASE**k).sum() for k, name in enumerate(_DELTAS, 1)}
    return {name: float(value) for name, value in sums.items()}


def _metrics(sums: dict[str, float], n: int) -> dict[str, float]:
    mean = {name: value / n for name, value in sums.items()}
    return {
        "RMSE": float(np.sqrt(mean["squared"])),
        "logRMSE": float(np.sqrt(mean["log_squared"])),
        "AbsRel": mean["abs_rel"],
        "SqRel": mean["sq_rel"],
        "log10": mean["log10"],
        **{name: mean[name] for name in _DELTAS},
        # Rounding alone can bring a constant ratio's variance a hair below 0.
        "SILog": float(100 * np.sqrt(max(mean["log_squared"] - mean["log"] ** 2, 0.0))),
    }
