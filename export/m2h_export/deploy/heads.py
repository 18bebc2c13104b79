"""The deploy form of the task heads: nothing wide is made at the largest size that need not be."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2h_export.deploy.algebra import (
    ResizedMean,
    TapsConv,
    bias64,
    conv1x1,
    fold_conv_norm,
    fold_norm,
    linear,
    matrix,
)
from m2h_export.models.heads import Aspp, ContextHead, LightAspp, LightUpsampleBlock, PlainHead, UpsampleBlock
from m2h_export.models.layers import fit, up2


class DeployUpsample(nn.Module):
    """The light block as up2(attention · R(y) + Q(x)): one upsampling, of the sum.

    R and Q are 1 × 1 and commute with resizing; the attention is a constant per channel, from the mean of the
    upsampled map, which is a weighted mean of the small one.
    """

    def __init__(self, block: LightUpsampleBlock, size: tuple[int, int]) -> None:
        super().__init__()
        self.conv1 = fold_conv_norm(block.conv1, block.bn1)
        self.conv2 = fold_conv_norm(block.conv2, block.bn2)
        self.refine, self.residual = block.refine_conv, block.residual
        squeeze, excite = cast("nn.Conv2d", block.channel_attn[1]), cast("nn.Conv2d", block.channel_attn[3])
        self.mean = ResizedMean(size, (2 * size[0], 2 * size[1]))
        self.squeeze = conv1x1(matrix(squeeze) @ matrix(block.refine_conv), None)
        self.excite = excite

    def inner(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The map y (1, co, H, W) and its channel attention (1, co, 1, 1)."""
        y = F.relu(self.conv2(F.relu(self.conv1(x))))
        return y, torch.sigmoid(self.excite(F.relu(self.squeeze(self.mean(y)))))

    def forward(self, x: Tensor) -> Tensor:
        """(1, ci, H, W) to (1, co, 2H, 2W)."""
        y, attention = self.inner(x)
        return up2(attention * self.refine(y) + self.residual(x))


class DeployUpsampleTail(nn.Module):
    """The last block of a plain head with the head's 1 × 1 layer multiplied in: only its outputs are upsampled."""

    def __init__(self, block: LightUpsampleBlock, last: nn.Conv2d, size: tuple[int, int]) -> None:
        super().__init__()
        self.block = DeployUpsample(block, size)
        self.last = conv1x1(last.weight, None)
        self.residual = conv1x1(matrix(last) @ matrix(block.residual), bias64(last))

    def forward(self, x: Tensor) -> Tensor:
        """(1, ci, H, W) to (1, outputs, 2H, 2W)."""
        y, attention = self.block.inner(x)
        return up2(self.last(attention * self.block.refine(y)) + self.residual(x))


