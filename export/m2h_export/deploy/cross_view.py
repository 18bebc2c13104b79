"""The deploy form of the cross-view module, for one picture size and a fixed number of neighbours."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2h_export.deploy.algebra import bias64, fold_norm, linear
from m2h_export.deploy.cost_volume import DeployCostVolume, zero_of
from m2h_export.deploy.encoder import tokens_to_map
from m2h_export.models.multi_view import sine_positions
from m2h_runtime.errors import InputError

if TYPE_CHECKING:
    from m2h_export.models.cvm import CrossViewModule
    from m2h_export.models.multi_view import Attend, MultiViewLayer, MultiViewTransformer, SwiGlu
    from m2h_export.models.spatial import ResidualUnit, SpatialCnn

Span = tuple[int, int]


class DeployCrossView(nn.Module):
    """A frame's spatial-aware features and those of its neighbours, to what the heads read.

    Args:
        module: as published.
        grid: (h, w) of the features.
        neighbours: N.

    Raises:
        InputError: an ablation whose features come from the encoder, or which looks at no other view.
    """

    def __init__(self, module: CrossViewModule, grid: tuple[int, int], neighbours: int) -> None:
        super().__init__()
        config = module.config
        if module.reads_encoder:
            raise InputError(
                "only networks whose features come from the module's own CNN become engines: leave out the "
                "ablations spatial and interaction"
            )
        self.cnn = DeployCnn(module.cnn)
        self.transformer = DeployTransformer(module.transformer, grid)
        self.features = module.upsample_features if config.cross_view_features else None
        self.volume = self.costs = None
        if module.has_cost_volume:
            self.volume = DeployCostVolume(grid, cast("Tensor", module.depths), neighbours)
            self.costs = module.upsample_costs
        self.grid = grid
        self.register_buffer("identity", torch.eye(3, 4))

    def spatial(self, picture: Tensor) -> Tensor:
        """Normalised (1, 3, 8h, 8w) to features (1, K, h, w)."""
        out: Tensor = self.cnn(picture)
        return out

    def forward(
        self, own: Tensor, neighbours: Tensor, neighbour_from_camera: Tensor, intrinsics: Tensor
    ) -> tuple[Tensor, Tensor]:
        """To (1, C, 4h, 4w), and a zero that has to be added to an output (`zero_of`).

        Args:
            own: features (1, K, h, w) of the frame.
            neighbours: (N, K, h, w); not read where the pose is exactly the identity, the frame's own are.
            neighbour_from_camera: (N, 3, 4), metres.
            intrinsics: (4,), pixels of the picture.
        """
        apart = (neighbour_from_camera - cast("Tensor", self.identity)).abs().amax(dim=(1, 2), keepdim=True)
        seen = torch.where(apart[..., None] == 0, own, neighbours)
        return self.read(self.transformer(torch.cat([own, seen])), neighbour_from_camera, intrinsics)

    def read(self, views: Tensor, neighbour_from_camera: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor]:
        """The same from the transformer's features (V, h·w, K), the frame first."""
        parts, zero = [], views.new_zeros(())
        if self.features is not None:
            parts.append(self.features(tokens_to_map(views[:1], self.grid)))
        if self.volume is not None and self.costs is not None:
            positions = self.volume.positions(neighbour_from_camera, intrinsics)
            zero = zero_of(positions)
            parts.append(self.costs(self.volume(views, positions)))
        return torch.cat(parts, dim=1), zero


class DeployCnn(nn.Module):
    """The CNN with its norms folded in."""

    def __init__(self, cnn: SpatialCnn) -> None:
        super().__init__()
        self.stem = fold_norm(cnn.stem, cnn.norm)
        self.units = nn.ModuleList(
            DeployResidual(cast("ResidualUnit", unit))
            for block in cnn.blocks
            for unit in cast("nn.Sequential", block)
        )
        self.project = cnn.project

    def forward(self, picture: Tensor) -> Tensor:
        """(1, 3, 8h, 8w) to (1, K, h, w)."""
        x = F.relu(self.stem(picture))
        for unit in self.units:
            x = unit(x)
        out: Tensor = self.project(x)
        return out


class DeployResidual(nn.Module):
    """A residual unit with its norms folded in."""

    def __init__(self, unit: ResidualUnit) -> None:
        super().__init__()
        self.first = fold_norm(unit.conv1, unit.norm1)
        self.second = fold_norm(unit.conv2, unit.norm2)
        self.skip: nn.Module = nn.Identity()
        if isinstance(unit.skip, nn.Sequential):
            self.skip = fold_norm(cast("nn.Conv2d", unit.skip[0]), cast("nn.BatchNorm2d", unit.skip[1]))

    def forward(self, x: Tensor) -> Tensor:
        """(1, C, H, W) to (1, C', H/s, W/s)."""
        return F.relu(self.skip(x) + self.second(F.relu(self.first(x))))


