"""DINOv3 vision transformers (arXiv 2508.10104), with the state-dict names of the official weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2h_export.models.vit import LayerScale, Mlp, Tokens


@dataclass(frozen=True)
class DinoV3Config:
    """Size of a DINOv3 transformer with patches of 16 pixels; `tapped` are the blocks (from 0) that are read."""

    width: int
    depth: int
    heads: int
    tapped: tuple[int, int, int, int]
    patch: int = 16
    storage_tokens: int = 4
    rope_base: float = 100.0


DINOV3_S = DinoV3Config(width=384, depth=12, heads=6, tapped=(2, 5, 8, 11))
DINOV3_B = DinoV3Config(width=768, depth=12, heads=12, tapped=(2, 5, 8, 11))
DINOV3_L = DinoV3Config(width=1024, depth=24, heads=16, tapped=(4, 11, 17, 23))


class Rope(nn.Module):
    """Rotary positions of patches: coordinates -1 to 1 along each side, whatever the picture's size."""

    def __init__(self, head_width: int, base: float) -> None:
        super().__init__()
        exponents = 2 * torch.arange(head_width // 4) / (head_width // 2)
        self.register_buffer("periods", base**exponents)

    def forward(self, rows: int, cols: int) -> tuple[Tensor, Tensor]:
        """Sine and cosine, float32 (rows·cols, d) each, of a patch grid; d is a head's width."""
        periods = cast("Tensor", self.periods).float()
        ys, xs = (
            2 * (torch.arange(n, device=periods.device, dtype=torch.float32) + 0.5) / n - 1
            for n in (rows, cols)
        )
        centres = torch.stack(torch.meshgrid(ys, xs, indexing="ij"), dim=-1).flatten(0, 1)  # (N, 2)
        angles = (2 * math.pi * centres[:, :, None] / periods).flatten(1).tile(2)
        return angles.sin(), angles.cos()


class MaskedLinear(nn.Linear):
    """A linear map whose bias counts where `bias_mask` is one: queries and values, not keys."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__(cin, cout)
        mask = torch.ones(cout)
        mask[cout // 3 : 2 * cout // 3] = 0
        self.register_buffer("bias_mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, cin) to (B, N, cout)."""
        return F.linear(x, self.weight, self.bias * cast("Tensor", self.bias_mask))


class RopeAttention(nn.Module):
    """Multi-head self-attention whose patch queries and keys are turned by their positions."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = MaskedLinear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        """(B, N, D) to (B, N, D); the last tokens are the patches that `rope` belongs to."""
        batch, count, width = x.shape
        q, k, v = self.qkv(x).view(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(_turned(q, *rope), _turned(k, *rope), v)
        out: Tensor = self.proj(y.transpose(1, 2).reshape(batch, count, width))
        return out


def _turned(x: Tensor, sine: Tensor, cosine: Tensor) -> Tensor:
    """(B, heads, N, d): each pair of channels (c, c + d/2) of the patch tokens is rotated."""
    others = x.shape[2] - sine.shape[0]
    patches = x[:, :, others:]
    first, second = patches.chunk(2, dim=-1)
    quarter = torch.cat([-second, first], dim=-1)
    turned = patches * cosine.to(x.dtype) + quarter * sine.to(x.dtype)
    return torch.cat([x[:, :, :others], turned], dim=2)


class RopeBlock(nn.Module):
    """Pre-norm transformer block with LayerScale and rotary attention."""

    def __init__(self, config: DinoV3Config) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=1e-5)
        self.attn = RopeAttention(config.width, config.heads)
        self.ls1 = LayerScale(config.width)
        self.norm2 = nn.LayerNorm(config.width, eps=1e-5)
        self.mlp = Mlp(config.width, 4 * config.width)
        self.ls2 = LayerScale(config.width)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        x = x + self.ls1(self.attn(self.norm1(x), rope))
        out: Tensor = x + self.ls2(self.mlp(self.norm2(x)))
        return out


class RopePatchEmbed(nn.Module):
    """Patches to tokens; a module of its own for the weights' names."""

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, h·w, D), patches row-major."""
        out: Tensor = self.proj(image).flatten(2).transpose(1, 2)
        return out


class DinoV3(nn.Module):
    """The encoder. Pads any picture with zeros, right and down, to whole patches."""

    def __init__(self, config: DinoV3Config) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.storage_tokens = nn.Parameter(torch.zeros(1, config.storage_tokens, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))  # only stored: the weights have it
        self.patch_embed = RopePatchEmbed(width, config.patch)
        self.rope_embed = Rope(width // config.heads, config.rope_base)
        self.blocks = nn.ModuleList(RopeBlock(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width, eps=1e-5)
        nn.init.normal_(self.cls_token, std=0.02)
        nn.init.normal_(self.storage_tokens, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """(h, w): how many patches cover a picture of height × width pixels."""
        return math.ceil(height / self.config.patch), math.ceil(width / self.config.patch)

    def forward(self, image: Tensor) -> list[Tokens]:
        """Normalised picture (B, 3, H, W) to the four tapped outputs on the patch grid, after the final norm."""
        rows, cols = self.grid(*image.shape[-2:])
        patch = self.config.patch
        image = F.pad(image, (0, cols * patch - image.shape[-1], 0, rows * patch - image.shape[-2]))
        first = torch.cat([self.cls_token, self.storage_tokens], dim=1).expand(len(image), -1, -1)
        x = torch.cat([first, self.patch_embed(image)], dim=1)
        rope = self.rope_embed(rows, cols)
        outputs = []
        for index, block in enumerate(self.blocks):
            x = block(x, rope)
            if index in self.config.tapped:
                y = self.norm(x)
                patches = y[:, first.shape[1] :].transpose(1, 2).unflatten(2, (rows, cols))
                outputs.append(Tokens(patches, y[:, 0]))
        return outputs
