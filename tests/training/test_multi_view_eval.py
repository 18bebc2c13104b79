"""m2h-eval with neighbours: from training to results, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from m2h_export.data import open_dataset
from m2h_export.data.views import Views, ViewSettings
from m2h_export.evaluation.cli import main
from m2h_export.evaluation.panels import comparison, label_space_of
from m2h_export.evaluation.predictors import TorchPredictor
from m2h_export.training.cli import main as m2h_train
from m2h_runtime.cli.sim import main as m2h_sim
from m2h_runtime.errors import InputError

EXPERIMENT = Path(__file__).parents[2] / "export" / "experiments" / "cvm_apartments.yaml"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One apartment, a burst of the walk and two stills from three places each."""
    out = tmp_path_factory.mktemp("apartments")
    frames = ["--apartments", "1", "--frames", "1", "--survey", "2", "--burst", "3", "--duration", "20"]
    assert m2h_sim([*frames, "--size", "64x48", "--workers", "1", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def weights(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two steps of the benchmark's experiment with fewer planes."""
    out = tmp_path_factory.mktemp("train") / "run"
    changes = ["--set", "data.size=[48, 64]", "--set", "model.cvm.planes=16", "--set", "batch=1"]
    changes += ["--set", "model.cvm.depths=[0.3, 9]"]
    command = [str(EXPERIMENT), "--data", str(root), "--out", str(out), "--steps", "2", "--threads", "1"]
    assert m2h_train([*command, *changes]) == 0
    return out / "model.safetensors"


def evaluate(weights: Path, root: Path, *more: str) -> int:
    data = ["--data", "apartments", "--root", str(root), "--split", "train", "--threads", "1"]
    return main(["--checkpoint", str(weights), *data, *more])


def test_one_two_and_three_views(
    weights: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {}
    for views in (1, 2, 3):
        out = tmp_path / str(views)
        assert evaluate(weights, root, "--views", str(views), "--out", str(out)) == 0
        told[views] = json.loads((out / "results.json").read_text())
    assert "views" not in told[1]
    assert told[2]["views"]["count"] == 2 and told[2]["views"]["gap"] == [1, 10]
    alone = told[2]["views"]["alone"]
    assert 0 <= alone < 9
    assert f"2 views; {alone} of 9 pictures have no neighbour" in capsys.readouterr().out
    found = [told[views]["headlines"]["depth"] for views in (1, 2, 3)]
    assert len(set(found)) == 3, "other views change the prediction"
    assert set(told[3]["tasks"]) == {"depth", "semantics", "normals", "edges"}
    assert told[3]["consistency"]["mean"] > 0
    gain = [
        "--views",
        "2",
        "--out",
        str(tmp_path / "gain"),
        "--baseline",
        str(tmp_path / "1" / "results.json"),
    ]
    assert evaluate(weights, root, *gain) == 0
    assert json.loads((tmp_path / "gain" / "results.json").read_text())["gain"]["delta_mtl"] != 0


def test_a_switch_of_the_training_is_found_in_the_weights(weights: Path) -> None:
    predictor = TorchPredictor(weights)
    module = predictor._network.cvm
    assert module is not None
    assert (module.config.planes, tuple(module.config.depths)) == (16, (0.3, 9.0))
    assert predictor.tasks == ("depth", "semantics", "normals", "edges")


def test_a_view_alone_is_a_single_picture_and_panels_stand_side_by_side(weights: Path, root: Path) -> None:
    predictor, dataset = TorchPredictor(weights), open_dataset("apartments", root)
    views = Views(dataset, ViewSettings(2, (1, 2), min_overlap=0.2)).nearest(4)
    assert len(views) == 2
    alone, single, pair = (
        predictor.predict_views(views[:1]),
        predictor.predict(views[0].image),
        predictor.predict_views(views),
    )
    np.testing.assert_array_equal(alone.depth, single.depth)
    assert pair.depth is not None and (pair.depth != single.depth).any()
    sheet = comparison(views[0], {"one": single, "two": pair}, label_space_of(dataset.class_names), width=64)
    assert sheet.shape[1] == 5 * 64 and sheet.shape[0] > 3 * 48


def test_foreseen_failures_are_one_line(
    weights: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ["--root", str(root), "--threads", "1"]
    cases = [
        (["--checkpoint", str(weights), "--data", "apartments", *folder, "--gap", "1,2"], "add --views N"),
        (
            ["--engine", str(tmp_path), "--data", "apartments", *folder, "--views", "2"],
            "goes with --checkpoint",
        ),
    ]
    for arguments, message in cases:
        assert main(arguments) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and message in said


def test_a_network_of_single_pictures_says_so(root: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from m2h_export.models import build_model

    state = {name: value.contiguous() for name, value in build_model("m2h-nano", 21).state_dict().items()}
    save_file(state, tmp_path / "m2h.safetensors", {"model": "m2h-nano", "label_space": "nyud20"})
    predictor, dataset = TorchPredictor(tmp_path / "m2h.safetensors"), open_dataset("apartments", root)
    with pytest.raises(InputError, match="takes single pictures; leave --views out"):
        predictor.predict_views([dataset[3], dataset[4]])
