"""DINOv2 vision transformers (arXiv 2304.07193), with the state-dict names of the official weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class ViTConfig:
    """Size of a vision transformer.

    `tapped` are the blocks (from 0) whose outputs the decoder reads. `stem` are the channels of convolutions with
    stride 2 before the tokens (arXiv 2106.14881); none in DINOv2, where one linear map makes a token of a patch.
    """

    width: int
    depth: int
    heads: int
    tapped: tuple[int, int, int, int]
    patch: int = 14
    trained_grid: int = 37
    stem: tuple[int, ...] = ()

    @property
    def mlp_width(self) -> int:
        """Hidden width of the MLP."""
        return 4 * self.width


VIT_NANO = ViTConfig(192, 4, 3, tapped=(0, 1, 2, 3), patch=16, trained_grid=14, stem=(24, 48, 96, 192))
VIT_S = ViTConfig(width=384, depth=12, heads=6, tapped=(2, 5, 8, 11))
VIT_B = ViTConfig(width=768, depth=12, heads=12, tapped=(2, 5, 8, 11))
VIT_L = ViTConfig(width=1024, depth=24, heads=16, tapped=(4, 11, 17, 23))


class Tokens(NamedTuple):
    """One tapped output: patch tokens as a map (B, D, h, w) and the class token (B, D), without final norm."""

    patches: Tensor
    cls: Tensor


class Encoded(NamedTuple):
    """What the decoder gets: the tapped outputs, and the stem's maps (B, c_i, H/2ⁱ, W/2ⁱ), finest first."""

    tapped: list[Tokens]
    details: list[Tensor]


class StemStage(nn.Module):
    """Half the size: a convolution with stride 2 and, but for the first and largest stage, a residual block."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(cin, cout, 3, 2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(cout)
        repeats = 0 if cin == 3 else 2
        self.convs = nn.ModuleList(nn.Conv2d(cout, cout, 3, padding=1, bias=False) for _ in range(repeats))
        self.norms = nn.ModuleList(nn.BatchNorm2d(cout) for _ in range(repeats))

    def forward(self, x: Tensor) -> Tensor:
        """(B, cin, H, W) to (B, cout, H/2, W/2)."""
        x = F.relu(self.norm(self.down(x)))
        if not self.convs:
            return x
        first, second = self.convs
        y = self.norms[1](second(F.relu(self.norms[0](first(x)))))
        return F.relu(x + y)


class PatchEmbed(nn.Module):
    """Image to patch tokens, and the stem's maps on the way there."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        widths = (3, *config.stem)
        stages = [StemStage(cin, cout) for cin, cout in pairwise(widths)]
        if stages:
            self.stem = nn.ModuleList(stages)
        stride = config.patch >> len(stages)
        self.proj = nn.Conv2d(widths[-1], config.width, stride, stride)
        self.stages = len(stages)

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, 3, H, W) to (B, h·w, D), patches row-major, and (B, c_i, H/2ⁱ, W/2ⁱ) from every stage."""
        x, details = image, []
        for stage in self.stem if self.stages else ():
            x = stage(x)
            details.append(x)
        return self.proj(x).flatten(2).transpose(1, 2), details


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection, outputs ordered [q | k | v]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        batch, count, width = x.shape
        q, k, v = (
            self.qkv(x).view(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        )  # (3, B, heads, N, d)
        y = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.proj(y.transpose(1, 2).reshape(batch, count, width))
        return out


class LayerScale(nn.Module):
    """A learned factor per channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        return x * self.gamma


class Mlp(nn.Module):
    """Two linear layers with the exact GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class Block(nn.Module):
    """Pre-norm transformer block with LayerScale."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=1e-6)
        self.attn = Attention(config.width, config.heads)
        self.ls1 = LayerScale(config.width)
        self.norm2 = nn.LayerNorm(config.width, eps=1e-6)
        self.mlp = Mlp(config.width, config.mlp_width)
        self.ls2 = LayerScale(config.width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        out: Tensor = x + self.ls2(self.mlp(self.norm2(x)))
        return out


class DinoV2(nn.Module):
    """The encoder. Pads any picture with zeros, centred, to whole patches."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + config.trained_grid**2, config.width))
        self.mask_token = nn.Parameter(torch.zeros(1, config.width))  # only stored: the weights have it
        self.patch_embed = PatchEmbed(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, eps=1e-6)  # only stored: the decoder reads un-normed tokens
        nn.init.normal_(self.cls_token, std=1e-6)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """(h, w): how many patches cover a picture of height × width pixels."""
        return math.ceil(height / self.config.patch), math.ceil(width / self.config.patch)

    def padding(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Zeros to add at (left, right, top, bottom), pixels; the odd one goes right and down."""
        rows, cols = self.grid(height, width)
        down, across = rows * self.config.patch - height, cols * self.config.patch - width
        return across // 2, across - across // 2, down // 2, down - down // 2

    def positions(self, rows: int, cols: int) -> Tensor:
        """The position embedding (1, 1 + rows·cols, D) for a patch grid.

        DINOv2 interpolates by scale factor with an offset of 0.1, not by size; both give the same shape and
        different values (https://github.com/facebookresearch/dinov2/issues/8), and the weights know the former.
        """
        trained = self.config.trained_grid
        if rows == cols == trained:
            return self.pos_embed
        table = self.pos_embed[:, 1:].float().view(1, trained, trained, -1).permute(0, 3, 1, 2)
        scale = ((rows + 0.1) / trained, (cols + 0.1) / trained)
        table = F.interpolate(table, scale_factor=scale, mode="bicubic", align_corners=False)
        patches = table.permute(0, 2, 3, 1).reshape(1, rows * cols, -1).to(self.pos_embed.dtype)
        return torch.cat([self.pos_embed[:, :1], patches], dim=1)

    def forward(self, image: Tensor) -> Encoded:
        """Normalised picture (B, 3, H, W) to the four tapped outputs on the patch grid (h, w), and the stem's maps."""
        rows, cols = self.grid(*image.shape[-2:])
        x, details = self.patch_embed(F.pad(image, self.padding(*image.shape[-2:])))
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.positions(rows, cols)
        outputs = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.config.tapped:
                outputs.append(Tokens(x[:, 1:].transpose(1, 2).unflatten(2, (rows, cols)), x[:, 0]))
        return Encoded(outputs, details)
