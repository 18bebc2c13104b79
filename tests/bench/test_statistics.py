"""Percentiles, histograms and trends."""

from __future__ import annotations

import numpy as np
import pytest

from m2h_runtime.bench.loop import thinned
from m2h_runtime.bench.soak import growth, slowing, throttling, without_notes
from m2h_runtime.bench.statistics import histogram, summarize, trend


def test_a_percentile_without_enough_samples_is_not_told() -> None:
    few, many = summarize(np.arange(199.0)), summarize(np.arange(2000.0))
    assert few["p90"] is not None
    assert few["p99"] is None
    assert many["p99.9"] == pytest.approx(1997.0, abs=0.1)
    assert (many["count"], many["mean"], many["max"]) == (2000, 999.5, 1999.0)


def test_nothing_has_no_percentiles() -> None:
    assert summarize([]) == dict.fromkeys(("mean", "p50", "p90", "p99", "p99.9", "max")) | {"count": 0}
    assert histogram([]) == {"edges": [], "counts": []}


def test_a_histogram_counts_everything_and_the_longest_are_in_the_last_bin() -> None:
    made = histogram([*np.linspace(1, 2, 999), 50.0])
    assert sum(made["counts"]) == 1000
    assert made["edges"][-1] < 3
    assert sum(histogram([5.0, 5.0])["counts"]) == 2


def test_the_trend_is_not_moved_by_a_jump() -> None:
    at = np.arange(100.0)
    values = 3 + 0.5 * at
    values[90:] += 1000
    assert trend(at, values) == pytest.approx(0.5, abs=0.1)


def test_a_thinned_curve_keeps_the_peaks() -> None:
    values = [1.0] * 10_000
    values[4321] = 99.0
    curve = thinned([float(i) for i in range(10_000)], values)
    assert max(curve["ms"]) == 99.0
    assert len(curve["ms"]) == len(curve["at_s"]) == 2000


def test_steady_growth_is_a_leak_and_a_filled_pool_is_none() -> None:
    at = [float(i) for i in range(80)]
    leak = growth(at, [100 + 0.5 * t for t in at])
    pool = growth(at, [100 + (60 if t > 30 else 0) for t in at])
    assert leak is not None
    assert leak["leaks"]
    assert leak["mb_per_hour"] == pytest.approx(1800)
    assert pool is not None
    assert not pool["leaks"]
    assert growth(at, [None] * 80) is None


def test_what_the_benchmark_notes_is_no_leak_of_the_engine() -> None:
    at = [60.0 * i for i in range(600)]
    noted = np.arange(600, dtype=np.int64) * 60 * 60 * 48  # ten hours at 60 Hz
    told = growth(at, without_notes([100 + bytes_ / 2**20 for bytes_ in noted], noted))
    assert told is not None
    assert not told["leaks"]


def test_throttling_is_an_event_that_came_meanwhile() -> None:
    assert throttling({}) is None
    assert throttling({"cpu": [7.0, 7.0]}) is False
    assert throttling({"cpu": [7.0, None, 8.0]}) is True
    assert throttling({"gpu0": [1.0, 0.0]}) is True


def test_an_engine_that_gets_slower_is_told() -> None:
    assert slowing(np.full(20, 10.0)) is None
    assert slowing(np.r_[np.full(100, 10.0), np.full(100, 12.0)]) == pytest.approx(0.2)
