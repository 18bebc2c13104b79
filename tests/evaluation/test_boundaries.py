from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import cv2
import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching
from skimage import morphology

from m2h_export.data.sample import IGNORE
from m2h_export.evaluation.boundaries import (
    BoundaryCounts,
    BoundaryMeter,
    BoundaryVariant,
    average_precision,
    boundary_variant,
    count_boundaries,
    quantise,
    seism_boundary,
    suppress,
)
from m2h_export.evaluation.matching import PixelMatcher
from m2h_export.evaluation.thinning import thin
from m2h_runtime.errors import ContractError, InputError

SIZE = (40, 60)


def lines(*rows: int, level: float = 1.0) -> np.ndarray:
    """Horizontal lines of 20 pixels."""
    plane = np.zeros(SIZE, np.float32)
    for y in rows:
        plane[y, 20:40] = level
    return plane


def truth(*rows: int) -> np.ndarray:
    return lines(*rows).astype(np.uint8)


def blobs(seed: int, size: tuple[int, int] = (60, 80)) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=size)
    smooth = cv2.GaussianBlur(noise, (0, 0), 4)
    return np.exp(-((smooth / np.abs(smooth).max() / 0.2) ** 2)).astype(np.float32)


def test_quantisation_truncates() -> None:
    assert quantise(np.array([[0, 0.5, 0.9999, 1]], np.float32)).tolist() == [[0, 127, 254, 255]]
    with pytest.raises(ContractError, match="not logits"):
        quantise(np.array([[-3.0]], np.float32))


def test_thinning_is_that_of_skimage() -> None:
    rng = np.random.default_rng(0)
    masks = [rng.random(rng.integers(1, 25, 2)) < rng.random() for _ in range(100)]
    for mask in [*masks, blobs(0) > 0.3, np.ones((20, 31), bool), np.zeros((5, 5), bool)]:
        np.testing.assert_array_equal(thin(mask), morphology.thin(mask))


def test_suppression_keeps_the_ridge_and_damps_the_border() -> None:
    edge = np.zeros((14, 20), np.float32)
    edge[:, 8:13] = (0.2, 0.6, 1.0, 0.6, 0.2)
    kept = suppress(edge, 1)
    assert np.unique(np.nonzero(kept)[1]).tolist() == [10]
    np.testing.assert_allclose(kept[:7, 10], (0, 0.2, 0.4, 0.6, 0.8, 1, 1))
    np.testing.assert_allclose(kept[::-1][:5, 10], (0, 0.2, 0.4, 0.6, 0.8))


@pytest.mark.parametrize("falling", [True, False])
def test_suppression_goes_across_a_diagonal(falling: bool) -> None:
    y, x = np.indices((24, 24))
    apart = np.abs(x - y if falling else x + y - 23)
    kept = suppress(np.maximum(0, 1 - apart / 5).astype(np.float32), 1) > 0
    kept[:7] = kept[-7:] = False
    assert kept[apart == 0].sum() == 10
    assert not kept[(apart > 0) & (apart < 3)].any()  # farther out the map is no ridge but its foot


def test_sak_rounds_the_suppressed_map_to_8_bit() -> None:
    edge = np.zeros((30, 30), np.uint8)
    edge[:, 15] = 101
    # Smoothing halves the ridge to 50.5, which rounds to 51, 0.2 in 8 bit: rows 5..24 keep it, the border is damped.
    variant = boundary_variant("sak", thresholds=[0.199, 0.2, 0.201])
    counts = count_boundaries(edge, [np.zeros((30, 30), np.uint8)], variant)
    assert counts.predicted.tolist() == [20, 20, 0]


def test_a_plateau_is_not_suppressed_and_corners_are_damped_twice() -> None:
    kept = suppress(np.full((12, 12), 0.5, np.float32), 4)
    assert kept[6, 6] == 0.5
    assert kept[1, 2] == pytest.approx(0.5 * 0.2 * 0.4)


def test_smoothing_before_the_suppression() -> None:
    edge = np.zeros((14, 20), np.float32)
    edge[:, 10] = 1
    assert suppress(edge, 4, smooth=True)[7, 10] == pytest.approx(0.5)  # 1 * 2/4 across, 1 along


