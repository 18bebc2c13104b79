"""Where the cross-view module's spatial-aware features come from: its own CNN, or the encoder (the ablations)."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from m2h_runtime.errors import InputError

if TYPE_CHECKING:
    from m2h_export.models.encoders import Encoder

STRIDE = 8
"""Pixels per cell of the spatial-aware features."""

SpatialKind = Literal["cnn", "encoder", "encoder-lora", "encoder-adapter"]

LORA_RANK = 16
"""Rank and alpha, so that the scale is one."""


class ResidualUnit(nn.Module):
    """ReLU(skip(x) + conv(conv(x))), 3 × 3, batch-normalised; the first convolution may halve the size."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(cout)
        self.skip: nn.Module = nn.Identity()
        if stride > 1 or cin != cout:
            self.skip = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x: Tensor) -> Tensor:
        """(B, cin, H, W) to (B, cout, H/stride, W/stride)."""
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.skip(x) + self.norm2(self.conv2(y)))


class SpatialCnn(nn.Module):
    """A 7 × 7 convolution and three residual blocks of two units, at strides 2, 4 and 8, and a projection to K."""

    def __init__(self, widths: tuple[int, int, int], channels: int) -> None:
        super().__init__()
        first = widths[0]
        self.stem = nn.Conv2d(3, first, 7, 2, padding=3, bias=False)
        self.norm = nn.BatchNorm2d(first)
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(ResidualUnit(cin, cout, stride), ResidualUnit(cout, cout, 1))
                for (cin, cout), stride in zip(pairwise((first, *widths)), (1, 2, 2), strict=True)
            )
        )
        self.project = nn.Conv2d(widths[-1], channels, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W), multiples of 8, to (B, K, H/8, W/8)."""
        out: Tensor = self.project(self.blocks(F.relu(self.norm(self.stem(image)))))
        return out


class FromEncoder(nn.Module):
    """The encoder's own maps, projected to K and brought to stride 8.

    `adapter` puts a bottleneck with a residual on each map first, as SAK's adapters do.
    """

    def __init__(self, encoder: Encoder, channels: int, *, adapter: bool) -> None:
        super().__init__()
        self.strides = tuple(scale.stride for scale in encoder.scales)
        widths = [scale.channels for scale in encoder.scales]
        self.adapters = nn.ModuleList(Bottleneck(c) for c in widths) if adapter else None
        self.projects = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in widths)
        self.norm = nn.GroupNorm(1, channels)

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        """The encoder's maps to (B, K, h, w)."""
        if self.adapters is not None:
            maps = [adapter(x) for adapter, x in zip(self.adapters, maps, strict=True)]
        parts = [
            resized(project(x), stride, STRIDE, size)
            for project, x, stride in zip(self.projects, maps, self.strides, strict=True)
        ]
        out: Tensor = self.norm(torch.stack(parts).sum(dim=0))
        return out


class Bottleneck(nn.Module):
    """x + up(GELU(down(x))) on a quarter of the channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(width, width // 4, 1), nn.Conv2d(width // 4, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to the same."""
        out: Tensor = x + self.up(F.gelu(self.down(x)))
        return out


class Lora(nn.Module):
    """Low-rank changes of an encoder's query, key and value maps (arXiv 2106.09685); they begin as no change.

    The encoder itself stays as it is, and is run a second time with the changed weights.

    Raises:
        InputError: an encoder without such maps.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        weights = {name: p.shape for name, p in encoder.named_parameters() if name.endswith("qkv.weight")}
        if not weights:
            raise InputError("spatial 'encoder-lora' needs an encoder with attention; take 'encoder-adapter'")
        self.names = tuple(weights)
        shapes = weights.values()
        self.down = nn.ParameterList(torch.randn(LORA_RANK, cin) / cin**0.5 for _, cin in shapes)
        self.up = nn.ParameterList(torch.zeros(cout, LORA_RANK) for cout, _ in shapes)

    def forward(self, encoder: Encoder, image: Tensor) -> list[Tensor]:
        """The encoder's maps of a picture with the changed weights."""
        weights = {
            name: encoder.get_parameter(name) + up @ down
            for name, down, up in zip(self.names, self.down, self.up, strict=True)
        }
        maps: list[Tensor] = functional_call(encoder, weights, (image,))
        return maps


def resized(x: Tensor, stride: int, wanted: int, size: tuple[int, int]) -> Tensor:
    """A map of one stride at another, aligned at the picture's top left corner, cut to a size (h, w)."""
    if stride != wanted:
        scale = stride / wanted
        grid = (round(x.shape[-2] * scale), round(x.shape[-1] * scale))
        x = F.interpolate(x, size=grid, mode="bilinear", align_corners=False)
    return x[..., : size[0], : size[1]]
