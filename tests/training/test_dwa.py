"""Dynamic weight averaging against eq. 18 by hand."""

from __future__ import annotations

import math

import pytest

from m2h_export.training.dwa import DynamicWeightAverage


def period(balance: DynamicWeightAverage, *steps: dict[str, float]) -> dict[str, float]:
    for losses in steps:
        balance.add(losses)
    balance.end_period()
    return balance.weights


def test_weights_are_one_for_two_periods_then_follow_the_ratios() -> None:
    balance = DynamicWeightAverage(["depth", "edges"], temperature=2.0)
    assert balance.weights == {"depth": 1.0, "edges": 1.0}
    assert period(balance, {"depth": 3.0, "edges": 1.0}, {"depth": 5.0, "edges": 3.0}) == {
        "depth": 1.0,
        "edges": 1.0,
    }  # means 4 and 2
    a, b = math.exp(0.5 / 2), math.exp(1.5 / 2)  # 2 / 4 and 3 / 2
    found = period(balance, {"depth": 2.0, "edges": 3.0})
    assert found == pytest.approx({"depth": 2 * a / (a + b), "edges": 2 * b / (a + b)})
    a, b = math.exp(1.0 / 2), math.exp((1 / 3) / 2)  # 2 / 2 and 1 / 3: only the last two periods count
    found = period(balance, {"depth": 2.0, "edges": 1.0})
    assert found == pytest.approx({"depth": 2 * a / (a + b), "edges": 2 * b / (a + b)})


def test_other_losses_are_not_balanced_and_a_task_at_zero_has_ratio_one() -> None:
    balance = DynamicWeightAverage(["depth", "edges"])
    period(balance, {"depth": 0.0, "edges": 2.0, "depth_normals": 9.0})
    found = period(balance, {"depth": 0.0, "edges": 2.0, "depth_normals": 1.0})
    assert found == pytest.approx({"depth": 1.0, "edges": 1.0})


def test_a_large_ratio_does_not_overflow() -> None:
    balance = DynamicWeightAverage(["depth", "edges"])
    period(balance, {"depth": 1e-6, "edges": 1.0})
    assert period(balance, {"depth": 1.0, "edges": 1.0}) == pytest.approx({"depth": 2.0, "edges": 0.0})


def test_state_goes_on_within_a_period() -> None:
    one, other = DynamicWeightAverage(["depth", "edges"]), DynamicWeightAverage(["depth", "edges"])
    period(one, {"depth": 4.0, "edges": 1.0})
    one.add({"depth": 3.0, "edges": 1.0})
    other.load_state_dict(one.state_dict())
    last = {"depth": 1.0, "edges": 2.0}
    assert period(one, last) == period(other, last)
    assert one.weights["depth"] < 1 < one.weights["edges"]