def test_seism_truth_of_a_label_map_is_up_and_left_of_the_change() -> None:
    labels = np.zeros((6, 8), np.uint8)
    labels[:, 4:] = 7
    marked = seism_boundary(labels)
    assert np.nonzero(marked.any(axis=0))[0].tolist() == [3]
    assert marked[:, 3].all()


def test_seism_truth_at_the_last_row_and_column() -> None:
    labels = np.zeros((3, 3), np.uint8)
    labels[2, 2] = 1
    # (1,1) sees it diagonally, (1,2) below, (2,1) to the right; thinning drops the middle of that corner.
    np.testing.assert_array_equal(
        seism_boundary(labels), morphology.thin(np.array([[0, 0, 0], [0, 1, 1], [0, 1, 0]], bool))
    )


def test_seism_truth_of_a_binary_map_splits_thick_lines() -> None:
    binary = np.zeros((20, 20), np.uint8)
    binary[:, 8:11] = 1
    middle = seism_boundary(binary)[10]
    assert np.flatnonzero(middle).tolist() == [7, 10]
    binary[:] = 0
    binary[:, 8] = 1
    assert seism_boundary(binary)[10].sum() == 1


def test_matching_is_maximal() -> None:
    rng = np.random.default_rng(1)
    for _ in range(60):
        size = rng.integers(3, 25, 2)
        true, base, tolerance = rng.random(size) < 0.2, rng.random(size), 4 * rng.random()
        matcher = PixelMatcher(true, tolerance)
        for threshold in (0.5, 0.1, 0.4, 0.0, 0.3):  # one matcher for all, as in the thresholds of a picture
            predicted = base < threshold
            matched, pairs = matcher.match(predicted)
            near = ((np.argwhere(predicted)[:, None] - np.argwhere(true)[None]) ** 2).sum(-1) <= tolerance**2
            best = (
                maximum_bipartite_matching(csr_matrix(near), perm_type="column")
                if near.size
                else np.array([-1])
            )
            assert pairs == (best >= 0).sum() == matched.sum()
            assert not (matched & ~predicted).any()


def test_matching_is_one_to_one() -> None:
    # Two predicted lines of 20 pixels lie two pixels above and below the only true one: a dilation test would
    # call all 40 right (P = R = F = 1); one-to-one, 20 of 40 are.
    meter = BoundaryMeter("bsds", max_dist=2.5 / np.hypot(*SIZE), thresholds=[0.5])
    meter.add(lines(18, 22), truth(20))
    assert meter.result()["odsF"] == pytest.approx(2 * 0.5 * 1 / 1.5)


@pytest.mark.parametrize(("shift", "matched"), [(3, 20), (4, 0)])
def test_the_tolerance_is_a_share_of_the_diagonal(shift: int, matched: int) -> None:
    # 0.05 of 72.1 pixels are 3.6.
    variant = boundary_variant("bsds", max_dist=0.05, thresholds=[0.5])
    counts = count_boundaries(lines(20 + shift), [truth(20)], variant)
    assert (counts.matched_predicted[0], counts.predicted[0], counts.true[0]) == (matched, 20, 20)


@pytest.mark.parametrize(("strict", "predicted"), [(False, 20), (True, 0)])
def test_a_value_at_the_threshold(strict: bool, predicted: int) -> None:
    variant = BoundaryVariant(strict=strict, thresholds=(0.2,), seism_truth=False)
    level = (51 * truth(20)).astype(np.uint8)  # 51/255 is 0.2
    assert count_boundaries(level, [truth(20)], variant).predicted[0] == predicted


def test_ods_is_pooled_and_ois_takes_each_pictures_best() -> None:
    meter = BoundaryMeter("bsds", thresholds=[0.3, 0.6])
    meter.add(lines(20, level=0.4), truth(20))
    meter.add(np.maximum(lines(20, level=0.9), lines(5, level=0.4)), truth(20))
    told = meter.result()
    # At 0.3: 40 of 60 predicted and of 40 true match, F = 2 * 2/3 / (5/3) = 0.8; at 0.6: 20 of 20 and of 40, 2/3.
    assert told["odsF"] == pytest.approx(0.8)
    assert told["odsF_threshold"] == 0.3
    assert told["oisF"] == 1


