from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from tiny_engine import picture, twin

from m2h_export.data.sample import IGNORE, Sample
from m2h_export.evaluation import Evaluator, Prediction
from m2h_export.evaluation.panels import label_space_of, panel, write_panel
from m2h_export.evaluation.predictors import ClassMap, EnginePredictor
from m2h_runtime.errors import ContractError, InputError
from m2h_runtime.label_space import load_label_space

SIZE = (40, 56)
CLASSES = ("left", "right", "never")
TASKS = ("semantics", "depth", "normals", "edges", "human_parts", "saliency")


def sample(seed: int = 0) -> Sample:
    rng = np.random.default_rng(seed)
    semantics = np.zeros(SIZE, np.uint8)
    semantics[:, 20 + seed :] = 1
    semantics[:4] = IGNORE
    edges = np.zeros(SIZE, np.uint8)
    edges[5:-5, 20 + seed] = 1
    normals = np.zeros((*SIZE, 3), np.float32)
    normals[..., 2] = -1
    return Sample(
        f"room_{seed}",
        rng.integers(0, 256, (*SIZE, 3), np.uint8),
        depth=np.full(SIZE, 2 + seed, np.float32),
        semantics=semantics,
        normals=normals,
        edges=edges,
        extra={"human_parts": semantics, "saliency": np.minimum(semantics, 1)},
        intrinsics=np.array([[40.0, 0, 28], [0, 40, 20], [0, 0, 1]]),
    )


def perfect(of: Sample) -> Prediction:
    assert of.edges is not None
    return Prediction(
        depth=of.depth,
        semantics=of.semantics,
        normals=of.normals,
        edges=255 * of.edges,
        human_parts=of.extra["human_parts"],
        saliency=of.extra["saliency"].astype(np.float32),
    )


def noisy(of: Sample, seed: int) -> Prediction:
    rng = np.random.default_rng(seed)
    return Prediction(
        depth=rng.uniform(1, 4, SIZE).astype(np.float32),
        semantics=rng.integers(0, 3, SIZE, np.uint8),
        normals=rng.normal(size=(*SIZE, 3)).astype(np.float32),
        edges=rng.random(SIZE, np.float32),
    )


def test_a_perfect_prediction() -> None:
    evaluator = Evaluator(CLASSES, TASKS, absent="exclude", odsf="bsds")
    for seed in (0, 1):
        evaluator.add(perfect(sample(seed)), sample(seed))
    told = evaluator.result()
    assert told["headlines"] == pytest.approx(
        {"semantics": 1, "depth": 0, "normals": 0, "edges": 1, "human_parts": 1, "saliency": 1}
    )
    assert told["class_iou"] == {"left": 1, "right": 1, "never": None}
    assert told["human_parts_iou"]["torso"] is None
    assert told["consistency"]["mean"] < 1e-3
    assert told["counts"]["semantics"] == {"images": 2, "pixels": 2 * 36 * 56}
    assert told["counts"]["consistency"] == {"images": 2, "pixels": 2 * 38 * 54}
    assert told["variants"]["absent"] == "exclude"
    assert told["variants"]["odsf"] == "bsds"


def test_the_result_is_json_and_tasks_without_truth_are_left_out() -> None:
    bare = Sample("bare", sample().image, depth=np.full(SIZE, 3, np.float32))
    evaluator = Evaluator(CLASSES, thresholds=(0.5,))
    evaluator.add(noisy(bare, 0), bare)
    told = json.loads(json.dumps(evaluator.result(), allow_nan=False))
    assert list(told["tasks"]) == ["depth"]
    assert told["variants"]["thresholds"] == [0.5]
    assert "consistency" not in told


