from __future__ import annotations

import math

import numpy as np
import pytest

from m2h_export.evaluation.depth import DepthMeter
from m2h_runtime.errors import ContractError, InputError


def row(*metres: float) -> np.ndarray:
    return np.array([metres], np.float32)


def test_all_metrics_of_three_pixels() -> None:
    meter = DepthMeter()
    # Errors 0, 1, -4; ratios 1, 1/2, 2. The last two pixels have no truth inside (0, 80).
    meter.add(row(1, 1, 8, 5, 5), row(1, 2, 4, 0, 80))
    log2 = math.log(2)
    assert meter.result() == pytest.approx(
        {
            "RMSE": math.sqrt(17 / 3),
            "logRMSE": log2 * math.sqrt(2 / 3),
            "AbsRel": (0 + 1 / 2 + 4 / 4) / 3,
            "SqRel": (0 + 1 / 2 + 16 / 4) / 3,
            "log10": 2 * math.log10(2) / 3,
            "delta1": 1 / 3,
            "delta2": 1 / 3,
            "delta3": 1 / 3,  # 1.25^3 = 1.953 < 2
            "SILog": 100 * log2 * math.sqrt(2 / 3),  # the mean of 0, -log2, log2 is 0
        }
    )
    assert (meter.images, meter.pixels) == (1, 3)


def test_delta_bounds_are_strict() -> None:
    meter = DepthMeter()
    meter.add(row(5, 4), row(4, 5))  # both ratios are exactly 1.25
    told = meter.result()
    assert (told["delta1"], told["delta2"]) == (0, 1)


def test_silog_knows_no_scale() -> None:
    meter = DepthMeter()
    meter.add(row(2, 4, 6), row(1, 2, 3))
    assert meter.result()["SILog"] == pytest.approx(0, abs=1e-5)


def test_pooled_and_per_image_differ() -> None:
    pooled, per_image = DepthMeter(), DepthMeter(aggregate="per_image")
    for meter in (pooled, per_image):
        meter.add(row(2), row(1))
        meter.add(row(4, 4, 4), row(1, 1, 1))
        meter.add(row(9), row(0))  # no valid pixel: no picture
    assert pooled.result()["RMSE"] == pytest.approx(math.sqrt((1 + 27) / 4))
    assert per_image.result()["RMSE"] == pytest.approx((1 + 3) / 2)
    assert per_image.images == 2


@pytest.mark.parametrize(("cap", "counted"), [("none", 4), ("multi_task", 3), ("single_task", 1), (20, 2)])
def test_caps(cap: str | float, counted: int) -> None:
    meter = DepthMeter(cap)
    meter.add(row(1, 1, 1, 1, 1), row(0, 5, 10, 79, 90))
    assert meter.pixels == counted


def test_predictions_that_no_logarithm_takes() -> None:
    multi, single = DepthMeter(), DepthMeter("single_task", clip="single_task")
    for meter in (multi, single):
        meter.add(row(-1, 20), row(1, 5))
    # Clamped at 0: errors 1, -15; clipped to [0.001, 10]: errors 0.999, -5.
    assert multi.result()["RMSE"] == pytest.approx(math.sqrt((1 + 225) / 2))
    assert single.result()["RMSE"] == pytest.approx(math.sqrt((0.999**2 + 25) / 2))
    logs = (math.log(1e9), math.log(5 / 20))
    assert multi.result()["logRMSE"] == pytest.approx(math.sqrt(sum(x * x for x in logs) / 2))


def test_eigen_crop() -> None:
    truth = np.ones((480, 640), np.float32)
    prediction = np.full_like(truth, 9)
    prediction[45:471, 41:601] = 1
    meter = DepthMeter(eigen_crop=True)
    meter.add(prediction, truth)
    assert meter.result()["RMSE"] == 0
    assert meter.pixels == 426 * 560
    with pytest.raises(InputError, match="480x640"):
        meter.add(row(1), row(1))


@pytest.mark.parametrize("aggregate", ["pooled", "per_image"])
def test_merged_meters_equal_one(aggregate: str) -> None:
    rng = np.random.default_rng(0)
    pairs = [rng.uniform(0.1, 9, (2, 5, 6)).astype(np.float32) for _ in range(5)]
    whole, left, right = (DepthMeter(aggregate=aggregate) for _ in range(3))
    for i, (p, g) in enumerate(pairs):
        whole.add(p, g)
        (left if i < 2 else right).add(p, g)
    left.merge(right)
    assert left.result() == pytest.approx(whole.result(), rel=1e-12)
    with pytest.raises(InputError, match="cannot be merged"):
        left.merge(DepthMeter("none", aggregate))


def test_invalid_pixels_have_no_effect() -> None:
    with_hole, without = DepthMeter(), DepthMeter()
    with_hole.add(row(1, 2, 1000), row(2, 2, 0))
    without.add(row(1, 2), row(2, 2))
    assert with_hole.result() == without.result()


def test_bad_predictions_are_told() -> None:
    with pytest.raises(ContractError, match="NaN"):
        DepthMeter().add(row(math.nan), row(1))
    with pytest.raises(InputError, match="single_task"):
        DepthMeter("80m")
