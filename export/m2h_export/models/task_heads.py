"""Light task heads: an encoder's maps and the cross-view module's, to one prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2h_export.models.layers import DepthwiseSeparable
from m2h_export.models.m2h import MIN_DEPTH_M
from m2h_export.models.spatial import resized

if TYPE_CHECKING:
    from m2h_export.models.encoders import Scale

TaskSet = Literal["nyud", "pascal"]
TASK_SETS: dict[TaskSet, tuple[str, ...]] = {
    "nyud": ("depth", "semantics", "normals", "edges"),
    "pascal": ("semantics", "human_parts", "saliency", "normals", "edges"),
}
"""The tasks of the papers' two benchmarks, in the order of the outputs."""

HEAD_STRIDE = 2
"""Pixels per cell of the heads' maps."""

_OUTPUTS = {"depth": 1, "human_parts": 7, "saliency": 2, "normals": 3, "edges": 1}


def outputs_of(task: str, num_classes: int) -> int:
    """Channels of a task's prediction; only semantics depends on the data set."""
    return num_classes if task == "semantics" else _OUTPUTS[task]


class Merge(nn.Module):
    """Maps of several strides to one of the finest stride, coarse to fine: 1 × 1 each, added, 3 × 3."""

    def __init__(self, scales: tuple[Scale, ...], channels: int) -> None:
        super().__init__()
        self.strides = tuple(scale.stride for scale in scales)
        self.projects = nn.ModuleList(nn.Conv2d(scale.channels, channels, 1) for scale in scales)
        self.levels = sorted(set(self.strides), reverse=True)
        self.convs = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
            )
            for _ in self.levels
        )

    @property
    def stride(self) -> int:
        """Of the result."""
        return self.levels[-1]

    def forward(self, maps: list[Tensor]) -> Tensor:
        """One (B, c_i, ·, ·) per scale to (B, C, ·, ·) at the finest stride."""
        projected = [project(x) for project, x in zip(self.projects, maps, strict=True)]
        x: Tensor | None = None
        for index, (stride, conv) in enumerate(zip(self.levels, self.convs, strict=True)):
            level = torch.stack([y for y, s in zip(projected, self.strides, strict=True) if s == stride]).sum(
                dim=0
            )
            if x is not None:
                size = (level.shape[-2], level.shape[-1])
                level = level + resized(x, self.levels[index - 1], stride, size)
            x = conv(level)
        return cast("Tensor", x)


class TaskHead(nn.Module):
    """One task at half the picture's size: merged maps and cross-view maps, fused; a linear layer at the end.

    A linear map of what is concatenated is the sum of a linear map of each, so the encoder's part is mapped before
    it is enlarged.
    """

    def __init__(
        self, scales: tuple[Scale, ...], cross_view: int, widths: tuple[int, int], outputs: int
    ) -> None:
        super().__init__()
        merged, fused = widths
        self.merge = Merge(scales, merged)
        self.from_encoder = nn.Conv2d(merged, fused, 1, bias=False)
        self.from_views = nn.Conv2d(cross_view, fused, 1, bias=False) if cross_view else None
        self.norm = nn.BatchNorm2d(fused)
        self.refine = nn.Sequential(DepthwiseSeparable(fused, fused), nn.BatchNorm2d(fused), nn.ReLU())
        self.linear = nn.Conv2d(fused, outputs, 1)

    def forward(self, maps: list[Tensor], cross_view: Tensor | None, size: tuple[int, int]) -> Tensor:
        """The encoder's maps and (B, C, 4h, 4w), to (B, outputs, 4h, 4w); `size` is (4h, 4w)."""
        x = resized(self.from_encoder(self.merge(maps)), self.merge.stride, HEAD_STRIDE, size)
        if self.from_views is not None:
            x = x + self.from_views(cross_view)
        x = F.relu(self.norm(x))
        out: Tensor = self.linear(x + self.refine(x))
        return out


def as_predicted(task: str, x: Tensor) -> Tensor:
    """What a head's linear layer gives, as the task's prediction: metres, unit vectors or logits."""
    if task == "depth":
        return F.relu(x) + MIN_DEPTH_M
    return F.normalize(torch.tanh(x), dim=1) if task == "normals" else x
