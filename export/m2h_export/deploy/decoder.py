"""The deploy form of fusion, cross-task attention and restoration, for batch 1."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2h_export.deploy.algebra import ResizedMean, bias64, conv1x1, linear, matrix, pointwise_of
from m2h_export.models.fusion import FusionBlock, skip_activation
from m2h_export.models.layers import fit, up2, upto

if TYPE_CHECKING:
    from m2h_export.models.cross_task import CrossTaskLayer
    from m2h_export.models.layers import ConvUnit
    from m2h_export.models.reassembly import UniqueFeature
    from m2h_export.models.restoration import Restore


class DeployFusion(nn.Module):
    """A fusion block that projects before it doubles the size: a 1 × 1 convolution commutes with resizing.

    The skip's activation is the same for all tasks, so it comes in as an argument.
    """

    def __init__(self, block: FusionBlock) -> None:
        super().__init__()
        self.block, self.light = block, block.light

    def forward(self, x: Tensor, skip: Tensor | None = None, activated: Tensor | None = None) -> Tensor:
        """(1, C, H, W), and a skip of that size with its activation, to (1, C, 2H, 2W)."""
        if skip is not None and activated is not None:
            x = x + skip + self._after_activation(activated, "skip")
        x = x + self._after_activation(skip_activation(x, light=self.light), "main")
        x = self.block.project(x)
        return up2(x) if self.block.upsample else x

    def _after_activation(self, activated: Tensor, path: str) -> Tensor:
        if self.light:
            out: Tensor = self.block.res_unit.block[1](activated)
            return out
        unit = self.block.res_conv_unit1 if path == "skip" else self.block.res_conv_unit2
        out = unit.conv2(unit.conv1.conv(activated))
        return out


class DeployBranches(nn.Module):
    """All tasks' coarse-to-fine chains over one pyramid."""

    def __init__(self, branches: list[nn.ModuleList], projects: list[nn.Module], *, light: bool) -> None:
        super().__init__()
        self.light = light
        self.branches = nn.ModuleList(
            nn.ModuleList(DeployFusion(cast("FusionBlock", block)) for block in branch) for branch in branches
        )
        self.projects = nn.ModuleList(projects)

    def forward(self, pyramid: list[Tensor]) -> list[Tensor]:
        """Maps (1, C, ·, ·), finest first, to one (1, C, H, W) per task."""
        coarse, *skips = reversed(pyramid)
        xs = [cast("nn.ModuleList", branch)[0](coarse) for branch in self.branches]
        for level, skip in enumerate(skips, start=1):
            size = (xs[0].shape[-2], xs[0].shape[-1])
            if skip.shape[-2:] != size:
                skip = fit(skip, size)  # noqa: PLW2901
            activated = skip_activation(skip, light=self.light)
            xs = [
                cast("nn.ModuleList", branch)[level](x, skip, activated)
                for branch, x in zip(self.branches, xs, strict=True)
            ]
        return [project(x) for project, x in zip(self.projects, xs, strict=True)]