def test_a_picture_without_truth_counts_in_ods_alone() -> None:
    meter = BoundaryMeter("bsds", thresholds=[0.5])
    meter.add(lines(20), truth(20))
    meter.add(lines(20), truth())
    told = meter.result()
    assert told["odsF"] == pytest.approx(2 * 0.5 / 1.5)  # 20 of 40 predicted, 20 of 20 true
    assert told["oisF"] == 1


def test_two_annotators() -> None:
    variant = boundary_variant("bsds", thresholds=[0.5])
    counts = count_boundaries(lines(10), [truth(10), truth(10, 30)], variant)
    assert (counts.matched_predicted[0], counts.predicted[0]) == (20, 20)
    assert (counts.matched_true[0], counts.true[0]) == (40, 60)


def test_average_precision_interpolates() -> None:
    # Recall 1 at precision 1/2, recall 1/2 at precision 1. The 51 points from 0.5 to 1 average 0.75.
    counts = BoundaryCounts(*(np.array(n) for n in ((10, 5), (20, 5), (10, 5), (10, 10))))
    assert average_precision(counts) == pytest.approx(51 * 0.75 / 100)


def test_ignored_pixels_have_no_effect() -> None:
    hidden = truth(20)
    hidden[:10] = IGNORE
    for variant in ("bsds", "mti"):
        meter, plain = (BoundaryMeter(variant, thresholds=[0.5]) for _ in range(2))
        meter.add(lines(3, 20), hidden)
        plain.add(lines(20), truth(20))
        assert meter.result() == plain.result()


def test_a_perfect_prediction_scores_one() -> None:
    line = thin(blobs(3) > 0.4)
    meter = BoundaryMeter("bsds")
    meter.add(line.astype(np.float32), line.astype(np.uint8))
    assert meter.result()["odsF"] == meter.result()["oisF"] == 1


@pytest.mark.parametrize("variant", ["sak", "invpt", "mti"])
def test_the_published_variants_find_a_smooth_ridge(variant: str) -> None:
    # The truth is the ridge itself; the border's damping and the half-pixel shift may cost a little.
    ridge = blobs(3)
    meter = BoundaryMeter(variant, max_dist=0.03)
    meter.add(ridge, thin(ridge > 0.4).astype(np.uint8))
    meter.add(ridge[::-1].copy(), thin(ridge[::-1] > 0.4).astype(np.uint8))
    assert 0.85 < meter.result()["odsF"] < 1


def test_unchanged_maps_are_counted_alike_at_every_threshold() -> None:
    variant = boundary_variant("bsds")
    counts = count_boundaries(lines(20, level=0.5), [truth(20)], variant)  # 127/255 = 0.498
    assert counts.predicted.tolist() == [20] * 49 + [0] * 50


def test_merged_meters_and_processes_equal_one_meter() -> None:
    pairs = [(blobs(i), (blobs(i + 10) > 0.5).astype(np.uint8)) for i in range(3)]
    thresholds = [0.2, 0.4, 0.6, 0.8]
    whole, left = (BoundaryMeter("invpt", thresholds=thresholds) for _ in range(2))
    for pair in pairs:
        whole.add(*pair)
    left.add(*pairs[0])
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        right = BoundaryMeter("invpt", thresholds=thresholds, executor=pool)
        for pair in pairs[1:]:
            right.add(*pair)
        left.merge(right)
    assert left.result() == whole.result()
    assert left.images == 3
    with pytest.raises(InputError, match="cannot be merged"):
        left.merge(BoundaryMeter("invpt"))


def test_bad_input_is_told() -> None:
    with pytest.raises(InputError, match="sak, invpt, mti, bsds"):
        BoundaryMeter("nms")
    with pytest.raises(InputError, match="ascending"):
        BoundaryMeter("sak", thresholds=[0.5, 0.2])
    with pytest.raises(ContractError, match="differ in shape"):
        BoundaryMeter("bsds").add(lines(1), truth(1)[1:])
    with pytest.raises(ContractError, match="too small"):
        BoundaryMeter("sak").add(np.zeros((4, 9), np.float32), np.zeros((4, 9), np.uint8))
