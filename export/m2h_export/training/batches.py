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
from m2h_export.data.views import MixedDataset, Views, cameras_of, filled, poses_between
from m2h_export.training.augment import augment_views
from m2h_runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from m2h_export.data.sample import DenseDataset, Sample
    from m2h_export.training.distributed import World
    from m2h_export.training.experiment import DataSettings, Experiment

Batch = dict[str, "Tensor"]
"""image (B, 3, H, W) uint8 RGB; depth (B, 1, H, W) float32; semantics (B, H, W) uint8; normals (B, 3, H, W) float32;
edges (B, 1, H, W) uint8; human_parts and saliency (B, H, W) uint8 where they are tasks: those of `Sample`, with its
marks for "unknown" where a sample has no such truth. With V views, B is samples times V, the views of a sample one
after the other, and besides there are poses (B / V, V, V, 4, 4) and cameras (B / V, V, 4), float32: `data.views`."""

POSES, CAMERAS = "poses", "cameras"
_EXTRA = ("human_parts", "saliency")


def open_training_data(settings: DataSettings) -> DenseDataset:
    """The data set that an experiment names, with those that it mixes in.

    Raises:
        InputError: no root given, no such kind or split, or data sets of different classes.
        DatasetError: the folder is not as that data set's should be.
    """
    from m2h_export.data import open_dataset

    if settings.root is None:
        raise InputError(f"data.root: missing for {settings.kind}; pass --data FOLDER")
    first = open_dataset(settings.kind, Path(settings.root), split=settings.split)
    if not settings.also:
        return first
    return MixedDataset(
        [first, *(open_dataset(more.kind, Path(more.root), split=more.split) for more in settings.also)]
    )


def sample_order(seed: int, epoch: int, count: int) -> list[int]:
    """The permutation of an epoch."""
    return [int(i) for i in np.random.default_rng([seed, epoch]).permutation(count)]


def collate(samples: Sequence[Sample], tasks: Sequence[str] = ()) -> Batch:
    """Stack samples of one size into a batch, of `Sample.extra` what is among `tasks`."""
    size = samples[0].image.shape[:2]

    def stack(name: str, shape: tuple[int, ...], fill: float, dtype: type) -> Tensor:
        arrays = [getattr(s, name) for s in samples]
        filled = [np.full(shape, fill, dtype) if a is None else a for a in arrays]
        return torch.from_numpy(np.stack(filled))

    unknown = np.full(size, IGNORE, np.uint8)
    extra = {
        name: torch.from_numpy(np.stack([s.extra.get(name, unknown) for s in samples]))
        for name in _EXTRA
        if name in tasks
    }
    return {
        "image": torch.from_numpy(np.stack([s.image for s in samples])).permute(0, 3, 1, 2),
        "depth": stack("depth", size, 0, np.float32)[:, None],
        "semantics": stack("semantics", size, IGNORE, np.uint8),
        "normals": stack("normals", (*size, 3), 0, np.float32).permute(0, 3, 1, 2),
        "edges": stack("edges", size, IGNORE, np.uint8)[:, None],
        **extra,
    }


def collate_views(groups: Sequence[Sequence[Sample]], tasks: Sequence[str] = ()) -> Batch:
    """The same for groups of V views each, with their poses and cameras."""
    batch = collate([view for views in groups for view in views], tasks)
    batch[POSES] = torch.from_numpy(np.stack([poses_between(views) for views in groups]))
    batch[CAMERAS] = torch.from_numpy(np.stack([cameras_of(views) for views in groups]))
    return batch


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
        name: value if name in (POSES, CAMERAS) else value[..., first[0] :: y, first[1] :: x]
        for name, value in batch.items()
        if name != "edges"
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
        self._views = Views(samples, experiment.data.views)
        self._epoch, self._order = -1, [0]

    def __getitem__(self, number: int) -> Batch:
        e = self.experiment
        step, micro = divmod(number, e.accumulate)
        size, count = e.size_at(step), e.data.views.count
        per_step = e.batch * e.accumulate * self.world.size
        first = (micro * self.world.size + self.world.rank) * e.batch
        groups = []
        for place in range(first, first + e.batch):  # within the step, over all processes
            # A generator of their own: how many neighbours a sample has does not change how it is augmented.
            neighbours = np.random.default_rng([e.seed, step, place, 1])
            views = self._views.drawn(self._index(step * per_step + place), neighbours)
            rng = np.random.default_rng([e.seed, step, place])
            groups.append(filled(augment_views(views, size, e.augment, rng), count))
        if count == 1:
            return collate([views[0] for views in groups], e.tasks)
        return collate_views(groups, e.tasks)

    def _index(self, number: int) -> int:
        """The sample that is seen as the `number`-th of the training; an epoch goes on within a batch."""
        epoch, place = divmod(number, len(self.samples))
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = sample_order(self.experiment.seed, epoch, len(self.samples))
        return self._order[place]


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
