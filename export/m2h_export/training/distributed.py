"""Data-parallel training under `torchrun`: who we are, and the few things that processes share."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from m2h_runtime.errors import BackendUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor


@dataclass(frozen=True)
class World:
    """This process among the others.

    Attributes:
        device: that this process computes on.
        rank, size: number of this process, and of all; rank 0 writes files and speaks.
    """

    device: torch.device
    rank: int = 0
    size: int = 1

    def mean(self, values: Tensor) -> Tensor:
        """The mean over processes; equal on all of them."""
        if self.size > 1:
            dist.all_reduce(values)
            values = values / self.size
        return values

    def barrier(self) -> None:
        """Wait for all."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def join_world(device: str) -> Iterator[World]:
    """The processes that `torchrun` started, or this one alone; `device` is "cpu" or "cuda".

    Raises:
        BackendUnavailableError: "cuda" without a CUDA device for every local process.
    """
    size, rank, local = (int(os.environ.get(k, d)) for k, d in _VARIABLES)
    if device == "cuda" and (not torch.cuda.is_available() or local >= torch.cuda.device_count()):
        raise BackendUnavailableError(
            f"--device cuda: no CUDA device for process {local}; pass --device cpu, or start fewer processes"
        )
    where = torch.device("cuda", local) if device == "cuda" else torch.device("cpu")
    if where.type == "cuda":
        torch.cuda.set_device(where)
    if size == 1:
        yield World(where)
        return
    dist.init_process_group("nccl" if where.type == "cuda" else "gloo")
    try:
        yield World(where, rank, size)
    finally:
        dist.destroy_process_group()


_VARIABLES = (("WORLD_SIZE", "1"), ("RANK", "0"), ("LOCAL_RANK", "0"))
