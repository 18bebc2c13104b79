"""Angles between unit vectors in degrees: the angle itself, its pooled statistics, the surface-normal meter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from m2h_export.evaluation.checks import check_pair, share

if TYPE_CHECKING:
    from numpy.typing import NDArray

WITHIN_DEG = (5.0, 7.5, 11.25, 22.5, 30.0)
_BINS_PER_DEG = 10_000
_BINS = 180 * _BINS_PER_DEG + 1


def angle_deg(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Angle between vectors (..., 3) of any length: 2 atan2(|a-b|, |a+b|) of the unit vectors, exact near 0 and 180.

    A zero vector is 90 degrees from everything.
    """
    a, b = unit(a), unit(b)
    apart, along = np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1)
    angle: NDArray[np.float64] = np.degrees(2 * np.arctan2(apart, along))
    return angle


def unit(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """Vectors (..., 3) at length 1; zero stays zero."""
    vectors = vectors.astype(np.float64)
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    units: NDArray[np.float64] = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
    return units


class AngleStatistics:
    """Mean, RMSE, median and shares of any number of angles, in constant memory.

    The median is of the pooled angles, from a histogram of 1e-4 degree, so it is right to half of that.
    """

    def __init__(self) -> None:
        self.count = 0
        self._sum = 0.0
        self._squares = 0.0
        self._within = np.zeros(len(WITHIN_DEG), np.int64)
        self._histogram = np.zeros(_BINS, np.int64)

    def add(self, angles: NDArray[np.float64]) -> None:
        """Count angles in degrees, any shape, 0..180."""
        flat = angles.ravel()
        self.count += flat.size
        self._sum += float(flat.sum())
        self._squares += float(np.square(flat).sum())
        self._within += [int((flat < bound).sum()) for bound in WITHIN_DEG]
        bins = np.minimum((flat * _BINS_PER_DEG).astype(np.int64), _BINS - 1)
        np.add.at(self._histogram, bins, 1)

    def merge(self, other: AngleStatistics) -> None:
        """Add the angles that another one counted."""
        self.count += other.count
        self._sum += other._sum
        self._squares += other._squares
        self._within += other._within
        self._histogram += other._histogram

    def result(self) -> dict[str, float]:
        """`mean`, `median`, `RMSE` in degrees and `within_X` as fractions (strictly below X degrees)."""
        shares = zip(WITHIN_DEG, self._within, strict=True)
        return {
            "mean": share(self._sum, self.count),
            "median": self._median(),
            "RMSE": float(np.sqrt(share(self._squares, self.count))),
            **{f"within_{bound:g}": share(int(inside), self.count) for bound, inside in shares},
        }

    def _median(self) -> float:
        if not self.count:
            return float("nan")
        below = np.cumsum(self._histogram)
        middle = np.searchsorted(below, ((self.count + 1) // 2, self.count // 2 + 1))
        return float(min((middle.mean() + 0.5) / _BINS_PER_DEG, 180.0))


class NormalsMeter:
    """Angles between predicted and true normals, wherever the true vector is not exactly zero."""

    def __init__(self) -> None:
        self.angles = AngleStatistics()
        self.images = 0

    def add(self, prediction: NDArray[np.float32], truth: NDArray[np.float32]) -> None:
        """Count one picture; both float (H, W, 3) in one frame; neither needs unit length.

        Raises:
            ContractError: the shapes differ, or the prediction is not finite.
        """
        check_pair("normals", prediction, truth)
        valid = truth.any(axis=-1)
        self.angles.add(angle_deg(prediction[valid], truth[valid]))
        self.images += 1

    def merge(self, other: NormalsMeter) -> None:
        """Add what another meter counted."""
        self.angles.merge(other.angles)
        self.images += other.images

    def result(self) -> dict[str, float]:
        """`mean` (the published mErr), `median`, `RMSE` in degrees, `within_11.25` and the like as fractions."""
        return self.angles.result()

    @property
    def pixels(self) -> int:
        """How many pixels counted."""
        return self.angles.count
