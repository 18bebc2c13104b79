"""The trainer on a toy: resuming, accumulation, processes, and what ends a training."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors import safe_open
from toy import CLASSES, ToyDataset, experiment, record_gradients, sample

from m2h_export.checkpoints import check_fit, read_checkpoint
from m2h_export.training.batches import MicroBatches, collate, sample_order
from m2h_export.training.distributed import World
from m2h_export.training.experiment import read_experiment
from m2h_export.training.losses import indoor_depth_loss
from m2h_export.training.state import saved_states
from m2h_export.training.trainer import Trainer, TrainingError
from m2h_runtime.errors import CheckpointError, InputError

if TYPE_CHECKING:
    from m2h_export.data.sample import Sample

TOY = Path(__file__).parent / "toy.py"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def train(out: Path, *changes: str, resume: bool = False, **options: object) -> Trainer:
    trainer = Trainer(experiment(*changes), ToyDataset(), out, resume=resume, quiet=True, **options)  # type: ignore[arg-type]
    trainer.run()
    return trainer


def metrics(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def curve(out: Path) -> np.ndarray:
    """(lines, losses), in the order of the file."""
    return np.array([list(line["losses"].values()) for line in metrics(out)])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted training of twelve steps, with everything that has a state."""
    out = tmp_path_factory.mktemp("whole") / "run"
    torch.set_num_threads(1)
    train(out, *FULL)
    return out


FULL = (
    "steps=null",
    "stages=[{steps: 5, size: [48, 64]}, {steps: 4}, {steps: 3, fine_tuning: true}]",
    "ema=0.9",
    "accumulate=2",
    "batch=1",
    "augment.max_zoom=1.3",
)


def test_the_loss_falls_and_all_that_is_promised_lies_there(whole: Path) -> None:
    lines = metrics(whole)
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert lines[-1]["losses"]["normals"] < 0.8 * lines[0]["losses"]["normals"]
    assert "depth_normals" in lines[-1]["losses"] and "depth_normals" not in lines[0]["losses"]
    assert (
        lines[5]["weights"] != lines[4]["weights"] == dict.fromkeys(lines[4]["weights"], 1.0)
    )  # two periods of 3
    assert [path.name for path in saved_states(whole)] == ["state-0000008.pt", "state-0000012.pt"]  # keep: 2
    assert read_experiment(whole / "experiment.yaml") == experiment(*FULL)


def test_the_weights_are_the_averaged_ones_as_export_reads_them(whole: Path) -> None:
    path = whole / "model.safetensors"
    checkpoint = read_checkpoint(path)
    check_fit(checkpoint, path, "toy", len(CLASSES))
    state = torch.load(saved_states(whole)[-1], weights_only=True)
    name = "mlt_head.conv_depth.final_conv.weight"
    assert torch.equal(checkpoint.state[name], state["averaged"][name])
    assert not torch.equal(checkpoint.state[name], state["model"][name])
    with safe_open(path, "pt") as file:
        facts = file.metadata()
    assert (facts["model"], facts["num_classes"], facts["step"]) == ("toy", "3", "12")
    assert json.loads(facts["class_names"]) == list(CLASSES)
    assert "lambda_grad" in facts["experiment"]


def test_killed_and_resumed_is_the_same_training(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, str(TOY), str(out), *FULL]
    process = subprocess.Popen([*command, "--slow"], env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    wait_for_lines(process, out, 6)  # the last state is that of step 4
    process.kill()
    process.wait()
    assert len(metrics(out)) < 12
    assert saved_states(out)[0].name == "state-0000004.pt"
    train(out, *FULL, resume=True)
    assert [line["step"] for line in metrics(out)] == list(range(1, 13))
    for mine, other in zip(metrics(out), metrics(whole), strict=True):
        assert mine["losses"] == pytest.approx(other["losses"], abs=1e-6)
        assert mine["weights"] == pytest.approx(other["weights"], abs=1e-6)
    ours, wanted = (read_checkpoint(folder / "model.safetensors").state for folder in (out, whole))
    for name, value in wanted.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=1e-6)


