"""A tiny network, a tiny data set and a tiny experiment; run as a script it trains them.

python toy.py OUT [--resume] [--ranks FOLDER] [--slow] [KEY=VALUE ...]
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from m2h_export.data.sample import Sample
from m2h_export.models import MODELS
from m2h_export.models.vit import ViTConfig
from m2h_export.training.distributed import join_world
from m2h_export.training.experiment import Experiment, parse_experiment
from m2h_export.training.trainer import Trainer

CLASSES = ("floor", "wall", "box")
SIZE = (64, 64)

MODELS["toy"] = replace(
    MODELS["m2h-nano"],
    name="toy",
    backbone=ViTConfig(width=32, depth=4, heads=2, tapped=(0, 1, 2, 3), patch=16, trained_grid=4),
    channels=16,
    head_channels=(16, 16),
    reassembled=(8, 8, 16, 16),
    attention_channels=8,
    heads=2,
)

YAML = """
name: toy
model: {name: toy}
data: {kind: apartments, size: [64, 64], cap_m: 10}
steps: 12
batch: 2
seed: 3
log_every: 1
save_every: 4
loss: {dwa_period: 3}
optimiser: {lr: 0.001, warmup_steps: 2}
"""


def experiment(*changes: str) -> Experiment:
    """The toy experiment with changes as --set takes them."""
    return parse_experiment(YAML, "toy", changes)


def sample(index: int) -> Sample:
    """A box before a wall above a floor, everything by `index` alone."""
    rng = np.random.default_rng(index)
    height, width = SIZE
    semantics = np.zeros(SIZE, np.uint8)
    semantics[: height // 2] = 1
    top, left = rng.integers(8, 32, 2)
    semantics[top : top + 20, left : left + 20] = 2
    depth = np.linspace(4, 2, height, dtype=np.float32)[:, None].repeat(width, 1)
    depth[semantics == 2] = 1.5
    normals = np.zeros((*SIZE, 3), np.float32)
    normals[semantics == 0] = (0, -1, 0)
    normals[semantics != 0] = (0, 0, -1)
    edges = np.zeros(SIZE, np.uint8)
    edges[1:] |= semantics[1:] != semantics[:-1]
    edges[:, 1:] |= semantics[:, 1:] != semantics[:, :-1]
    colours = np.array([[90, 60, 30], [200, 200, 190], [30, 60, 200]], np.uint8)
    noise = rng.integers(0, 20, (*SIZE, 3), dtype=np.uint8)
    return Sample(f"toy{index}", colours[semantics] + noise, depth, semantics, normals, edges)


class ToyDataset:
    """Seven samples; `delay_s` makes reading one slow, so that a test can kill the training meanwhile."""

    class_names = CLASSES

    def __init__(self, count: int = 7, delay_s: float = 0.0) -> None:
        self.count, self.delay_s = count, delay_s

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        time.sleep(self.delay_s)
        return sample(index)


def record_gradients(trainer: Trainer) -> list[dict[str, torch.Tensor]]:
    """A list that will have every step's gradients by parameter, as the optimiser gets them."""
    steps: list[dict[str, torch.Tensor]] = []

    def look(*_: object) -> None:
        named = trainer.network.named_parameters()
        steps.append({name: p.grad.clone() for name, p in named if p.grad is not None})

    trainer.optimiser.register_step_pre_hook(look)
    return steps


def main(arguments: list[str]) -> int:
    torch.set_num_threads(1)
    out = Path(arguments[0])
    changes = [argument for argument in arguments[1:] if "=" in argument]
    delay_s = 0.1 if "--slow" in arguments else 0.0
    with join_world("cpu") as world:
        trainer = Trainer(
            experiment(*changes),
            ToyDataset(delay_s=delay_s),
            out,
            world=world,
            resume="--resume" in arguments,
        )
        gradients = record_gradients(trainer)
        outcome = trainer.run()
        if "--ranks" in arguments:
            state = {"weights": trainer.network.state_dict(), "gradients": gradients[0]}
            torch.save(state, out / f"rank{world.rank}.pt")
    return 128 + outcome.signal if outcome.signal else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
