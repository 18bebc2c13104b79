from __future__ import annotations

import numpy as np
import pytest

from m2h_export.data.sample import IGNORE
from m2h_export.evaluation.saliency import SaliencyMeter
from m2h_runtime.errors import InputError


def score(variant: str, *pictures: tuple[list[float], list[int]]) -> dict[str, float]:
    meter = SaliencyMeter(variant)
    for probability, truth in pictures:
        meter.add(np.array([probability]), np.array([truth], np.uint8))
    return meter.result()


def test_sak_takes_the_best_threshold_of_pooled_counts() -> None:
    # Above 0.6 only the first is positive: P = 1, R = 1/2, F = 1.3 * 0.5 / (0.3 + 0.5) = 0.8125. Above 0.1 three
    # are: P = 2/3, R = 1, F = 0.722; the others score less.
    told = score("sak", ([0.9, 0.6, 0.4, 0.1], [1, 0, 1, 0]))
    assert told["maxF"] == pytest.approx(0.8125)
    assert told["mIoU"] == pytest.approx(2 / 3)


def test_sak_counts_a_probability_at_the_threshold() -> None:
    assert score("sak", ([0.95, 0.94], [1, 0]))["maxF"] == 1


def test_invpt_sees_probabilities_through_a_second_sigmoid() -> None:
    # 0.30 and 0.25 both lie between the acting thresholds 0.20 and 0.41: P = 1/2, R = 1, F = 0.65 / 1.15.
    pictures = ([0.30, 0.25], [1, 0])
    assert score("sak", pictures)["maxF"] == 1
    assert score("invpt", pictures)["maxF"] == pytest.approx(0.65 / 1.15)
    for low, high in ((0.19, 0.21), (0.40, 0.41), (0.61, 0.63), (0.84, 0.86)):
        assert score("invpt", ([high, low], [1, 0]))["maxF"] == 1


def test_mti_averages_precision_and_recall_over_pictures() -> None:
    # Below 0.5: P, R are 1/2, 1 and 1, 1/2, their means 3/4 and 3/4, F1 = 3/4.
    told = score("mti", ([0.5, 0.5], [1, 0]), ([0.8, 0.1], [1, 1]))
    assert told["maxF"] == pytest.approx(0.75)
    assert told["mIoU"] == pytest.approx(0.5)


def test_nothing_found_of_nothing_is_a_full_iou() -> None:
    assert score("mti", ([0.1, 0.1], [0, 0]), ([0.9, 0.1], [1, 0]))["mIoU"] == 1


@pytest.mark.parametrize("variant", ["sak", "invpt"])
def test_ignored_pixels_have_no_effect(variant: str) -> None:
    assert score(variant, ([0.9, 0.7, 0.99], [1, 0, IGNORE])) == score(variant, ([0.9, 0.7], [1, 0]))


@pytest.mark.parametrize("variant", ["sak", "invpt", "mti"])
def test_a_perfect_prediction_scores_one(variant: str) -> None:
    assert score(variant, ([1.0, 0.0, 1.0], [1, 0, 1])) == {"maxF": 1, "mIoU": 1}


@pytest.mark.parametrize("variant", ["sak", "invpt", "mti"])
def test_merged_meters_equal_one(variant: str) -> None:
    rng = np.random.default_rng(0)
    pairs = [(rng.random((5, 6)), rng.integers(0, 2, (5, 6), np.uint8)) for _ in range(3)]
    whole, left, right = (SaliencyMeter(variant) for _ in range(3))
    for i, pair in enumerate(pairs):
        whole.add(*pair)
        (left if i else right).add(*pair)
    left.merge(right)
    assert left.result() == pytest.approx(whole.result(), rel=1e-12)


def test_bytes_are_255ths() -> None:
    meter = SaliencyMeter()
    meter.add(np.array([[51, 50]], np.uint8), np.array([[1, 0]], np.uint8))
    assert meter.result()["maxF"] == 1  # 51/255 is 0.20, at the threshold


def test_an_unknown_variant_is_told() -> None:
    with pytest.raises(InputError, match="sak, invpt, mti"):
        SaliencyMeter("bsds")
