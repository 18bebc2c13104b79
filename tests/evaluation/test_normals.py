from __future__ import annotations

import math

import numpy as np
import pytest

from m2h_export.evaluation.normals import AngleStatistics, NormalsMeter, angle_deg


def tilted(*degrees: float) -> np.ndarray:
    """(1, n, 3): vectors in the xz plane, so many degrees from z."""
    turn = np.radians(degrees)
    return np.stack([np.sin(turn), np.zeros_like(turn), np.cos(turn)], axis=-1)[None].astype(np.float32)


def ahead(n: int) -> np.ndarray:
    return tilted(*([0.0] * n))


def test_angles_need_no_unit_length() -> None:
    a = np.array([[3.0, 0, 0], [0, 0, 2], [0, 0, 1], [0, 0, 0]])
    b = np.array([[0, 0.5, 0], [0, 0, 9], [0, 0, -4], [1, 0, 0]])
    np.testing.assert_allclose(angle_deg(a, b), [90, 0, 180, 90])


def test_small_angles_do_not_drown_in_rounding() -> None:
    a, b = np.array([0.0, 0, 1]), np.array([1e-6, 0, 1])
    assert angle_deg(a, b) == pytest.approx(math.degrees(1e-6), rel=1e-6)


def test_statistics_of_four_angles() -> None:
    meter = NormalsMeter()
    meter.add(2 * tilted(0, 11.2, 11.3, 40), ahead(4))
    told = meter.result()
    assert told["mean"] == pytest.approx(62.5 / 4, abs=1e-4)
    assert told["median"] == pytest.approx(11.25, abs=1e-4)
    assert told["RMSE"] == pytest.approx(math.sqrt((11.2**2 + 11.3**2 + 40**2) / 4), abs=1e-4)
    shares = {k: v for k, v in told.items() if k.startswith("within")}
    assert shares == {
        "within_5": 0.25,
        "within_7.5": 0.25,
        "within_11.25": 0.5,
        "within_22.5": 0.75,
        "within_30": 0.75,
    }


def test_bounds_are_strict() -> None:
    statistics = AngleStatistics()
    statistics.add(np.array([5, 7.5, 11.25, 22.5, 30]))
    shares = [value for name, value in statistics.result().items() if name.startswith("within")]
    assert shares == [0, 0.2, 0.4, 0.6, 0.8]


def test_the_median_is_of_the_pooled_angles() -> None:
    meter = NormalsMeter()
    meter.add(tilted(10, 10, 10), ahead(3))
    meter.add(tilted(50), ahead(1))
    assert meter.result()["median"] == pytest.approx(10, abs=1e-4)  # not (10 + 50) / 2


def test_zero_truth_does_not_count() -> None:
    meter = NormalsMeter()
    truth = ahead(3)
    truth[0, 1] = 0
    meter.add(tilted(20, 170, 20), truth)
    assert meter.pixels == 2
    assert meter.result()["mean"] == pytest.approx(20, abs=1e-4)


def test_merged_meters_equal_one() -> None:
    rng = np.random.default_rng(0)
    pairs = [rng.normal(size=(2, 4, 5, 3)).astype(np.float32) for _ in range(4)]
    whole, left, right = (NormalsMeter() for _ in range(3))
    for i, (p, g) in enumerate(pairs):
        whole.add(p, g)
        (left if i else right).add(p, g)
    left.merge(right)
    assert left.result() == pytest.approx(whole.result(), rel=1e-12)
    pooled = np.concatenate([angle_deg(p, g).ravel() for p, g in pairs])
    assert whole.result()["median"] == pytest.approx(np.median(pooled), abs=1e-4)
