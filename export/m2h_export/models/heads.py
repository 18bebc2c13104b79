"""Task heads: upsampling blocks, ASPP, spatial attention, final convolutions."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2h_export.models.layers import ConvUnit, DepthwiseSeparable, up2, upto


def _conv_norm_relu(conv: nn.Module, channels: int) -> nn.Sequential:
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU())


def _channel_attention(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(channels, channels // 4, 1, bias=False),
        nn.ReLU(),
        nn.Conv2d(channels // 4, channels, 1, bias=False),
        nn.Sigmoid(),
    )


class UpsampleBlock(nn.Module):
    """Learned 2× upsampling with channel attention and a bilinear residual."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.upsample = nn.Sequential(
            nn.Conv2d(cin, cout, 3, padding=1),
            nn.BatchNorm2d(cout),
            nn.ReLU(),
            nn.Conv2d(cout, cout, 3, padding=1),
            nn.BatchNorm2d(cout),
            nn.ReLU(),
            nn.ConvTranspose2d(cout, cout, 2, 2),
        )
        self.residual = nn.Conv2d(cin, cout, 1)
        self.channel_attn = _channel_attention(cout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, cin, H, W) to (B, cout, 2H, 2W)."""
        y = self.upsample(x)
        out: Tensor = y * self.channel_attn(y) + self.residual(up2(x))
        return out


class LightUpsampleBlock(nn.Module):
    """The same from depthwise separable convolutions, bilinear upsampling and grouped 1 × 1 layers."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.conv1 = DepthwiseSeparable(cin, cout)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = DepthwiseSeparable(cout, cout)
        self.bn2 = nn.BatchNorm2d(cout)
        self.refine_conv = nn.Conv2d(cout, cout, 1, groups=4, bias=False)
        self.residual = nn.Conv2d(cin, cout, 1, groups=4, bias=False)
        self.channel_attn = _channel_attention(cout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, cin, H, W) to (B, cout, 2H, 2W)."""
        y = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        y = self.refine_conv(up2(y))
        out: Tensor = y * self.channel_attn(y) + self.residual(up2(x))
        return out


class Aspp(nn.Module):
    """Atrous spatial pyramid pooling: 1 × 1, 3 × 3 with dilations 6, 12, 18, and a global branch."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.aspp1 = _conv_norm_relu(nn.Conv2d(channels, channels, 1, bias=False), channels)
        for index, dilation in enumerate((6, 12, 18), start=2):
            conv = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, bias=False)
            setattr(self, f"aspp{index}", _conv_norm_relu(conv, channels))
        self.global_avg_pool = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.GroupNorm(1, channels),
            nn.ReLU(),
        )
        self.conv1 = nn.Conv2d(5 * channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        whole = upto(self.global_avg_pool(x), (x.shape[-2], x.shape[-1]))
        parts = [getattr(self, f"aspp{index}")(x) for index in (1, 2, 3, 4)]
        return F.relu(self.bn1(self.conv1(torch.cat([*parts, whole], dim=1))))


class LightAspp(nn.Module):
    """1 × 1, depthwise separable 3 × 3 with dilation 6, and a global branch, all at half the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.aspp1 = _conv_norm_relu(nn.Conv2d(channels, half, 1, bias=False), half)
        self.aspp2 = _conv_norm_relu(DepthwiseSeparable(channels, half, dilation=6), half)
        self.global_avg_pool = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, half, 1, bias=False),
            nn.GroupNorm(1, half),
            nn.ReLU(),
        )
        self.project = _conv_norm_relu(nn.Conv2d(3 * half, channels, 1, bias=False), channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        whole = upto(self.global_avg_pool(x), (x.shape[-2], x.shape[-1]))
        out: Tensor = self.project(torch.cat([self.aspp1(x), self.aspp2(x), whole], dim=1))
        return out


class Refine(nn.Module):
    """x + ReLU(conv(ReLU(conv(x)))), both 3 × 3 with bias; the last ReLU is inside the branch."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvUnit(channels, channels, 3, light=False, bias=True, after="relu")
        self.conv2 = ConvUnit(channels, channels, 3, light=False, bias=True, after="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        out: Tensor = x + self.conv2(self.conv1(x))
        return out


class LightRefine(nn.Module):
    """x + ReLU(DS3×3(x))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(DepthwiseSeparable(channels, channels), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        out: Tensor = x + self.conv(x)
        return out


def _blocks(widths: tuple[int, ...], *, light: bool) -> list[nn.Module]:
    kind = LightUpsampleBlock if light else UpsampleBlock
    return [kind(cin, cout) for cin, cout in pairwise(widths)]


class ContextHead(nn.Module):
    """Depth and semantics: ASPP, upsampling blocks, refinement, spatial attention, final convolution.

    `widths` are the channels at the input and after every upsampling block.
    """

    def __init__(self, widths: tuple[int, ...], outputs: int, kernel: int, *, light: bool) -> None:
        super().__init__()
        last = widths[-1]
        self.aspp = LightAspp(widths[0]) if light else Aspp(widths[0])
        self.stages = len(widths) - 1
        for index, block in enumerate(_blocks(widths, light=light), start=1):
            setattr(self, f"upsample{index}", block)
        self.refine = LightRefine(last) if light else Refine(last)
        self.spatial_attn = nn.Sequential(nn.Conv2d(last, 1, 3, padding=1), nn.Sigmoid())
        self.final_conv = nn.Conv2d(last, outputs, kernel, padding=kernel // 2)

    @property
    def blocks(self) -> list[nn.Module]:
        """The upsampling blocks in order."""
        return [getattr(self, f"upsample{index + 1}") for index in range(self.stages)]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, outputs, 2ⁿH, 2ⁿW), n blocks."""
        x = self.aspp(x)
        for block in self.blocks:
            x = block(x)
        x = self.refine(x)
        out: Tensor = self.final_conv(x * self.spatial_attn(x))
        return out


class PlainHead(nn.Module):
    """Edges and normals: upsampling blocks and a 1 × 1 convolution, the last entry of `head`."""

    def __init__(self, widths: tuple[int, ...], outputs: int, *, light: bool) -> None:
        super().__init__()
        self.head = nn.Sequential(*_blocks(widths, light=light), nn.Conv2d(widths[-1], outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, outputs, 2ⁿH, 2ⁿW), n blocks."""
        out: Tensor = self.head(x)
        return out