def test_merged_evaluators_equal_one() -> None:
    whole, left, right = (Evaluator(CLASSES, thresholds=(0.3, 0.7)) for _ in range(3))
    for i in range(4):
        pair = noisy(sample(i), i), sample(i)
        whole.add(*pair)
        (left if i % 2 else right).add(*pair)
    left.merge(right)
    merged, plain = left.result(), whole.result()
    for task, metrics in plain["tasks"].items():
        assert merged["tasks"][task] == pytest.approx(metrics, rel=1e-9)
    assert merged["counts"] == plain["counts"]
    with pytest.raises(InputError, match="cannot be merged"):
        left.merge(Evaluator(CLASSES))


def test_predictions_are_brought_to_the_size_of_the_truth() -> None:
    small = Prediction(depth=np.array([[1, 3]], np.float32), semantics=np.array([[0, 1]], np.uint8)).resized(
        (2, 4)
    )
    # Half-pixel centres: 1, 1 + 1/4 of 2, 1 + 3/4 of 2, 3; labels are never mixed.
    np.testing.assert_allclose(small.depth, [[1, 1.5, 2.5, 3]] * 2)
    assert small.semantics.tolist() == [[0, 0, 1, 1]] * 2


def test_missing_predictions_and_unknown_choices_are_told() -> None:
    with pytest.raises(ContractError, match="room_0: semantics: there is truth but no prediction"):
        Evaluator(CLASSES).add(Prediction(depth=sample().depth), sample())
    with pytest.raises(InputError, match="no variant 'ods'"):
        Evaluator(CLASSES, ods="sak")
    with pytest.raises(InputError, match="no task 'flow'"):
        Evaluator(CLASSES, ["flow"])
    with pytest.raises(ContractError, match=r"prediction\.depth"):
        Prediction(depth=np.zeros(SIZE))


def test_class_map_goes_by_name() -> None:
    to_data = ClassMap(("unknown", "wall", "floor"), ("floor", "wall"))
    mapped = to_data(Prediction(semantics=np.array([[0, 1, 2]], np.uint8)))
    assert mapped.semantics.tolist() == [[IGNORE, 1, 0]]
    same = ClassMap(("class_0", "class_1"), ("floor", "wall"))(
        Prediction(semantics=np.eye(2, dtype=np.uint8))
    )
    assert same.semantics.tolist() == [[1, 0], [0, 1]]
    with pytest.raises(InputError, match=r"3 classes .* data set 2"):
        ClassMap(("a", "b", "c"), ("floor", "wall"))


def test_an_engine_predicts_what_it_computes(tiny_engine) -> None:
    predictor = EnginePredictor(tiny_engine, "onnxruntime-cpu", threads=1)
    predicted, expected = predictor.predict(picture(1)), twin(picture(1))
    np.testing.assert_allclose(predicted.depth, expected.depth, rtol=1e-5)
    np.testing.assert_array_equal(predicted.semantics, expected.semantics)
    np.testing.assert_array_equal(predicted.edges, expected.edges)
    assert predictor.class_names == ("class_0", "class_1")
    assert predictor.predict(picture(1, (128, 192))).depth.shape == (64, 96)


def test_colours_of_a_data_set_are_those_of_its_label_space() -> None:
    shipped = load_label_space("nyudv2_40")
    assert label_space_of(shipped.classes[1:]).colors == shipped.colors[1:]
    assert label_space_of(CLASSES).classes == CLASSES


def test_a_panel_shows_truth_above_prediction(tmp_path) -> None:
    shown, space = sample(), label_space_of(CLASSES)
    made = panel(shown, perfect(shown), space, width=56)
    write_panel(tmp_path / "panel.png", made)
    read = cv2.cvtColor(cv2.imread(str(tmp_path / "panel.png")), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(read, made)
    assert made.shape == (24 + 2 * 40, 5 * 56, 3)  # a title, two rows of five tiles
    upper, lower = made[24:64], made[64:]
    np.testing.assert_array_equal(upper[22:, 56:], lower[22:, 56:])  # below the captions
    assert tuple(upper[30, 56 + 10]) == space.colors[0]
    np.testing.assert_array_equal(upper[22:, :56], shown.image[22:])
