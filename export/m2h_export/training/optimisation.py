"""AdamW's parameter groups, the learning rate of a step, and averaged weights."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from m2h_export.models import Network
    from m2h_export.training.experiment import OptimiserSettings

_NEVER_DECAYED = ("pos_embed", "cls_token", "storage_tokens", "mask_token")


def learning_rate(settings: OptimiserSettings, step: int, total_steps: int) -> float:
    """Base rate · (1 - step / total)^power, times a linear warm-up; `step` counts from 0."""
    warm = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    left = max(0.0, 1 - step / total_steps)
    return float(settings.lr * warm * left**settings.power)


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set a step's rate in every group, times the group's own factor."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["factor"]


def make_optimiser(model: Network, settings: OptimiserSettings) -> torch.optim.AdamW:
    """AdamW on all parameters that have a gradient; no decay on biases, norms and embeddings."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    encoder = {id(parameter) for parameter in model.backbone.parameters()}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and not name.endswith(_NEVER_DECAYED)
            groups.setdefault((id(parameter) in encoder, decays), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "weight_decay": settings.weight_decay if decays else 0.0,
                "factor": settings.backbone_lr_factor if backbone else 1.0,
            }
            for (backbone, decays), parameters in groups.items()
        ],
        lr=settings.lr,
        betas=settings.betas,
    )


class AveragedModel:
    """An exponential moving average of a network's weights; its buffers are copied as they are."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """After optimiser step `step` (from 0); the decay grows from 0.1, or the start would stay for long."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averaged: list[Tensor] = []
        current: list[Tensor] = []
        for mine, theirs in zip(self.model.parameters(), model.parameters(), strict=True):
            if theirs.requires_grad:
                averaged.append(mine)
                current.append(theirs)
        torch._foreach_lerp_(averaged, current, 1 - decay)
        for buffer, current_buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            buffer.copy_(current_buffer)
