"""Numbers about durations. Pure functions on arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}
BEYOND = 2
"""So many samples have to lie beyond a percentile, or it would be a guess: 200 for p99, 2000 for p99.9."""
BINS = 40


def summarize(values: ArrayLike) -> dict[str, Any]:
    """Count, mean, percentiles and maximum; a percentile that has too few samples is None.

    Args:
        values: (N,), any unit.
    """
    array = np.asarray(values, np.float64)
    if not array.size:
        return {"count": 0, "mean": None, **dict.fromkeys(PERCENTILES), "max": None}
    told = {
        name: round(float(np.percentile(array, percent)), 4) if enough(array.size, percent) else None
        for name, percent in PERCENTILES.items()
    }
    return {
        "count": int(array.size),
        "mean": round(float(array.mean()), 4),
        **told,
        "max": round(float(array.max()), 4),
    }


def enough(count: int, percent: float) -> bool:
    """Are `count` samples enough for this percentile; the median needs only one."""
    return percent <= 50 or count * (100 - percent) / 100 >= BEYOND - 1e-9


def histogram(values: ArrayLike) -> dict[str, list[float]]:
    """`BINS` bins of equal width from the least to p99; the last bin also has whatever is longer.

    Returns:
        edges: (BINS + 1,); counts: (BINS,).
    """
    array = np.asarray(values, np.float64)
    if not array.size:
        return {"edges": [], "counts": []}
    low, high = float(array.min()), float(np.percentile(array, 99))
    edges = np.linspace(low, max(high, low * 1.001 + 1e-9), BINS + 1)
    counts, _ = np.histogram(np.minimum(array, edges[-1]), edges)
    return {"edges": [round(float(edge), 5) for edge in edges], "counts": counts.tolist()}


def trend(at: ArrayLike, values: ArrayLike) -> float:
    """Slope by Theil and Sen, value per unit of `at`: the median of all pairs' slopes, so that jumps do not count.

    Args:
        at: (N,), rising.
        values: (N,).
    """
    x, y = np.asarray(at, np.float64), np.asarray(values, np.float64)
    first, second = np.triu_indices(x.size, 1)
    apart = x[second] - x[first]
    slopes = (y[second] - y[first])[apart > 0] / apart[apart > 0]
    return float(np.median(slopes)) if slopes.size else 0.0