class DeployAttend(nn.Module):
    """Attention as one product for queries, keys and values, whose values are merged already.

    The published form maps what was gathered, P V, by another matrix M; with one head that is P (V M).
    """

    def __init__(self, attend: Attend) -> None:
        super().__init__()
        query, key, value, merge = (
            layer.weight.detach().double() for layer in (attend.query, attend.key, attend.value, attend.merge)
        )
        self.qkv = linear(torch.cat([query * query.shape[0] ** -0.5, key, merge @ value]), None)
        self.norm, self.mlp, self.mlp_norm = attend.norm, attend.mlp, attend.mlp_norm

    def forward(self, x: Tensor, areas: Areas, *, cross: bool) -> Tensor:
        """(V, h·w, C) to the same; a view attends to itself, or with `cross` to all others."""
        message = self.norm(areas.join([_gathered(part, cross) for part in areas.cut(self.qkv(x))]))
        if self.mlp is not None:
            message = self.mlp_norm(self.mlp(torch.cat([x, message], dim=-1)))
        out: Tensor = x + message
        return out


def _gathered(qkv: Tensor, cross: bool) -> Tensor:
    """Queries, keys and values (V, r, c, 3C) of one area in all views, to what each token gathers, (V, r, c, C)."""
    views, rows, cols, _ = qkv.shape
    q, k, v = qkv.reshape(views, rows * cols, -1).chunk(3, dim=-1)
    if cross:
        k, v = _others(k), _others(v)
    gathered = torch.softmax(q @ k.transpose(1, 2), dim=-1) @ v
    return gathered.reshape(views, rows, cols, -1)


def _others(x: Tensor) -> Tensor:
    """(V, t, C) to the tokens of all other views, (V, (V - 1)·t, C)."""
    turns = [torch.cat([x[i:], x[:i]]) for i in range(1, len(x))]
    return torch.cat(turns, dim=1) if len(turns) > 1 else turns[0]


class Areas:
    """The rectangles of a map whose tokens attend to each other.

    A shifted window that reaches over the map's border holds tokens from opposite sides, which a mask keeps apart.
    Each side is a rectangle of its own: without roll, mask and padding, and with 9/16 of the scores for two splits.
    """

    def __init__(self, grid: tuple[int, int], splits: int, *, shifted: bool) -> None:
        self.grid = grid
        self.rows, self.cols = (spans(length, splits, shifted=shifted) for length in grid)

    def cut(self, x: Tensor) -> list[Tensor]:
        """(V, h·w, C) to (V, r, c, C) of every rectangle, row-major."""
        x = x.reshape(x.shape[0], *self.grid, -1)
        return [x[:, top:bottom, left:right] for top, bottom in self.rows for left, right in self.cols]

    def join(self, parts: list[Tensor]) -> Tensor:
        """The way back."""
        count = len(self.cols)
        bands = [torch.cat(parts[i : i + count], dim=2) for i in range(0, len(parts), count)]
        return torch.cat(bands, dim=1).flatten(1, 2)


def spans(length: int, splits: int, *, shifted: bool) -> list[Span]:
    """One side of the rectangles: `splits` equal windows, the last one shorter, or those moved by half a window."""
    side = -(-length // splits)
    first = side // 2 if shifted and splits > 1 else 0
    cuts = {0, length, *(first + i * side for i in range(splits) if first + i * side < length)}
    return list(pairwise(sorted(cuts)))


class DeployLayer(nn.Module):
    """Self-attention, then cross-attention with the feed-forward network."""

    def __init__(self, layer: MultiViewLayer, areas: Areas) -> None:
        super().__init__()
        self.own, self.cross = DeployAttend(layer.own), DeployAttend(layer.cross)
        self.areas = areas

    def forward(self, x: Tensor) -> Tensor:
        """(V, h·w, C) to the same."""
        out: Tensor = self.cross(self.own(x, self.areas, cross=False), self.areas, cross=True)
        return out


class DeploySwiGlu(nn.Module):
    """The gated MLP with both its inner products as one."""

    def __init__(self, adapter: SwiGlu) -> None:
        super().__init__()
        gate, up = adapter.gate, adapter.up
        self.inner = linear(
            torch.cat([gate.weight.detach(), up.weight.detach()]), torch.cat([bias64(gate), bias64(up)])
        )
        self.down = adapter.down

    def forward(self, x: Tensor) -> Tensor:
        """(…, C) to (…, C)."""
        gate, up = self.inner(x).chunk(2, dim=-1)
        out: Tensor = x + self.down(F.silu(gate) * up)
        return out


class DeployTransformer(nn.Module):
    """The multi-view transformer, channels last, positions stored."""

    def __init__(self, transformer: MultiViewTransformer, grid: tuple[int, int]) -> None:
        super().__init__()
        width = transformer.adapter.down.out_features
        table = sine_positions(width, *grid, torch.zeros(1))
        self.register_buffer("positions", table.flatten(1).T.contiguous())  # (h·w, C)
        self.layers = nn.ModuleList(
            DeployLayer(
                cast("MultiViewLayer", layer), Areas(grid, transformer.splits, shifted=index % 2 == 1)
            )
            for index, layer in enumerate(transformer.layers)
        )
        self.adapter = DeploySwiGlu(transformer.adapter)

    def forward(self, features: Tensor) -> Tensor:
        """(V, K, h, w), the frame first, to (V, h·w, K)."""
        x = features.flatten(2).transpose(1, 2) + cast("Tensor", self.positions)
        for layer in self.layers:
            x = layer(x)
        out: Tensor = self.adapter(x)
        return out
