"""Training with several views: pairs, pictures alone, both task sets, and the networks without a module."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from toy import CLASSES, ToyDataset, sample

from m2h_export.data.sample import IGNORE
from m2h_export.training.experiment import parse_experiment
from m2h_export.training.network import make_network
from m2h_export.training.trainer import Trainer
from m2h_runtime.errors import InputError
from m2h_runtime.label_space import load_label_space

if TYPE_CHECKING:
    from pathlib import Path

    from m2h_export.data.sample import Sample
    from m2h_export.training.experiment import Experiment

YAML = """
name: pairs
model: {name: cvm-nano, cvm: {planes: 16}}
data: {kind: apartments, size: [32, 48], cap_m: 10, views: {count: 2, gap: [1, 1]}}
steps: 6
batch: 1
seed: 3
log_every: 1
save_every: 3
augment: {flip: 0, jitter: 0}
loss: {kind: cvm, grid: head, balance: equal, weights: {normals: 10, edges: 50}}
optimiser: {lr: 0.002, warmup_steps: 2}
"""


class Pair:
    """Two views of one room."""

    class_names = load_label_space("nyud20").classes

    def __init__(self, views: list[Sample]) -> None:
        self.views = views

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Sample:
        return self.views[index]

    def scene(self, _index: int) -> range:
        return range(2)

    def pose(self, index: int) -> np.ndarray | None:
        return self.views[index].world_from_camera


def experiment(*changes: str) -> Experiment:
    return parse_experiment(YAML, "pairs", changes)


def lines(out: Path) -> list[dict[str, dict[str, float]]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def train(room_views: list[Sample], out: Path, *changes: str, resume: bool = False) -> None:
    Trainer(experiment(*changes), Pair(room_views), out, resume=resume, quiet=True).run()


@pytest.fixture(scope="module")
def whole(room_views: list[Sample], tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("pairs") / "run"
    train(room_views, out)
    return out


def test_the_loss_of_pairs_falls(whole: Path) -> None:
    first, last = lines(whole)[0]["losses"], lines(whole)[-1]["losses"]
    assert list(first) == ["depth", "semantics", "normals", "edges"]
    assert sum(last.values()) < 0.9 * sum(first.values())


def test_stopped_and_resumed_is_the_same_training(
    whole: Path, room_views: list[Sample], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    trainer = Trainer(experiment(), Pair(room_views), out, quiet=True)
    stop_after(trainer, 3)
    trainer.run()
    assert len(lines(out)) < 6
    train(room_views, out, resume=True)
    for mine, other in zip(lines(out), lines(whole), strict=True):
        assert mine["losses"] == pytest.approx(other["losses"], abs=1e-6)


def test_the_module_looks_at_the_neighbour(room_views: list[Sample], tmp_path: Path) -> None:
    """With a wrong pose the same weights have another loss; without a module they cannot know."""
    moved = room_views[1].world_from_camera
    assert moved is not None
    moved = moved.copy()
    moved[:3, 3] += 0.3
    elsewhere = [room_views[0], replace(room_views[1], world_from_camera=moved)]
    for change, differs in (((), True), (BARE, False)):
        found = [
            first_losses(views, tmp_path / f"{differs}{number}", "steps=1", *change)
            for number, views in enumerate((room_views, elsewhere))
        ]
        assert (found[0] != found[1]) == differs


BARE = ("model.cvm.cost_volume=false", "model.cvm.cross_view_features=false", "model.cvm.planes=null")


@pytest.mark.parametrize("name", ["m2h-nano", "m2h-nano+cvm"])
def test_m2h_trains_on_the_same_pairs_with_its_own_losses(
    name: str, room_views: list[Sample], tmp_path: Path
) -> None:
    changes = (f"model.name={name}", "model.cvm.planes=null", "loss={scene: indoor}", "data.size=[48, 64]")
    train(room_views, tmp_path, "steps=1", *changes)
    assert lines(tmp_path)[0]["losses"]["normals"] < 2, "1 - cosine, not L1"


def test_single_view_training_is_that_of_duplicates(room_views: list[Sample], tmp_path: Path) -> None:
    """A picture alone in a batch of pairs, and the same picture in a batch without views."""
    alone = [replace(view, world_from_camera=None) for view in room_views]
    frozen = ("steps=1", "model.freeze_batch_norm=true")
    pairs = first_losses(alone, tmp_path / "pairs", *frozen)
    single = first_losses(alone, tmp_path / "single", *frozen, "data.views.count=1")
    assert pairs == pytest.approx(single, rel=1e-5)


def first_losses(views: list[Sample], out: Path, *changes: str) -> dict[str, float]:
    train(views, out, *changes)
    return lines(out)[0]["losses"]


def test_missing_truth_is_no_loss(room_views: list[Sample], tmp_path: Path) -> None:
    """As of video frames, which have depth alone."""
    depth_only = [replace(view, semantics=None, normals=None, edges=None) for view in room_views]
    losses = first_losses(depth_only, tmp_path, "steps=1")
    assert losses.pop("depth") > 0
    assert set(losses.values()) == {0.0}


def test_the_matching_loss_is_one_more_and_needs_a_cost_volume(
    room_views: list[Sample], tmp_path: Path
) -> None:
    plain = first_losses(room_views, tmp_path / "plain", "steps=1")
    losses = first_losses(room_views, tmp_path / "more", "steps=1", "loss.matching_weight=2")
    assert losses.pop("matching") > 0
    assert losses == pytest.approx(plain, rel=1e-6)
    with pytest.raises(InputError, match="needs a network with a cost volume"):
        train(room_views, tmp_path / "bare", "loss.matching_weight=2", *BARE)


class Pascal(ToyDataset):
    """Toy pictures with the maps of PASCAL-Context, in which one has no person."""

    def __getitem__(self, index: int) -> Sample:
        one = sample(index)
        assert one.semantics is not None
        parts = one.semantics if index % 2 else np.full_like(one.semantics, IGNORE)
        saliency = (one.semantics == 2).astype(np.uint8)
        return replace(one, depth=None, extra={"human_parts": parts, "saliency": saliency})


def test_the_five_tasks_of_pascal_train(tmp_path: Path) -> None:
    tasks = "tasks=[semantics, human_parts, saliency, normals, edges]"
    settings = experiment(tasks, "model.tasks=pascal", "data.views.count=1", "batch=2", "steps=5")
    Trainer(settings, Pascal(), tmp_path, quiet=True).run()
    first, last = lines(tmp_path)[0]["losses"], lines(tmp_path)[-1]["losses"]
    assert list(last) == list(settings.tasks)
    assert sum(last.values()) < 0.9 * sum(first.values())


def test_a_task_that_the_network_lacks_is_named() -> None:
    with pytest.raises(InputError, match=r"^tasks: cvm-nano has no saliency, it has depth, semantics"):
        make_network(experiment("tasks=[saliency]"), len(CLASSES))
    with pytest.raises(InputError, match=r"^model.num_classes: missing"):
        make_network(experiment(), 0)


def stop_after(trainer: Trainer, steps: int) -> None:
    """As a signal would."""

    def look(*_: object) -> None:
        if trainer.step == steps - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    trainer.optimiser.register_step_pre_hook(look)