class DeployUnique(nn.Module):
    """A unique feature from tokens."""

    def __init__(self, published: UniqueFeature, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.project = linear(*pointwise_of(published.reassemble.projects))
        self.reduce = published.reassemble.resize_layers
        self.conv_proj = published.conv_proj
        self.fusion = DeployFusion(published.fusion_block)

    def forward(self, tokens: Tensor) -> Tensor:
        """(1, 1 + h·w, D) to (1, C, 2q, 2r)."""
        x = self.project(tokens[:, 1:]).transpose(1, 2).reshape(1, -1, *self.grid)
        out: Tensor = self.fusion(self.conv_proj(self.reduce(x)))
        return out


class _TaskNorm(nn.Module):
    """LayerNorm with its own scale and shift per task, on (M, T, p², D)."""

    def __init__(self, norms: nn.ModuleList) -> None:
        super().__init__()
        layers = [cast("nn.LayerNorm", norm) for norm in norms]
        self.eps, self.width = layers[0].eps, layers[0].normalized_shape
        self.register_buffer("scale", torch.stack([n.weight.detach() for n in layers])[None, :, None])
        self.register_buffer("shift", torch.stack([n.bias.detach() for n in layers])[None, :, None])

    def forward(self, x: Tensor) -> Tensor:
        plain = F.layer_norm(x, self.width, eps=self.eps)
        return plain * cast("Tensor", self.scale) + cast("Tensor", self.shift)


class _DeployCrossTaskLayer(nn.Module):
    def __init__(self, layer: CrossTaskLayer) -> None:
        super().__init__()
        attention = layer.attn
        width, self.heads = attention.embed_dim, attention.num_heads
        scale = torch.ones(3 * width, dtype=torch.float64)
        scale[:width] = (width // self.heads) ** -0.5
        weight, bias = cast("Tensor", attention.in_proj_weight), cast("Tensor", attention.in_proj_bias)
        self.qkv = linear(weight.double() * scale[:, None], bias.double() * scale)
        self.proj = attention.out_proj
        self.fc1, self.fc2 = layer.ffn_fc1, layer.ffn_fc2
        self.norm1, self.norm2 = _TaskNorm(layer.norm_layers), _TaskNorm(layer.norm2_layers)

    def forward(self, windows: Tensor) -> Tensor:
        """(M, T, p², D) to the same."""
        count, tasks, area, width = windows.shape
        z = self.norm1(windows).reshape(count, tasks * area, width)
        qkv = self.qkv(z).view(count, tasks * area, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (3, M, heads, T·p², d)
        y = torch.softmax(q @ k.transpose(2, 3), dim=-1) @ v
        z = z + self.proj(y.transpose(1, 2).reshape(count, tasks * area, width))
        z = z + self.fc2(F.gelu(self.fc1(z)))
        out: Tensor = self.norm2(z.view(count, tasks, area, width))
        return out


class DeployCrossTask(nn.Module):
    """All cross-task layers, staying in windows between them.

    A layer pads its input with zeros, so padded tokens are set to zero again before the next one: they are
    keys and values there too.
    """

    def __init__(self, layers: nn.ModuleList, size: tuple[int, int]) -> None:
        super().__init__()
        height, width = self.size = size
        side = cast("CrossTaskLayer", layers[0]).window
        self.window = p, s = (side, side) if side else size
        self.rows, self.cols = -(-height // p), -(-width // s)
        self.pad = (0, self.cols * s - width, 0, self.rows * p - height)
        real = F.pad(torch.ones(1, 1, height, width), self.pad)
        self.register_buffer("real", self._to_windows(real))  # (M, 1, p², 1)
        self.layers = nn.ModuleList(_DeployCrossTaskLayer(cast("CrossTaskLayer", layer)) for layer in layers)

    def _to_windows(self, x: Tensor) -> Tensor:
        p, s = self.window
        tasks, width = x.shape[:2]
        x = x.reshape(tasks, width, self.rows, p, self.cols, s).permute(2, 4, 0, 3, 5, 1)
        return x.reshape(self.rows * self.cols, tasks, p * s, width)

    def forward(self, maps: Tensor) -> Tensor:
        """(T, D, H, W) to (T, D, H, W), T tasks."""
        tasks, width = maps.shape[:2]
        x = self._to_windows(F.pad(maps, self.pad) if any(self.pad) else maps)
        for index, layer in enumerate(self.layers):
            if index and any(self.pad):
                x = x * cast("Tensor", self.real)
            x = layer(x)
        p, s = self.window
        x = x.view(self.rows, self.cols, tasks, p, s, width).permute(2, 5, 0, 3, 1, 4)
        x = x.reshape(tasks, width, self.rows * p, self.cols * s)
        return x[:, :, : self.size[0], : self.size[1]]


class DeployRestore(nn.Module):
    """Gated merging without concatenation: gates come from means of small maps, small maps are scaled small.

    The light head's `post_attn_proj` is multiplied into `conv_attn`; both act before the attended map is doubled.
    """

    def __init__(
        self,
        published: Restore,
        post: nn.Conv2d | None,
        size: tuple[int, int],
        attended: tuple[int, int],
        unique: tuple[int, int],
    ) -> None:
        super().__init__()
        self.size, self.doubled = size, attended != size
        self.conv_orig = published.conv_orig
        attn = matrix(published.conv_attn)
        self.conv_attn = (
            published.conv_attn if post is None else conv1x1(attn @ matrix(post), attn @ bias64(post))
        )
        self.conv_uniq = published.conv_uniq
        self.mean_attn = ResizedMean(attended, size) if self.doubled else nn.AdaptiveAvgPool2d(1)
        self.mean_uniq = ResizedMean(unique, size)
        self.gate_fc = published.gate_fc
        self.ffn, self.out_conv = published.ffn, published.out_conv

    def merge(self, own: Tensor, attended: Tensor, unique: Tensor) -> Tensor:
        """f + ffn(f), before `out_conv`."""
        a, u = self.conv_attn(attended), self.conv_uniq(unique)
        o_mean = self.conv_orig(F.adaptive_avg_pool2d(own, 1))
        means = torch.cat([o_mean, self.mean_attn(a), self.mean_uniq(u)], dim=1)
        g_o, g_a, g_u = torch.sigmoid(self.gate_fc(means)).chunk(3, dim=1)
        a = g_a * a
        f = g_o * self.conv_orig(own) + (up2(a) if self.doubled else a) + upto(g_u * u, self.size)
        out: Tensor = f + self.ffn(f)
        return out

    def forward(self, own: Tensor, attended: Tensor, unique: Tensor) -> Tensor:
        """(1, C, H, W), (1, D, ·, ·) before `post_attn_proj`, (1, C, 2q, 2r), to (1, C, H, W)."""
        out: Tensor = self.out_conv(self.merge(own, attended, unique))
        return out
