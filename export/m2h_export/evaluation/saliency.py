"""Saliency: maximal F-measure and foreground IoU over fixed thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from m2h_export.data.sample import IGNORE
from m2h_export.evaluation.checks import check_choice, check_pair
from m2h_runtime.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class SaliencyVariant:
    """How a published evaluator thresholds and averages.

    Attributes:
        thresholds: of the foreground probability.
        strict: positive means above the threshold; else at or above it.
        sigmoid: a sigmoid is applied to the probability first.
        per_image: precision and recall are averaged over pictures; else the counts are pooled.
        beta_squared: weight of the recall in F.
        ignores: pixels of truth `IGNORE` are left out; else they are background.
    """

    thresholds: tuple[float, ...]
    strict: bool = False
    sigmoid: bool = False
    per_image: bool = False
    beta_squared: float = 0.3
    ignores: bool = True


_TWENTIETHS = tuple(k / 20 for k in range(1, 20))
VARIANTS = {
    "sak": SaliencyVariant(_TWENTIETHS),
    "invpt": SaliencyVariant(_TWENTIETHS, sigmoid=True),
    "mti": SaliencyVariant(
        tuple(float(t) for t in np.linspace(0.2, 0.9, 15)),
        strict=True,
        per_image=True,
        beta_squared=1.0,
        ignores=False,
    ),
}
"""SAK and CvM; InvPT, TaskPrompter and MTMamba; MTI-Net and ASTMT."""


class SaliencyMeter:
    """Counts per threshold.

    Args:
        variant: a name of `VARIANTS`.
    """

    def __init__(self, variant: str = "sak") -> None:
        check_choice("saliency variant", variant, VARIANTS)
        self.name = variant
        self.variant = VARIANTS[variant]
        size = len(self.variant.thresholds)
        self.images = 0
        self.pixels = 0
        self._counts = np.zeros((3, size), np.int64)  # true positives, predicted and actual positives
        self._ratios = np.zeros((3, size))  # per-picture precision, recall and IoU, summed

    def add(self, probability: NDArray[Any], truth: NDArray[np.uint8]) -> None:
        """Count one picture.

        Args:
            probability: float (H, W) of foreground, 0..1, or uint8 of 255ths.
            truth: uint8 (H, W), 1 foreground, 0 background, `IGNORE`.

        Raises:
            ContractError: the shapes differ, or the prediction is not finite.
        """
        check_pair("saliency", probability, truth)
        valid = truth != IGNORE if self.variant.ignores else np.ones(truth.shape, bool)
        score = probability[valid].astype(np.float64)
        if probability.dtype == np.uint8:
            score /= 255
        if self.variant.sigmoid:
            score = 1 / (1 + np.exp(-score))
        foreground = truth[valid] == 1
        above = np.greater if self.variant.strict else np.greater_equal
        positive = [above(score, t) for t in self.variant.thresholds]
        counts = np.array(
            [(int((p & foreground).sum()), int(p.sum()), int(foreground.sum())) for p in positive], np.int64
        ).T
        self._counts += counts
        self._ratios += _ratios(counts)
        self.images += 1
        self.pixels += int(valid.sum())

    def merge(self, other: SaliencyMeter) -> None:
        """Add the counts of another meter of the same variant.

        Raises:
            InputError: its variant is another.
        """
        if other.name != self.name:
            raise InputError("saliency: meters of different variants cannot be merged")
        self._counts += other._counts
        self._ratios += other._ratios
        self.images += other.images
        self.pixels += other.pixels

    def result(self) -> dict[str, float]:
        """`maxF`, and `mIoU`: the foreground IoU, mean over pictures, at its best threshold."""
        if not self.images:
            return {"maxF": float("nan"), "mIoU": float("nan")}
        means = self._ratios / self.images
        precision, recall = means[:2] if self.variant.per_image else _ratios(self._counts)[:2]
        weight = self.variant.beta_squared
        below = weight * precision + recall
        f = np.divide((1 + weight) * precision * recall, below, out=np.zeros_like(below), where=below > 0)
        return {"maxF": float(f.max()), "mIoU": float(means[2].max())}


def _ratios(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """(3, T) counts to (3, T) precision, recall and IoU; 0 for 0/0, but nothing found of nothing is IoU 1."""
    matched, predicted, actual = counts.astype(np.float64)
    union = predicted + actual - matched
    return np.stack(
        [
            np.divide(matched, predicted, out=np.zeros_like(matched), where=predicted > 0),
            np.divide(matched, actual, out=np.zeros_like(matched), where=actual > 0),
            np.divide(matched, union, out=np.ones_like(matched), where=union > 0),
        ]
    )
