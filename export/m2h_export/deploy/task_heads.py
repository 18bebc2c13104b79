"""The deploy form of the light task heads: side by side where maps are small, one by one where they are large."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2h_export.deploy.algebra import bias64, conv1x1, fold_conv_norm, fold_norm, linear, matrix
from m2h_export.deploy.encoder import tokens_to_map
from m2h_export.models.spatial import resized
from m2h_export.models.task_heads import HEAD_STRIDE

if TYPE_CHECKING:
    from m2h_export.models.encoders import Scale
    from m2h_export.models.task_heads import Merge, TaskHead

Grid = tuple[int, int]


class DeployProject(nn.Module):
    """One encoder output to the merge channels of all tasks at once: tokens (1, h·w, D) or a map (1, D, h, w)."""

    def __init__(self, projects: list[nn.Conv2d], grid: Grid | None) -> None:
        super().__init__()
        weight = torch.cat([matrix(project) for project in projects])
        bias = torch.cat([bias64(project) for project in projects])
        self.grid = grid
        self.layer = conv1x1(weight, bias) if grid is None else linear(weight, bias)

    def forward(self, x: Tensor) -> Tensor:
        """To (1, T·C, h, w)."""
        out: Tensor = self.layer(x)
        return out if self.grid is None else tokens_to_map(out, self.grid)


class DeployMerge(nn.Module):
    """All tasks' merging as one, its convolutions in groups.

    Args:
        merges: one per task.
        scales: of the encoder's maps.
        grids: (h, w) of those that come as tokens; None of those that come as maps.
    """

    def __init__(self, merges: list[Merge], scales: tuple[Scale, ...], grids: list[Grid | None]) -> None:
        super().__init__()
        self.strides, self.levels = tuple(scale.stride for scale in scales), merges[0].levels
        self.projects = nn.ModuleList(
            DeployProject([cast("nn.Conv2d", merge.projects[i]) for merge in merges], grid)
            for i, grid in enumerate(grids)
        )
        self.convs = nn.ModuleList(
            _grouped([_folded(cast("nn.Sequential", merge.convs[level])) for merge in merges])
            for level in range(len(self.levels))
        )

    def forward(self, maps: list[Tensor]) -> Tensor:
        """What the encoder gives, to (1, T·C, ·, ·) at the finest stride."""
        level: Tensor | None = None
        for index, (stride, conv) in enumerate(zip(self.levels, self.convs, strict=True)):
            parts = [
                project(x)
                for project, x, own in zip(self.projects, maps, self.strides, strict=True)
                if own == stride
            ]
            if level is not None:
                size = (parts[0].shape[-2], parts[0].shape[-1])
                parts.append(resized(level, self.levels[index - 1], stride, size))
            level = F.relu(conv(_sum(parts)))
        return cast("Tensor", level)


def _folded(conv: nn.Sequential) -> nn.Conv2d:
    return fold_norm(cast("nn.Conv2d", conv[0]), cast("nn.BatchNorm2d", conv[1]))


def _sum(parts: list[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _grouped(convs: list[nn.Conv2d]) -> nn.Conv2d:
    """3 × 3 convolutions of one shape, each on its own channels."""
    one, count = convs[0], len(convs)
    merged = nn.Conv2d(
        count * one.in_channels, count * one.out_channels, one.kernel_size[0], padding=1, groups=count
    )
    merged.weight.data = torch.cat([conv.weight.detach() for conv in convs])
    cast("nn.Parameter", merged.bias).data = torch.cat([bias64(conv) for conv in convs]).float()
    return merged


class DeployTaskHead(nn.Module):
    """One task from its merged maps on; the norm is folded into the layers before it."""

    def __init__(self, head: TaskHead) -> None:
        super().__init__()
        self.stride = head.merge.stride
        norm = head.norm
        scale = norm.weight.detach().double() / (cast("Tensor", norm.running_var).double() + norm.eps).sqrt()
        shift = norm.bias.detach().double() - cast("Tensor", norm.running_mean).double() * scale
        # A constant stays what it is when it is resized, so the shift goes into the smaller map.
        self.from_encoder = conv1x1(matrix(head.from_encoder) * scale[:, None], shift)
        self.from_views = conv1x1(matrix(cast("nn.Conv2d", head.from_views)) * scale[:, None], None)
        self.refine = fold_conv_norm(head.refine[0], cast("nn.BatchNorm2d", head.refine[1]))
        self.linear = head.linear

    def forward(self, merged: Tensor, cross_view: Tensor) -> Tensor:
        """(1, C, ·, ·) and (1, C', 4h, 4w) to (1, outputs, 4h, 4w)."""
        size = (cross_view.shape[-2], cross_view.shape[-1])
        x = resized(self.from_encoder(merged), self.stride, HEAD_STRIDE, size)
        x = F.relu(x + self.from_views(cross_view))
        out: Tensor = self.linear(x + F.relu(self.refine(x)))
        return out


class DeployTaskHeads(nn.Module):
    """The heads of all tasks."""

    def __init__(
        self, heads: dict[str, TaskHead], scales: tuple[Scale, ...], grids: list[Grid | None]
    ) -> None:
        super().__init__()
        self.merge = DeployMerge([head.merge for head in heads.values()], scales, grids)
        self.heads = nn.ModuleDict({task: DeployTaskHead(head) for task, head in heads.items()})

    def forward(self, maps: list[Tensor], cross_view: Tensor) -> dict[str, Tensor]:
        """What the encoder gives and (1, C', 4h, 4w), to (1, ·, 4h, 4w) per task."""
        parts = self.merge(maps).chunk(len(self.heads), dim=1)
        return {
            task: head(part, cross_view) for (task, head), part in zip(self.heads.items(), parts, strict=True)
        }
