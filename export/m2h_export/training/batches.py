"""Samples to micro-batches: the same pictures at the same step, however one got there."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from m2h_export.data.sample import IGNORE
from m2h_export.training.augment import augment
from m2h_runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from m2h_export.data.sample import DenseDataset, Sample
    from m2h_export.training.distributed import World
    from m2h_export.training.experiment import DataSettings, Experiment

Batch = dict[str, "Tensor"]
"""image (B, 3, H, W) uint8 RGB; depth (B, 1, H, W) float32; semantics (B, H, W) uint8; normals (B, 3, H, W) float32;
edges (B, 1, H, W) uint8: those of `Sample`, with its marks for "unknown" where a sample has no such truth."""


def open_training_data(settings: DataSettings) -> DenseDataset:
    """The data set that an experiment names.

    Raises:
        InputError: no root given, or no such kind or split.
        DatasetError: the folder is not as that data set's should be.
    """
    from m2h_export.data import open_dataset

    if settings.root is None:
        raise InputError(f"data.root: missing for {settings.kind}; pass --data FOLDER")
    return open_dataset(settings.kind, Path(settings.root), split=settings.split)


def sample_order(seed: int, epoch: int, count: int) -> list[int]:
    """The permutation of an epoch."""
    return [int(i) for i in np.random.default_rng([seed, epoch]).permutation(count)]


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples of one size into a batch."""
    size = samples[0].image.shape[:2]

    def stack(name: str, shape: tuple[int, ...], fill: float, dtype: type) -> Tensor:
        arrays = [getattr(s, name) for s in samples]
        filled = [np.full(shape, fill, dtype) if a is None else a for a in arrays]
        return torch.from_numpy(np.stack(filled))

    return {
        "image": torch.from_numpy(np.stack([s.image for s in samples])).permute(0, 3, 1, 2),
        "depth": stack("depth", size, 0, np.float32)[:, None],
        "semantics": stack("semantics", size, IGNORE, np.uint8),
        "normals": stack("normals", (*size, 3), 0, np.float32).permute(0, 3, 1, 2),
        "edges": stack("edges", size, IGNORE, np.uint8)[:, None],
    }


def thinned(batch: Batch, size: tuple[int, ...], step: int) -> Batch:
    """A batch's truth on a coarser grid (h, w): one pixel out of every cell, another one each step.

    An edge counts if any pixel of its cell is one. A batch that has the size already comes back as it is.

    Raises:
        InputError: the grid is no whole fraction of the picture.
    """
    rows, cols = batch["semantics"].shape[-2:]
    if (rows, cols) == tuple(size):
        return batch
    y, x = rows // size[0], cols // size[1]
    if (size[0] * y, size[1] * x) != (rows, cols):
        raise InputError(
            f"loss.grid: the heads' grid {tuple(size)} is no whole fraction of {(rows, cols)}; take picture"
        )
    first = (step % y, step // y % x)
    thin = {
        name: value[..., first[0] :: y, first[1] :: x] for name, value in batch.items() if name != "edges"
    }
    edges = batch["edges"]
    known = F.max_pool2d(torch.where(edges == IGNORE, 0, edges).float(), (y, x)).to(edges.dtype)
    unknown = (edges[..., first[0] :: y, first[1] :: x] == IGNORE) & (known == 0)
    return {**thin, "edges": torch.where(unknown, IGNORE, known)}


class MicroBatches(Dataset[Batch]):
    """Every micro-batch of a training, by its number: step · accumulate + micro, both from 0."""

    def __init__(self, samples: DenseDataset, experiment: Experiment, world: World) -> None:
        if len(samples) == 0:
            raise InputError(f"{experiment.data.kind}: no samples; look at data.root and data.split")
        self.samples, self.experiment, self.world = samples, experiment, world
        self._epoch, self._order = -1, [0]

    def __getitem__(self, number: int) -> Batch:
        e = self.experiment
        step, micro = divmod(number, e.accumulate)
        size = e.size_at(step)
        per_step = e.batch * e.accumulate * self.world.size
        first = (micro * self.world.size + self.world.rank) * e.batch
        made = []
        for place in range(first, first + e.batch):  # within the step, over all processes
            rng = np.random.default_rng([e.seed, step, place])
            made.append(augment(self._sample(step * per_step + place), size, e.augment, rng))
        return collate(made)

    def _sample(self, number: int) -> Sample:
        """The sample that is seen as the `number`-th of the training; an epoch goes on within a batch."""
        epoch, place = divmod(number, len(self.samples))
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = sample_order(self.experiment.seed, epoch, len(self.samples))
        return self.samples[self._order[place]]


def load_batches(
    micro_batches: MicroBatches, first_step: int, last_step: int, *, pin: bool
) -> Iterator[Batch]:
    """The micro-batches of steps `first_step` to `last_step` (exclusive), read ahead by the experiment's workers."""
    e = micro_batches.experiment
    numbers = range(first_step * e.accumulate, last_step * e.accumulate)
    loader: DataLoader[Any] = DataLoader(
        micro_batches,
        batch_size=None,
        sampler=numbers,
        num_workers=e.data.workers,
        pin_memory=pin,
        worker_init_fn=_start_worker if e.data.workers else None,
    )
    yield from loader


def _start_worker(_index: int) -> None:
    cv2.setNumThreads(0)  # the workers are the parallelism
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C goes to the whole group; the trainer ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not the handler that the trainer left by forking
