from __future__ import annotations

import json
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from m2h_export.data import open_dataset
from m2h_export.evaluation import Evaluator
from m2h_export.evaluation.cli import main
from m2h_export.evaluation.predictors import TorchPredictor
from m2h_export.models import build_model

if TYPE_CHECKING:
    from pathlib import Path

SIZE = (56, 70)
NAMES = ("0001", "0002", "0003")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures in the layout of NYUD_MT."""
    folder = tmp_path_factory.mktemp("NYUD_MT")
    for part in ("images", "depth", "normals", "segmentation", "edge", "gt_sets"):
        (folder / part).mkdir()
    (folder / "gt_sets" / "val.txt").write_text("\n".join(NAMES) + "\n")
    rng = np.random.default_rng(0)
    for name in NAMES:
        labels = np.ones(SIZE, np.uint8)
        labels[:, 30:] = rng.integers(2, 41)
        edge = np.zeros(SIZE, np.uint8)
        edge[:, 30] = 255
        cv2.imwrite(str(folder / "images" / f"{name}.png"), rng.integers(0, 256, (*SIZE, 3), np.uint8))
        np.save(folder / "depth" / f"{name}.npy", rng.uniform(1, 5, SIZE).astype(np.float32))
        cv2.imwrite(str(folder / "normals" / f"{name}.png"), rng.integers(0, 256, (*SIZE, 3), np.uint8))
        cv2.imwrite(str(folder / "segmentation" / f"{name}.png"), labels)
        cv2.imwrite(str(folder / "edge" / f"{name}.png"), edge)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random m2h-nano of 40 classes whose file says what it is."""
    torch.manual_seed(0)
    state = {k: v.contiguous() for k, v in build_model("m2h-nano", 40).state_dict().items()}
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file(state, path, {"model": "m2h-nano", "num_classes": "40", "ggfm": "true"})
    return path


def evaluate(checkpoint: Path, root: Path, *more: str) -> int:
    options = [
        "--checkpoint",
        str(checkpoint),
        "--data",
        "nyudv2_folder",
        "--root",
        str(root),
        "--threads",
        "1",
    ]
    return main([*options, *more])


def test_results_and_panels(checkpoint: Path, root: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert evaluate(checkpoint, root, "--out", str(out), "--panels", "2", "--absent", "exclude") == 0
    written = json.loads((out / "results.json").read_text())
    evaluator, predictor = (
        Evaluator([f"c{i}" for i in range(40)], absent="exclude"),
        TorchPredictor(checkpoint),
    )
    dataset = open_dataset("nyudv2_folder", root, split="val")
    for i in range(3):
        evaluator.add(predictor.predict(dataset[i].image), dataset[i])
    assert written["tasks"] == json.loads(json.dumps(evaluator.result()["tasks"]))
    assert set(written["tasks"]) == {"semantics", "depth", "normals", "edges"}
    assert written["images"] == 3
    assert written["predictor"]["name"] == "m2h-nano"
    assert len(list((out / "panels").glob("*.png"))) == 2
    told = capsys.readouterr().out
    assert "mIoU" in told
    assert f"{written['tasks']['depth']['RMSE']:.4f}" in told


def test_gain_over_a_baseline(checkpoint: Path, root: Path, tmp_path: Path) -> None:
    options = ("--limit", "1", "--size", "42x56", "--out", str(tmp_path))
    assert evaluate(checkpoint, root, *options) == 0
    baseline = json.loads((tmp_path / "results.json").read_text())
    assert baseline["data"]["size"] == [42, 56]
    # Twice the error in one task and another task without a score: (2x - x) / 2x of the one is 50 %.
    baseline["headlines"] = {"depth": 2 * baseline["headlines"]["depth"], "normals": None}
    other = tmp_path / "baseline.json"
    other.write_text(json.dumps(baseline))
    assert evaluate(checkpoint, root, *options, "--baseline", str(other)) == 0
    gain = json.loads((tmp_path / "results.json").read_text())["gain"]
    assert gain == {"baseline": str(other), "tasks": ["depth"], "delta_mtl": pytest.approx(50)}


def test_foreseen_failures_are_one_line(
    checkpoint: Path, root: Path, tmp_path: Path, tiny_engine: Path, capsys
) -> None:
    engine = ["--engine", str(tiny_engine), "--backend", "onnxruntime-cpu", "--threads", "1"]
    data = ["--data", "nyudv2_folder", "--root", str(root)]
    weights = ["--checkpoint", str(checkpoint)]
    cases = [
        ([*engine, *data], "2 classes"),
        ([*engine, *data, "--model", "m2h"], "--model and --normals-sign"),
        ([*weights, *data, "--panels", "2"], "add --out"),
        ([*weights, *data, "--split", "test"], "no split 'test'"),
        ([*weights, *data, "--model", "m2h-huge"], "no network 'm2h-huge'"),
        ([*weights, *data, "--model", "m2h"], "not the weights of m2h"),
        ([*weights, *data, "--baseline", str(tmp_path / "none.json")], "cannot be read"),
        ([*weights, "--data", "nyudv3", "--root", str(root)], "nyudv2"),
        (["--checkpoint", str(root / "gt_sets" / "val.txt"), *data], "val.txt"),
    ]
    for options, expected in cases:
        assert main(options) == 2, options
        error = capsys.readouterr().err
        assert expected in error
        assert error.count("\n") == 1
