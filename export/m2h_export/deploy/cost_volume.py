"""The deploy form of the cost volume: features are matched first, and the matches are sampled."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2h_export.models.spatial import STRIDE
from m2h_export.models.warping import NEAREST, pixel_centres

OUTSIDE = 4.0
"""In GridSample's coordinates, where a map reaches from -1 to 1: far enough to be nothing but zero."""


class DeployCostVolume(nn.Module):
    """How well every plane matches, without ever warping a feature.

    Sampling is linear, so the dot product of a feature with a sampled feature is a sample of the dot products: one
    matrix product gives every cell its own map of matches, of one channel, and each plane is one position in it. The
    published form samples K channels at those positions.

    Args:
        grid: (h, w) of the features.
        depths: of the planes (L,), metres.
        neighbours: N.
    """

    def __init__(self, grid: tuple[int, int], depths: Tensor, neighbours: int) -> None:
        super().__init__()
        self.grid, self.neighbours = grid, neighbours
        rows, cols = grid
        self.register_buffer("cells", pixel_centres(rows, cols, torch.zeros(1)))  # (3, h·w): x, y, 1
        self.register_buffer("inverse", 1 / depths.detach().float())  # (L,)
        self.register_buffer("eye", torch.eye(3))
        spans = torch.tensor([max(cols - 1, 1), max(rows - 1, 1)])
        self.register_buffer("scale", (2 / spans)[:, None, None])  # cells to GridSample's coordinates

    def forward(self, features: Tensor, positions: Tensor) -> Tensor:
        """To (1, L, h, w), zero where a plane leaves the neighbour's picture or lies behind its camera.

        Args:
            features: cross-view (1 + N, h·w, K), the frame first.
            positions: what `positions` gives.
        """
        rows, cols = self.grid
        matches = (features[:1] * features.shape[2] ** -0.5) @ features[1:].transpose(1, 2)  # (N, h·w, h·w)
        costs = F.grid_sample(
            matches.reshape(-1, 1, rows, cols),
            positions,
            padding_mode="zeros",
            align_corners=True,
        ).reshape(self.neighbours, rows * cols, -1)
        mean = costs.mean(dim=0) if self.neighbours > 1 else costs[0]
        return mean.transpose(0, 1).reshape(1, -1, rows, cols)

    def positions(self, neighbour_from_camera: Tensor, intrinsics: Tensor) -> Tensor:
        """Where each cell lies in the neighbours' maps at each plane's depth, (N·h·w, 1, L, 2), GridSample's x and y.

        Only sums and products of single numbers, which no backend computes in less than float32 when asked for it.
        The identity pose adds exact zeros to the cell's own position.

        Args:
            neighbour_from_camera: (N, 3, 4), metres.
            intrinsics: (4,), pixels of the picture.
        """
        focal = intrinsics[:2, None] / STRIDE
        centre = (intrinsics[2:, None] + 0.5) / STRIDE - 0.5
        cells = cast("Tensor", self.cells)
        rays = torch.cat([(cells[:2] - centre) / focal, cells[2:]])
        turn = neighbour_from_camera[:, :, :3] - cast("Tensor", self.eye)
        moved = (turn[..., None] * rays).sum(dim=2)  # (N, 3, h·w)
        straight = cells + _projected(moved, focal, centre)
        step = _projected(neighbour_from_camera[:, :, 3:], focal, centre) * cast("Tensor", self.inverse)
        q = straight[..., None] + step[:, :, None]  # (N, 3, h·w, L)
        ahead = q[:, 2:]
        position = q[:, :2] / ahead.clamp(min=NEAREST) * cast("Tensor", self.scale) - 1
        inside = torch.where(ahead > NEAREST, position.clamp(-OUTSIDE, OUTSIDE), -OUTSIDE)
        return inside.permute(0, 2, 3, 1).flatten(0, 1)[:, None]


def zero_of(positions: Tensor) -> Tensor:
    """Zero, as no position lies beyond `OUTSIDE`: to be added to an output of the graph.

    OpenVINO in bf16 keeps float32 only for what reaches an output with no convolution or product on the way. With this
    the positions do; in bf16 they would be parts of a cell off.
    """
    return F.relu(positions.amax(dim=(0, 1, 2, 3)) - OUTSIDE)


def _projected(points: Tensor, focal: Tensor, centre: Tensor) -> Tensor:
    """K X: homogeneous cells (N, 3, ·) of points (N, 3, ·), with focal length and centre (2, 1)."""
    return torch.cat([focal * points[:, :2] + centre * points[:, 2:], points[:, 2:]], dim=1)