def wait_for_lines(process: subprocess.Popen[bytes], out: Path, count: int) -> None:
    path, deadline = out / "metrics.jsonl", time.monotonic() + 60
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_ends(tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "run"
    command = [sys.executable, str(TOY), str(out), "--slow", "save_every=0", "data.workers=1"]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_for_lines(process, out, 2)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert errors == b""
    last = metrics(out)[-1]["step"]
    assert [path.name for path in saved_states(out)] == [f"state-{last:07d}.pt"]


def test_workers_read_the_same(tmp_path: Path) -> None:
    train(tmp_path / "in", "steps=3")
    train(tmp_path / "out", "steps=3", "data.workers=2")
    np.testing.assert_array_equal(curve(tmp_path / "in"), curve(tmp_path / "out"))


def test_a_torn_line_of_metrics_goes(tmp_path: Path) -> None:
    train(tmp_path, "steps=4")
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 5, "lo')
    train(tmp_path, "steps=5", resume=True)
    assert [line["step"] for line in metrics(tmp_path)] == [1, 2, 3, 4, 5]


def assert_same_gradients(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    """Of the first step; AdamW would hide a wrong scale from the weights."""
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(
            found[name], value, rtol=1e-3, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
        )


def first_gradients(out: Path, *changes: str) -> dict[str, torch.Tensor]:
    trainer = Trainer(experiment(*changes), ToyDataset(), out, quiet=True)
    gradients = record_gradients(trainer)
    trainer.run()
    return gradients[0]


def test_accumulation_is_a_larger_batch(tmp_path: Path) -> None:
    """Batch normalisation on its running statistics: its own batch means differ, and should, by micro-batch."""
    frozen = ("steps=3", "model.freeze_batch_norm=true")
    one = first_gradients(tmp_path / "one", *frozen, "batch=4")
    two = first_gradients(tmp_path / "two", *frozen, "batch=2", "accumulate=2")
    assert_same_gradients(two, one)
    np.testing.assert_allclose(curve(tmp_path / "one"), curve(tmp_path / "two"), rtol=1e-4)


def test_two_processes_keep_equal_weights_and_see_the_batch_of_one(tmp_path: Path) -> None:
    out = tmp_path / "run"
    changes = ["steps=3", "model.freeze_batch_norm=true", "tasks=[depth, edges]", "accumulate=2", "batch=1"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [*command, str(TOY), str(out), "--ranks", *changes],
        env=ENVIRONMENT,
        check=True,
        capture_output=True,
        timeout=100,
    )
    first, second = (torch.load(out / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    for name, value in first["weights"].items():
        assert torch.equal(value, second["weights"][name]), name
    alone = first_gradients(tmp_path / "one", *changes[:-2], "batch=4")
    assert_same_gradients({n: g for n, g in first["gradients"].items() if n in alone}, alone)
    np.testing.assert_allclose(curve(out), curve(tmp_path / "one"), rtol=1e-4)


class Recorder(ToyDataset):
    """Knows which samples were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def __getitem__(self, index: int) -> Sample:
        self.asked.append(index)
        return sample(index)


def test_order_and_augmentation_do_not_depend_on_the_division_of_a_step() -> None:
    """Fourteen samples in steps of four, so epochs of seven begin within a step and within a batch."""
    seen, pictures = [], []
    for ranks, batch, accumulate in ((1, 4, 1), (1, 2, 2), (2, 1, 2)):
        e, samples = experiment(f"batch={batch}", f"accumulate={accumulate}"), Recorder()
        parts = [MicroBatches(samples, e, World(torch.device("cpu"), rank, ranks)) for rank in range(ranks)]
        batches = [parts[rank][n] for n in range(4 * accumulate) for rank in range(ranks)]
        seen.append(samples.asked)
        pictures.append(torch.cat([b["image"] for b in batches]))
    assert seen[0] == seen[1] == seen[2]
    assert sorted(seen[0][:7]) == sorted(seen[0][7:14]) == list(range(7))
    assert torch.equal(pictures[0], pictures[1]) and torch.equal(pictures[0], pictures[2])


def test_epochs_have_their_own_order() -> None:
    orders = [sample_order(3, epoch, 20) for epoch in (0, 1)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(20))
    assert orders[0] != orders[1]


def test_frozen_backbone_does_not_change(tmp_path: Path) -> None:
    trainer = Trainer(experiment("model.freeze_backbone=true"), ToyDataset(), tmp_path, quiet=True)
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    trainer.run()
    for name, value in trainer.network.state_dict().items():
        if name.startswith("backbone."):
            assert torch.equal(value, before[name]), name
    assert not torch.equal(
        trainer.network.mlt_head.conv_depth.final_conv.weight, before["mlt_head.conv_depth.final_conv.weight"]
    )


def test_starts_from_a_checkpoint_and_from_a_backbone(whole: Path, tmp_path: Path) -> None:
    weights = whole / "model.safetensors"
    started = Trainer(experiment(f"model.checkpoint={weights}"), ToyDataset(), tmp_path / "a", quiet=True)
    wanted = read_checkpoint(weights).state
    for name, value in started.network.state_dict().items():
        assert torch.equal(value, wanted[name]), name
    encoder = {k.removeprefix("backbone."): v for k, v in wanted.items() if k.startswith("backbone.")}
    torch.save(encoder, tmp_path / "encoder.pth")
    other = experiment(f"model.backbone={tmp_path / 'encoder.pth'}", "seed=9")
    started = Trainer(other, ToyDataset(), tmp_path / "b", quiet=True)
    assert torch.equal(started.network.backbone.pos_embed, wanted["backbone.pos_embed"])
    name = "mlt_head.conv_depth.final_conv.weight"
    assert not torch.equal(started.network.state_dict()[name], wanted[name])
    del encoder["pos_embed"]
    torch.save(encoder, tmp_path / "encoder.pth")
    with pytest.raises(CheckpointError, match=r"not the weights of toy's backbone .*pos_embed"):
        Trainer(other, ToyDataset(), tmp_path / "c", quiet=True)


def test_panels_see_the_network_in_evaluation_mode(tmp_path: Path) -> None:
    seen = []

    def look(step: int, network: torch.nn.Module) -> None:
        seen.append((step, network.training, torch.is_grad_enabled()))

    trainer = train(tmp_path, "steps=4", "panels_every=2", on_panels=look)
    assert seen == [(2, False, False), (4, False, False)]
    assert trainer.network.training  # and goes on in training mode


def test_single_task_trains_that_task_alone(tmp_path: Path) -> None:
    train(tmp_path, "steps=2", "tasks=[normals]")
    assert all(list(line["losses"]) == ["normals"] for line in metrics(tmp_path))


def test_bfloat16_trains_close_to_float32(tmp_path: Path) -> None:
    train(tmp_path / "fp32", "steps=3")
    train(tmp_path / "bf16", "steps=3", "precision=bf16")
    low, full = curve(tmp_path / "bf16"), curve(tmp_path / "fp32")
    np.testing.assert_allclose(low, full, rtol=0.05)
    assert (low != full).any()


def test_a_loss_that_is_no_number_ends_with_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"^step 2: the loss of \w+ is (nan|inf); lower optimiser.lr"
    ) as error:
        train(tmp_path, "optimiser.lr=1e30", "save_every=1")
    assert "\n" not in str(error.value)
    assert [path.name for path in saved_states(tmp_path)] == ["state-0000001.pt"]


def test_truth_that_is_no_number_does_not_count() -> None:
    """A damaged depth file must not end a training of days."""
    depth = torch.tensor([[[[2.0, math.nan, -1.0, math.inf]]]])
    assert indoor_depth_loss(torch.full((1, 1, 1, 4), 2.5), depth, cap_m=10, lambda_grad=1).item() == 0.125


def test_refuses_what_cannot_work(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="already holds a training; pass --resume"):
        Trainer(experiment(), ToyDataset(), whole, quiet=True)
    with pytest.raises(InputError, match="precision fp16 needs --device cuda"):
        Trainer(experiment("precision=fp16"), ToyDataset(), tmp_path, quiet=True)
    with pytest.raises(InputError, match=r"model.num_classes: 5, but the data set has 3"):
        Trainer(experiment("model.num_classes=5"), ToyDataset(), tmp_path, quiet=True)
    with pytest.raises(InputError, match="no samples"):
        Trainer(experiment(), ToyDataset(count=0), tmp_path, quiet=True)


def test_a_damaged_state_and_one_of_another_network(tmp_path: Path) -> None:
    train(tmp_path, "steps=1")
    with pytest.raises(CheckpointError, match="a state of another network"):
        Trainer(experiment("model.mixing=none"), ToyDataset(), tmp_path, resume=True, quiet=True)
    state = saved_states(tmp_path)[-1]
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="damaged training state; delete it"):
        Trainer(experiment(), ToyDataset(), tmp_path, resume=True, quiet=True)


def test_a_sample_without_truth_is_marked_unknown() -> None:
    batch = collate([sample(0), replace(sample(1), depth=None, semantics=None, normals=None, edges=None)])
    assert batch["image"].shape == (2, 3, 64, 64)
    assert not batch["depth"][1].any() and batch["depth"][0].any()
    assert not batch["normals"][1].any()
    assert (batch["semantics"][1] == 255).all() and (batch["edges"][1] == 255).all()
    assert batch["normals"].shape == (2, 3, 64, 64)
    np.testing.assert_array_equal(batch["normals"][0].permute(1, 2, 0).numpy(), sample(0).normals)