class DeployFullUpsample(nn.Module):
    """The dense block: the residual's 1 × 1 before the upsampling, attention from the small map's mean.

    The mean of a transposed convolution with kernel 2 and stride 2 is its kernel summed over the taps, / 4.
    """

    def __init__(self, block: UpsampleBlock) -> None:
        super().__init__()
        stages = block.upsample
        self.conv1 = fold_norm(cast("nn.Conv2d", stages[0]), cast("nn.BatchNorm2d", stages[1]))
        self.conv2 = fold_norm(cast("nn.Conv2d", stages[3]), cast("nn.BatchNorm2d", stages[4]))
        self.expand = cast("nn.ConvTranspose2d", stages[6])
        self.residual = block.residual
        squeeze, excite = cast("nn.Conv2d", block.channel_attn[1]), cast("nn.Conv2d", block.channel_attn[3])
        taps = self.expand.weight.detach().double()  # (ci, co, 2, 2)
        self.squeeze = conv1x1(matrix(squeeze) @ taps.mean((2, 3)).T, matrix(squeeze) @ bias64(self.expand))
        self.excite = excite

    def inner(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The map y (1, co, H, W) and the attention of its expansion (1, co, 1, 1)."""
        y = F.relu(self.conv2(F.relu(self.conv1(x))))
        return y, torch.sigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(y, 1)))))

    def forward(self, x: Tensor) -> Tensor:
        """(1, ci, H, W) to (1, co, 2H, 2W)."""
        y, attention = self.inner(x)
        out: Tensor = self.expand(y) * attention + up2(self.residual(x))
        return out


class DeployFullUpsampleTail(nn.Module):
    """The dense last block with the head's 1 × 1 layer multiplied in.

    outputs × (attention · expansion) is a matrix made per frame, (4·outputs, co), and one product with y.
    """

    def __init__(self, block: UpsampleBlock, last: nn.Conv2d) -> None:
        super().__init__()
        self.block = DeployFullUpsample(block)
        self.outputs = last.out_channels
        expand = self.block.expand
        taps = expand.weight.detach().double().permute(1, 2, 3, 0).flatten(1)  # (co, 4·ci)
        self.register_buffer("last", matrix(last).float())  # (outputs, co)
        self.register_buffer("taps", taps.float())
        self.register_buffer("expand_bias", (matrix(last) * bias64(expand)).float())  # (outputs, co)
        self.residual = conv1x1(matrix(last) @ matrix(block.residual), _residual_bias(block, last))

    def forward(self, x: Tensor) -> Tensor:
        """(1, ci, H, W) to (1, outputs, 2H, 2W)."""
        y, attention = self.block.inner(x)
        height, width = y.shape[-2:]
        gains = attention.reshape(1, -1)
        weight = (cast("Tensor", self.last) * gains) @ cast("Tensor", self.taps)
        weight = weight.reshape(4 * self.outputs, -1)
        expanded = (weight @ y.reshape(y.shape[1], -1)).reshape(1, 4 * self.outputs, height, width)
        bias = cast("Tensor", self.expand_bias) @ gains.reshape(-1, 1)
        return F.pixel_shuffle(expanded, 2) + up2(self.residual(x)) + bias.reshape(1, -1, 1, 1)


def _residual_bias(block: UpsampleBlock, last: nn.Conv2d) -> Tensor:
    return matrix(last) @ bias64(block.residual) + bias64(last)


def upsample(block: nn.Module, size: tuple[int, int]) -> nn.Module:
    """The deploy form of an upsampling block whose input is of `size`."""
    if isinstance(block, LightUpsampleBlock):
        return DeployUpsample(block, size)
    return DeployFullUpsample(cast("UpsampleBlock", block))


class DeployAspp(nn.Module):
    """ASPP with its norms folded in; the global branch is one vector, added like a bias.

    `before` is a 1 × 1 matrix to multiply into the branches. Possible only where all of them are dense: zero
    padding commutes with it as it has no bias.
    """

    def __init__(self, aspp: Aspp | LightAspp, before: Tensor | None = None) -> None:
        super().__init__()
        merge, norm = (
            (aspp.project[0], aspp.project[1]) if isinstance(aspp, LightAspp) else (aspp.conv1, aspp.bn1)
        )
        count = 2 if isinstance(aspp, LightAspp) else 4
        branches = [cast("nn.Sequential", getattr(aspp, f"aspp{i + 1}")) for i in range(count)]
        self.branches = nn.ModuleList(
            fold_conv_norm(branch[0], cast("nn.BatchNorm2d", branch[1])) for branch in branches
        )
        pool, self.norm = (
            cast("nn.Conv2d", aspp.global_avg_pool[1]),
            cast("nn.GroupNorm", aspp.global_avg_pool[2]),
        )
        to_vector = matrix(pool)
        if before is not None:
            to_vector = to_vector @ before
            for branch in self.branches:
                conv = cast("nn.Conv2d", branch)
                conv.weight.data = torch.einsum("omhw,mi->oihw", conv.weight.double(), before).float()
        self.pool = conv1x1(to_vector, None)
        folded = fold_norm(cast("nn.Conv2d", merge), cast("nn.BatchNorm2d", norm))
        width = pool.out_channels
        weight = matrix(folded)
        self.merge = conv1x1(weight[:, :-width], None)
        self.vector = conv1x1(weight[:, -width:], bias64(folded))

    def forward(self, x: Tensor) -> Tensor:
        """(1, C, H, W) to (1, C, H, W)."""
        mean = self.pool(F.adaptive_avg_pool2d(x, 1)).flatten(1)
        # GroupNorm with one group on a single position is LayerNorm over the channels.
        mean = F.layer_norm(mean, (mean.shape[1],), self.norm.weight, self.norm.bias, self.norm.eps)
        vector = self.vector(F.relu(mean)[:, :, None, None])
        parts = torch.cat([F.relu(branch(x)) for branch in self.branches], dim=1)
        return F.relu(self.merge(parts) + vector)


class _Context(nn.Module):
    """What the depth and the semantic head share, up to the refined map."""

    def __init__(self, head: ContextHead, size: tuple[int, int], before: Tensor | None) -> None:
        super().__init__()
        self.aspp = DeployAspp(head.aspp, before)
        self.blocks = nn.ModuleList(
            upsample(block, (size[0] << i, size[1] << i)) for i, block in enumerate(head.blocks)
        )
        self.refine = head.refine
        self.shift = TapsConv()
        self.attention_bias = nn.Parameter(
            cast("Tensor", cast("nn.Conv2d", head.spatial_attn[0]).bias).detach()
        )

    def body(self, x: Tensor) -> Tensor:
        x = self.aspp(x)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.refine(x)
        return out

    def attention(self, taps: Tensor) -> Tensor:
        return torch.sigmoid(self.shift(taps) + self.attention_bias[:, None, None])


class DeployDepthHead(_Context):
    """Depth: the spatial attention and the final 3 × 3 convolution share one pass over the wide map.

    final(x · s) at a tap is s · (w · x), as the attention s is one number per pixel.
    """

    def __init__(self, head: ContextHead, size: tuple[int, int], before: Tensor | None = None) -> None:
        super().__init__(head, size, before)
        spatial = cast("nn.Conv2d", head.spatial_attn[0])
        self.taps = conv1x1(torch.cat([TapsConv.taps(spatial), TapsConv.taps(head.final_conv)]), None)
        self.final_bias = nn.Parameter(cast("Tensor", head.final_conv.bias).detach())

    def forward(self, x: Tensor) -> Tensor:
        """(1, C, H, W) to (1, 1, 2ⁿH, 2ⁿW), before the depth's ReLU."""
        attention, final = self.taps(self.body(x)).split(9, dim=1)
        out: Tensor = self.shift(final * self.attention(attention)) + self.final_bias[:, None, None]
        return out


class DeploySemanticHead(_Context):
    """Semantics: the spatial attention as taps, the class layer as a matrix product per output pixel."""

    def __init__(
        self,
        head: ContextHead,
        size: tuple[int, int],
        out: tuple[int, int] | None,
        before: Tensor | None = None,
    ) -> None:
        super().__init__(head, size, before)
        self.out = out
        spatial = cast("nn.Conv2d", head.spatial_attn[0])
        self.taps = conv1x1(TapsConv.taps(spatial), None)
        self.final = linear(matrix(head.final_conv), bias64(head.final_conv))

    def forward(self, x: Tensor) -> Tensor:
        """(1, C, H, W) to logits (1, K, *out), or on the head's own grid if `out` is None."""
        x = self.body(x)
        features = x * self.attention(self.taps(x))
        if self.out is not None:
            features = fit(features, self.out)
        logits: Tensor = self.final(
            features.permute(0, 2, 3, 1)
        )  # classes last, as the contract stage reads them
        return logits.permute(0, 3, 1, 2)


class DeployPlainHead(nn.Module):
    """Edges and normals, before sigmoid and tanh."""

    def __init__(self, head: PlainHead, size: tuple[int, int]) -> None:
        super().__init__()
        *blocks, last_block, last = head.head
        self.blocks = nn.ModuleList(
            upsample(block, (size[0] << i, size[1] << i)) for i, block in enumerate(blocks)
        )
        last = cast("nn.Conv2d", last)
        n = len(blocks)
        self.tail = (
            DeployUpsampleTail(last_block, last, (size[0] << n, size[1] << n))
            if isinstance(last_block, LightUpsampleBlock)
            else DeployFullUpsampleTail(cast("UpsampleBlock", last_block), last)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(1, C, H, W) to (1, outputs, 2ⁿH, 2ⁿW)."""
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.tail(x)
        return out
