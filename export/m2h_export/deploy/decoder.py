"""The deploy form of fusion, cross-task attention and restoration, for batch 1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2h_export.deploy.algebra import ResizedMean, bias64, conv1x1, linear, matrix, pointwise_of
from m2h_export.models.layers import activate, fit, up2, upto

if TYPE_CHECKING:
    from m2h_export.models.cross_task import CrossTaskLayer
    from m2h_export.models.fusion import FusionBlock
    from m2h_export.models.layers import ConvUnit
    from m2h_export.models.reassembly import UniqueFeature
    from m2h_export.models.restoration import Restore


class DeployBranches(nn.Module):
    """All tasks' coarse-to-fine chains at once: their channels side by side, their weights as groups.

    A quarter of the nodes, four times as wide: small maps keep neither a CPU nor a GPU busy one task at a time. The
    tasks part before the last upsampling, where one task's map is large enough. Skips are shared: their activation is
    computed once, and the dense head's first convolution over them is one convolution to all tasks' channels.
    """

    def __init__(self, branches: list[list[FusionBlock]], projects: list[ConvUnit]) -> None:
        super().__init__()
        self.tasks, first = len(branches), branches[0]
        self.light, self.activation = first[0].light, first[0].activation
        self.upsample = [block.upsample for block in first]
        levels = list(zip(*branches, strict=True))
        self.mains = nn.ModuleList(
            side_by_side([_refine_convs(block, "main") for block in level]) for level in levels
        )
        self.skips = nn.ModuleList(
            side_by_side([_refine_convs(block, "skip") for block in level], shared=not self.light)
            for level in levels[1:]
        )
        self.projects = nn.ModuleList(
            side_by_side([_convs(block.project) for block in level]) for level in levels
        )
        self.finish = nn.ModuleList(projects)

    def forward(self, pyramid: list[Tensor]) -> list[Tensor]:
        """Maps (1, C, ·, ·), finest first, to one (1, C, H, W) per task."""
        coarse, *skips = reversed(pyramid)
        x = self._level(0, self._tiled(coarse))
        for level, skip in enumerate(skips, start=1):
            x = up2(x) if self.upsample[level - 1] else x
            x = self._level(level, x + self._skip(skip, (x.shape[-2], x.shape[-1]), self.skips[level - 1]))
        parts = x.chunk(self.tasks, dim=1)
        return [
            finish(up2(part) if self.upsample[-1] else part)
            for part, finish in zip(parts, self.finish, strict=True)
        ]

    def _level(self, level: int, x: Tensor) -> Tensor:
        """Refine and project; a 1 × 1 convolution commutes with the resizing after it, so it acts on the small map."""
        out: Tensor = self.projects[level](x + self.mains[level](activate(x, self.activation)))
        return out

    def _skip(self, skip: Tensor, size: tuple[int, int], unit: nn.Module) -> Tensor:
        if skip.shape[-2:] != size:
            skip = fit(skip, size)
        activated = activate(skip, self.activation)
        out: Tensor = self._tiled(skip) + unit(self._tiled(activated) if self.light else activated)
        return out

    def _tiled(self, x: Tensor) -> Tensor:
        return torch.cat([x] * self.tasks, dim=1)


def _convs(module: nn.Module) -> list[nn.Conv2d]:
    """The convolutions of a unit in order; what lies between two of them is a ReLU, or nothing."""
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]


def _refine_convs(block: FusionBlock, path: Literal["main", "skip"]) -> list[nn.Conv2d]:
    if block.light:
        return _convs(block.res_unit)  # the same weights on both paths
    return _convs(block.res_conv_unit1 if path == "skip" else block.res_conv_unit2)


def side_by_side(tasks: list[list[nn.Conv2d]], *, shared: bool = False) -> nn.Sequential:
    """One chain of grouped convolutions that does every task's own chain on its own channels.

    `shared`: the first convolution's input is one for all tasks. Dense units have a ReLU between their two
    3 × 3 convolutions; depthwise separable ones have nothing between.
    """
    layers: list[nn.Module] = []
    for step, convs in enumerate(zip(*tasks, strict=True)):
        one = convs[0]
        if step and one.kernel_size != (1, 1):
            layers.append(nn.ReLU())
        groups = one.groups if shared and step == 0 else len(convs) * one.groups
        merged = nn.Conv2d(
            one.in_channels * (1 if shared and step == 0 else len(convs)),
            one.out_channels * len(convs),
            cast("tuple[int, int]", one.kernel_size),
            padding=cast("tuple[int, int]", one.padding),
            groups=groups,
            bias=one.bias is not None,
        )
        merged.weight.data = torch.cat([conv.weight.detach() for conv in convs])
        if merged.bias is not None:
            merged.bias.data = torch.cat([cast("Tensor", conv.bias).detach() for conv in convs])
        layers.append(merged)
    return nn.Sequential(*layers)


class DeployUnique(nn.Module):
    """A unique feature from tokens."""

    def __init__(self, published: UniqueFeature, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.narrow = linear(*pointwise_of(published.reassemble.projects))
        self.reduce = published.reassemble.resize_layers
        self.conv_proj = published.conv_proj
        block = published.fusion_block
        self.activation = block.activation
        self.refine = side_by_side([_refine_convs(block, "main")])
        self.project = block.project

    def forward(self, tokens: Tensor) -> Tensor:
        """(1, 1 + h·w, D) to (1, C, 2q, 2r)."""
        x = self.narrow(tokens[:, 1:]).transpose(1, 2).reshape(1, -1, *self.grid)
        x = self.conv_proj(self.reduce(x))
        return up2(self.project(x + self.refine(activate(x, self.activation))))


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

    The light head's `post_attn_proj` is multiplied into `conv_attn`; both act before the attended map is enlarged.
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
        self.size, self.coarser = size, attended != size
        self.conv_orig = published.conv_orig
        attn = matrix(published.conv_attn)
        self.conv_attn = (
            published.conv_attn if post is None else conv1x1(attn @ matrix(post), attn @ bias64(post))
        )
        self.conv_uniq = published.conv_uniq
        self.mean_attn = ResizedMean(attended, size) if self.coarser else nn.AdaptiveAvgPool2d(1)
        self.mean_uniq = ResizedMean(unique, size)
        self.gate_fc = published.gate_fc
        self.ffn, self.out_conv = published.ffn, published.out_conv

    def merge(self, own: Tensor, attended: Tensor, unique: Tensor) -> Tensor:
        """The gated sum f as f + ffn(f), before `out_conv`."""
        a, u = self.conv_attn(attended), self.conv_uniq(unique)
        o_mean = self.conv_orig(F.adaptive_avg_pool2d(own, 1))
        means = torch.cat([o_mean, self.mean_attn(a), self.mean_uniq(u)], dim=1)
        g_o, g_a, g_u = torch.sigmoid(self.gate_fc(means)).chunk(3, dim=1)
        a = g_a * a
        f = g_o * self.conv_orig(own) + (upto(a, self.size) if self.coarser else a) + upto(g_u * u, self.size)
        out: Tensor = f + self.ffn(f)
        return out

    def forward(self, own: Tensor, attended: Tensor, unique: Tensor) -> Tensor:
        """(1, C, H, W), (1, D, ·, ·) before `post_attn_proj`, (1, C, 2q, 2r), to (1, C, H, W)."""
        out: Tensor = self.out_conv(self.merge(own, attended, unique))
        return out
