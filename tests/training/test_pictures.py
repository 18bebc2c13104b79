"""What a person looks at during a training: panels and curves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from toy import ToyDataset

from m2h_export.models import build_model
from m2h_export.training.curves import draw_curves
from m2h_export.training.panels import COUNT, SamplePanels

if TYPE_CHECKING:
    from pathlib import Path


def test_panels_show_truth_and_prediction_of_several_samples(tmp_path: Path) -> None:
    SamplePanels(tmp_path, ToyDataset())(250, build_model("toy", 3).eval())
    (file,) = (tmp_path / "panels").iterdir()
    assert file.name == "step-0000250.png"
    sheet = cv2.imread(str(file))
    parts = np.array_split(sheet, COUNT)
    assert not any(np.array_equal(parts[0], part) for part in parts[1:])


def line(step: int, **losses: float) -> str:
    return json.dumps({"step": step, "lr": 1e-3, "losses": losses}) + "\n"


def test_curves_are_drawn_for_every_loss(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    one.write_text(line(10, depth=1.0) + line(20, depth=0.5))
    two.write_text(line(10, depth=1.0) + line(20, depth=0.5, edges=0.3))  # a loss of the fine-tuning stage
    assert draw_curves(one, tmp_path / "one.png")
    assert draw_curves(two, tmp_path / "two.png")
    widths = [cv2.imread(str(tmp_path / name)).shape[1] for name in ("one.png", "two.png")]
    assert widths[0] < widths[1]


@pytest.mark.parametrize("log", [None, ""])
def test_a_run_too_short_to_log_has_no_curves(tmp_path: Path, log: str | None) -> None:
    if log is not None:
        (tmp_path / "metrics.jsonl").write_text(log)
    assert not draw_curves(tmp_path / "metrics.jsonl", tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()
