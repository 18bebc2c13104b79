"""Boundary detection: odsF, oisF and AP from a probability map and thin true boundaries.

Probability -> 8 bit -> (non-maximum suppression) -> threshold -> thin -> one-to-one matching -> counts -> F.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from m2h_export.data.sample import IGNORE
from m2h_export.evaluation.checks import check_choice
from m2h_export.evaluation.matching import PixelMatcher
from m2h_export.evaluation.thinning import thin
from m2h_runtime.errors import ContractError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Executor, Future

    from numpy.typing import NDArray

_SMOOTH = np.array([0.25, 0.5, 0.25], np.float32)
_TRIANGLE = np.array([0.04, 0.08, 0.12, 0.16, 0.2, 0.16, 0.12, 0.08, 0.04], np.float32)
_BORDER = 5
_TOLERANT = 1.01
_HUNDREDTHS = tuple(k / 100 for k in range(1, 100))


@dataclass(frozen=True)
class BoundaryVariant:
    """How a published evaluator prepares, thresholds and matches.

    Attributes:
        smooth: the map is smoothed by [1 2 1]/4 before the suppression.
        nms_radius: of the non-maximum suppression in pixels; 0 is none.
        requantise: the suppressed map is rounded to 8 bit again.
        strict: a boundary is above the threshold; else at or above it.
        thresholds: of the probability, ascending.
        seism_truth: the true map goes through `seism_boundary`; else it is taken as given.
        max_dist: matching tolerance as a fraction of the picture's diagonal.
    """

    smooth: bool = False
    nms_radius: int = 0
    requantise: bool = False
    strict: bool = False
    thresholds: tuple[float, ...] = _HUNDREDTHS
    seism_truth: bool = True
    max_dist: float = 0.0075


VARIANTS = {
    "sak": BoundaryVariant(smooth=True, nms_radius=4, requantise=True, max_dist=0.011),
    "invpt": BoundaryVariant(
        nms_radius=1, strict=True, thresholds=(0.001, *_HUNDREDTHS, 0.999), max_dist=0.011
    ),
    "mti": BoundaryVariant(),
    "bsds": BoundaryVariant(seism_truth=False),
}
"""SAK and CvM; InvPT, TaskPrompter, MTMamba and M2H; MTI-Net; plain BSDS500. The tolerances of the first two are those
for NYUD: on PASCAL they take 0.0075."""


def boundary_variant(
    name: str, *, max_dist: float | None = None, thresholds: Sequence[float] | None = None
) -> BoundaryVariant:
    """A variant by name, with another tolerance or fewer thresholds if asked for.

    Raises:
        InputError: no variant of that name, a tolerance that is not positive, thresholds not ascending in 0..1.
    """
    check_choice("odsF variant", name, VARIANTS)
    variant = VARIANTS[name]
    if max_dist is not None:
        if not 0 < max_dist < 1:
            raise InputError(f"odsF max_dist {max_dist}: expected a fraction of the diagonal, e.g. 0.011")
        variant = replace(variant, max_dist=max_dist)
    if thresholds is not None:
        values = tuple(float(t) for t in thresholds)
        if not values or not all(a < b for a, b in zip((0.0, *values), (*values, 1.0), strict=True)):
            raise InputError("odsF thresholds: expected ascending numbers between 0 and 1, e.g. 0.1 0.2 0.3")
        variant = replace(variant, thresholds=values)
    return variant


def quantise(probability: NDArray[Any]) -> NDArray[np.uint8]:
    """Probability (H, W), float 0..1, as 8 bit, truncating as published code stores it; uint8 stays as it is.

    Raises:
        ContractError: neither float nor uint8, or outside 0..1.
    """
    if probability.dtype == np.uint8:
        return probability
    if not np.issubdtype(probability.dtype, np.floating):
        raise ContractError(f"edges: prediction is {probability.dtype}; expected float 0..1 or uint8")
    if not ((probability >= 0) & (probability <= 1)).all():
        raise ContractError("edges: prediction outside 0..1 or NaN; give probabilities, not logits")
    scaled: NDArray[np.uint8] = (255 * probability).astype(np.uint8)
    return scaled


def _filtered(plane: NDArray[np.float32], kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    rows = ndimage.correlate1d(plane, kernel, axis=0, mode="reflect")
    both: NDArray[np.float32] = ndimage.correlate1d(rows, kernel, axis=1, mode="reflect")
    return both


def orientation(edge: NDArray[np.float32]) -> NDArray[np.float32]:
    """Direction across the boundary, radians in [0, pi), from second derivatives of the smoothed map (H, W)."""
    gy, gx = np.gradient(_filtered(edge, _TRIANGLE))
    gxx = np.gradient(gx, axis=1)
    gyy, gxy = np.gradient(gy)
    angle: NDArray[np.float32] = np.mod(np.arctan(gyy * np.sign(-gxy) / (gxx + 1e-5)), np.pi)
    return angle


def suppress(edge: NDArray[np.float32], radius: int, *, smooth: bool = False) -> NDArray[np.float32]:
    """Non-maximum suppression across the boundary's direction, and a damped border of five pixels.

    Args:
        edge: float32 (H, W), 0..1; at least 5 pixels either way.
        radius: pixels to look at on each side.
        smooth: smooth by [1 2 1]/4 first.

    Raises:
        ContractError: the map is too small for its border.
    """
    if min(edge.shape) < _BORDER:
        raise ContractError(
            f"edges: {edge.shape} is too small for the suppression, which needs {_BORDER} pixels"
        )
    if smooth:
        edge = _filtered(edge, _SMOOTH)
    y, x = np.nonzero(edge > 0)
    theta = orientation(edge)[y, x]
    along_x, along_y = np.cos(theta), np.sin(theta)
    bar = np.float32(_TOLERANT) * edge[y, x]
    peak = np.ones(y.size, bool)
    for d in range(-radius, radius + 1):
        if d:
            peak &= bar >= _bilinear(edge, y + d * along_y, x + d * along_x)
    suppressed = np.zeros_like(edge)
    suppressed[y[peak], x[peak]] = edge[y[peak], x[peak]]
    for k in range(_BORDER):
        factor = np.float32(k / _BORDER)
        for line in (suppressed[k], suppressed[-1 - k], suppressed[:, k], suppressed[:, -1 - k]):
            line *= factor
    return suppressed


def _bilinear(
    plane: NDArray[np.float32], y: NDArray[np.floating[Any]], x: NDArray[np.floating[Any]]
) -> NDArray[np.float32]:
    height, width = plane.shape
    y, x = np.clip(y, 0, height - 1.001), np.clip(x, 0, width - 1.001)
    top, left = y.astype(np.intp), x.astype(np.intp)
    down, right = y - top, x - left
    upper = plane[top, left] * (1 - right) + plane[top, left + 1] * right
    lower = plane[top + 1, left] * (1 - right) + plane[top + 1, left + 1] * right
    mixed: NDArray[np.float32] = (upper * (1 - down) + lower * down).astype(np.float32)
    return mixed


def seism_boundary(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Thin boundary of a label map or of a binary boundary map, (H, W) of integers or bool, as SEISM makes it.

    A pixel is marked when it differs from its right, lower or lower-right neighbour; then the marks are thinned.
    """
    marked = np.zeros(labels.shape, bool)
    marked[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    marked[:-1] |= labels[:-1] != labels[1:]
    marked[:-1, :-1] |= labels[:-1, :-1] != labels[1:, 1:]
    return thin(marked)


@dataclass(frozen=True)
class BoundaryCounts:
    """Pixel counts per threshold, int64 (T,).

    Attributes:
        matched_predicted: predicted pixels matched with any annotator.
        predicted: predicted pixels.
        matched_true: true pixels matched, summed over annotators; equal to `matched_predicted` for one.
        true: true pixels, summed over annotators.
    """

    matched_predicted: NDArray[np.int64]
    predicted: NDArray[np.int64]
    matched_true: NDArray[np.int64]
    true: NDArray[np.int64]

    def __add__(self, other: BoundaryCounts) -> BoundaryCounts:
        """Counts of both."""
        return BoundaryCounts(
            self.matched_predicted + other.matched_predicted,
            self.predicted + other.predicted,
            self.matched_true + other.matched_true,
            self.true + other.true,
        )

    @staticmethod
    def zeros(size: int) -> BoundaryCounts:
        """Nothing counted at `size` thresholds."""
        return BoundaryCounts(*(np.zeros(size, np.int64) for _ in range(4)))

    def only(self, index: int) -> BoundaryCounts:
        """The counts of one threshold, (1,)."""
        at = slice(index, index + 1)
        return BoundaryCounts(
            self.matched_predicted[at], self.predicted[at], self.matched_true[at], self.true[at]
        )

    def precision(self) -> NDArray[np.float64]:
        """(T,); 0 where nothing was predicted."""
        return _ratio(self.matched_predicted, self.predicted)

    def recall(self) -> NDArray[np.float64]:
        """(T,); 0 where there is nothing to find."""
        return _ratio(self.matched_true, self.true)

    def f(self) -> NDArray[np.float64]:
        """(T,) 2PR / (P + R); 0 where nothing matched."""
        precision, recall = self.precision(), self.recall()
        return _ratio(2 * precision * recall, precision + recall)


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    ratio: NDArray[np.float64] = np.divide(part, whole, out=np.zeros(np.shape(part)), where=whole > 0)
    return ratio


def count_boundaries(
    probability: NDArray[Any], truths: Sequence[NDArray[np.uint8]], variant: BoundaryVariant
) -> BoundaryCounts:
    """Match one prediction with one map per annotator at every threshold of `variant`.

    Args:
        probability: float (H, W), 0..1, or uint8 of 255ths.
        truths: uint8 (H, W) maps, 0 off a boundary; `IGNORE` holds no boundary, and what is predicted there
            does not count.
        variant: see `boundary_variant`.

    Raises:
        ContractError: no truth, shapes that differ, values outside 0..1.
    """
    if not truths or any(truth.shape != probability.shape for truth in truths):
        shapes = ", ".join(str(truth.shape) for truth in truths)
        raise ContractError(f"edges: prediction {probability.shape} and truth ({shapes}) differ in shape")
    score = _score(quantise(probability), variant)
    score[np.all([truth == IGNORE for truth in truths], axis=0)] = -1
    lines = [_true_lines(truth, variant) for truth in truths]
    tolerance = variant.max_dist * float(np.hypot(*probability.shape))
    matchers = [PixelMatcher(line, tolerance) for line in lines]
    rows: list[tuple[int, int, int]] = []
    last_size = -1
    for threshold in variant.thresholds:
        # In the map's own precision, so that a value of 0.2 does not count as above 0.2.
        level = score.dtype.type(threshold)
        mask = score > level if variant.strict else score >= level
        size = int(np.count_nonzero(mask))
        if size != last_size:  # the maps are nested: as many pixels are the same pixels
            row = _match_all(thin(mask), matchers)
            last_size = size
        rows.append(row)
    counts = np.array(rows, np.int64)
    total = sum(int(line.sum()) for line in lines)
    return BoundaryCounts(counts[:, 0], counts[:, 1], counts[:, 2], np.full(len(rows), total, np.int64))


def _score(edge: NDArray[np.uint8], variant: BoundaryVariant) -> NDArray[np.floating[Any]]:
    if not variant.nms_radius:
        return edge / 255.0
    suppressed = suppress(np.divide(edge, 255, dtype=np.float32), variant.nms_radius, smooth=variant.smooth)
    if not variant.requantise:
        return suppressed
    requantised: NDArray[np.float64] = np.floor(255 * suppressed.astype(np.float64) + 0.5) / 255
    return requantised


def _true_lines(truth: NDArray[np.uint8], variant: BoundaryVariant) -> NDArray[np.bool_]:
    binary = (truth != 0) & (truth != IGNORE)
    return seism_boundary(binary) if variant.seism_truth else binary


def _match_all(lines: NDArray[np.bool_], matchers: Sequence[PixelMatcher]) -> tuple[int, int, int]:
    """(predicted pixels matched in any, predicted pixels, pairs summed over annotators)."""
    matched_any = np.zeros(lines.shape, bool)
    pairs = 0
    for matcher in matchers:
        matched, count = matcher.match(lines)
        matched_any |= matched
        pairs += count
    return int(matched_any.sum()), int(lines.sum()), pairs


class BoundaryMeter:
    """Counts pooled per threshold, and those of each picture's own best threshold.

    Args:
        variant: a name of `VARIANTS`.
        max_dist: instead of the variant's.
        thresholds: instead of the variant's; fewer are faster and can only lower odsF.
        executor: matches pictures in its processes, if given.
    """

    def __init__(
        self,
        variant: str = "invpt",
        *,
        max_dist: float | None = None,
        thresholds: Sequence[float] | None = None,
        executor: Executor | None = None,
    ) -> None:
        self.name = variant
        self.variant = boundary_variant(variant, max_dist=max_dist, thresholds=thresholds)
        self._executor = executor
        self._pending: list[Future[BoundaryCounts]] = []
        self._pooled = BoundaryCounts.zeros(len(self.variant.thresholds))
        self._best = BoundaryCounts.zeros(1)
        self._images = 0
        self._pixels = 0

    def add(self, probability: NDArray[Any], truth: NDArray[np.uint8] | Sequence[NDArray[np.uint8]]) -> None:
        """Count one picture; see `count_boundaries`. Several truths are those of several annotators."""
        truths = [truth] if isinstance(truth, np.ndarray) else list(truth)
        self._images += 1
        if self._executor is not None:
            self._pending.append(self._executor.submit(count_boundaries, probability, truths, self.variant))
        else:
            self._take(count_boundaries(probability, truths, self.variant))
        self._pixels += probability.size

    def merge(self, other: BoundaryMeter) -> None:
        """Add the counts of another meter of the same variant.

        Raises:
            InputError: its variant is another.
        """
        if other.variant != self.variant:
            raise InputError("edges: meters of different variants cannot be merged")
        self._settle()
        other._settle()
        self._pooled += other._pooled
        self._best += other._best
        self._images += other._images
        self._pixels += other._pixels

    def result(self) -> dict[str, float]:
        """`odsF` with its `odsF_threshold`, `oisF` and `AP`; fractions."""
        self._settle()
        names = ("odsF", "odsF_threshold", "oisF", "AP")
        if not self._images:
            return dict.fromkeys(names, float("nan"))
        f = self._pooled.f()
        best = int(f.argmax())
        values = (f[best], self.variant.thresholds[best], self._best.f()[0], average_precision(self._pooled))
        return {name: float(value) for name, value in zip(names, values, strict=True)}

    @property
    def images(self) -> int:
        """How many pictures counted."""
        return self._images

    @property
    def pixels(self) -> int:
        """How many pixels the pictures have."""
        return self._pixels

    def _settle(self) -> None:
        for future in self._pending:
            self._take(future.result())
        self._pending.clear()

    def _take(self, counts: BoundaryCounts) -> None:
        self._pooled += counts
        # A picture without true boundaries has no best threshold: F is 0 at all of them.
        if counts.true[0]:
            self._best += counts.only(int(counts.f().argmax()))


def average_precision(counts: BoundaryCounts) -> float:
    """Precision interpolated linearly over recall at 0, 0.01 .. 1, summed, over 100; 0 outside the recalls reached.

    Of several precisions at one recall the highest counts.
    """
    recall, precision = counts.recall(), counts.precision()
    order = np.lexsort((-precision, recall))
    reached, first = np.unique(recall[order], return_index=True)
    at = np.interp(np.arange(101) / 100, reached, precision[order][first], left=0.0, right=0.0)
    return float(at.sum() / 100)
