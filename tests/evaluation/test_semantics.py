from __future__ import annotations

import numpy as np
import pytest

from m2h_export.data.sample import IGNORE
from m2h_export.evaluation.semantics import HumanPartsMeter, SemanticsMeter
from m2h_runtime.errors import ContractError, InputError


def row(*labels: int) -> np.ndarray:
    return np.array([labels], np.uint8)


# Class 0: TP 1, FN 1; class 1: TP 1, FP 1; class 2 is predicted at the ignored pixel alone, so nowhere.
TRUTH, PREDICTION = row(0, 0, 1, IGNORE), row(0, 1, 1, 2)


@pytest.mark.parametrize(("absent", "miou"), [("zero", (0.5 + 0.5 + 0) / 3), ("exclude", 0.5)])
def test_scores_of_four_pixels(absent: str, miou: float) -> None:
    meter = SemanticsMeter(3, absent)
    meter.add(PREDICTION, TRUTH)
    assert meter.result() == pytest.approx(
        {"mIoU": miou, "pixel_accuracy": 2 / 3, "mean_class_accuracy": (1 / 2 + 1) / 2}
    )
    np.testing.assert_array_equal(meter.class_iou(), [0.5, 0.5, np.nan])


@pytest.mark.parametrize("absent", ["zero", "exclude"])
def test_a_class_that_is_only_predicted_counts_as_zero(absent: str) -> None:
    meter = SemanticsMeter(2, absent)
    meter.add(row(0, 0, 1), row(0, 0, 0))
    assert meter.result()["mIoU"] == pytest.approx((2 / 3 + 0) / 2)


def test_a_prediction_outside_the_classes_is_a_miss_and_nobodys_false_positive() -> None:
    meter = SemanticsMeter(2)
    meter.add(row(0, 7, 1, IGNORE), row(0, 0, 1, 1))
    assert meter.class_iou().tolist() == [0.5, 0.5]


@pytest.mark.parametrize("at_ignored", [0, 1, 2, 255])
def test_what_is_predicted_at_an_ignored_pixel_has_no_effect(at_ignored: int) -> None:
    meter, plain = SemanticsMeter(3), SemanticsMeter(3)
    meter.add(row(0, 1, 1, at_ignored), TRUTH)
    plain.add(PREDICTION[:, :3], TRUTH[:, :3])
    assert meter.result() == plain.result()


def test_pictures_are_pooled_not_averaged() -> None:
    meter = SemanticsMeter(1)
    meter.add(row(0), row(0))
    meter.add(row(9, 9, 9), row(0, 0, 0))
    assert meter.result()["mIoU"] == 1 / 4  # not (1 + 0) / 2


def test_merged_meters_equal_one() -> None:
    rng = np.random.default_rng(0)
    pairs = [(rng.integers(0, 5, (6, 7), np.uint8), rng.integers(0, 5, (6, 7), np.uint8)) for _ in range(4)]
    whole, left, right = (SemanticsMeter(5) for _ in range(3))
    for i, pair in enumerate(pairs):
        whole.add(*pair)
        (left if i % 2 else right).add(*pair)
    left.merge(right)
    assert left.result() == whole.result()
    assert (left.images, left.pixels) == (4, 4 * 42)


def test_meters_of_other_variants_do_not_merge() -> None:
    with pytest.raises(InputError, match="cannot be merged"):
        SemanticsMeter(3).merge(SemanticsMeter(3, "exclude"))


def test_bad_labels_and_shapes_are_told() -> None:
    meter = SemanticsMeter(3)
    with pytest.raises(ContractError, match="label 3, but there are 3 classes"):
        meter.add(row(0), row(3))
    with pytest.raises(ContractError, match="differ in shape"):
        meter.add(row(0, 0), row(0))


def test_nothing_counted_is_nan() -> None:
    assert np.isnan(SemanticsMeter(3).result()["mIoU"])


def test_human_parts_ignore_a_picture_without_a_person_whole() -> None:
    meter = HumanPartsMeter()
    meter.add(row(0, 1, 3), row(0, 1, 2))
    meter.add(row(3, 3, 3), row(0, 0, IGNORE))
    # Background and head are right, torso is missed, upper arm is wrong; the absent three count as 0.
    assert meter.result()["mIoU"] == pytest.approx(2 / 7)
    assert meter.images == 1
