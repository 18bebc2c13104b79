"""A student and its teacher."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import pytest
import torch
from toy import CLASSES, ToyDataset, experiment

from m2h_export.models import build_model
from m2h_export.random_weights import fill_weights
from m2h_export.training.distillation import distillation_loss, log_depth_distance, semantics_divergence
from m2h_export.training.state import save_weights
from m2h_export.training.trainer import Trainer
from m2h_runtime.errors import CheckpointError, InputError

if TYPE_CHECKING:
    from pathlib import Path


def logits(*probabilities: float) -> torch.Tensor:
    return torch.tensor(probabilities).log()[None, :, None, None]


def test_semantics_divergence_by_hand() -> None:
    teacher, student = logits(0.8, 0.2), logits(0.5, 0.5)
    wanted = 0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5)
    assert semantics_divergence(student, teacher, 1.0).item() == pytest.approx(wanted, rel=1e-5)
    # At T = 2 the teacher's odds of 4 : 1 soften to 2 : 1.
    softened = 4 * (2 / 3 * math.log(2 / 3 / 0.5) + 1 / 3 * math.log(1 / 3 / 0.5))
    assert semantics_divergence(student, teacher, 2.0).item() == pytest.approx(softened, rel=1e-5)
    assert semantics_divergence(teacher, teacher, 2.0).item() == pytest.approx(0, abs=1e-6)


def test_the_other_distances_by_hand() -> None:
    near, far = torch.full((1, 1, 1, 1), 2.0), torch.full((1, 1, 1, 1), 6.0)
    assert log_depth_distance(near, far).item() == pytest.approx(math.log(3), rel=1e-6)
    one, other = (torch.tensor(v)[None, :, None, None] for v in ([0.0, 0, -1], [0.6, 0, -0.8]))
    assert distillation_loss("normals", one, other, 1.0).item() == pytest.approx(0.2, abs=1e-6)
    edge, sure = torch.zeros(1, 1, 1, 1), torch.full((1, 1, 1, 1), math.log(3))
    wanted = -0.75 * math.log(0.5) - 0.25 * math.log(0.5)
    assert distillation_loss("edges", edge, sure, 1.0).item() == pytest.approx(wanted, rel=1e-6)


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    network = build_model("toy", len(CLASSES))
    fill_weights(network, seed=5)
    save_weights(tmp_path / "teacher.safetensors", network, CLASSES, experiment(), 0)
    return tmp_path / "teacher.safetensors"


def test_the_student_comes_nearer_and_the_teacher_stays(teacher: Path, tmp_path: Path) -> None:
    changes = (f"distillation={{teacher: {teacher}, model: toy}}", "optimiser.lr=0.01", "augment.jitter=0")
    trainer = Trainer(experiment(*changes), ToyDataset(), tmp_path / "run", quiet=True)
    assert trainer.distillation is not None
    before = {name: value.clone() for name, value in trainer.distillation.teacher.state_dict().items()}
    trainer.run()
    for name, value in trainer.distillation.teacher.state_dict().items():
        assert torch.equal(value, before[name]), name
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    first, last = lines[0]["losses"], lines[-1]["losses"]
    names = [name for name in first if name.startswith("distilled_")]
    assert names == ["distilled_depth", "distilled_semantics", "distilled_normals", "distilled_edges"]
    assert sum(last[n] for n in names) < 0.9 * sum(first[n] for n in names)


def test_a_weight_of_zero_leaves_a_task_out(teacher: Path, tmp_path: Path) -> None:
    changes = (f"distillation={{teacher: {teacher}, model: toy, weights: {{depth: 0, edges: 0}}}}", "steps=1")
    trainer = Trainer(experiment(*changes), ToyDataset(), tmp_path / "run", quiet=True)
    trainer.run()
    losses = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())["losses"]
    assert [n for n in losses if n.startswith("distilled_")] == ["distilled_semantics", "distilled_normals"]


def test_a_teacher_that_does_not_fit(teacher: Path, tmp_path: Path) -> None:
    wrong = experiment(f"distillation={{teacher: {teacher}, model: m2h-nano}}")
    with pytest.raises(CheckpointError, match="pass --model toy"):
        Trainer(wrong, ToyDataset(), tmp_path / "a", quiet=True)
    network = build_model("toy", 7)
    save_weights(teacher, network, CLASSES, experiment(), 0)
    with pytest.raises(
        InputError, match=r"the teacher has 7 classes and the student 3; set distillation.weights"
    ):
        Trainer(
            experiment(f"distillation={{teacher: {teacher}, model: toy}}"),
            ToyDataset(),
            tmp_path / "b",
            quiet=True,
        )
