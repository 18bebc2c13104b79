"""Small layers that the whole head is made of."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Literal["none", "relu", "gelu"]


def up2(x: Tensor) -> Tensor:
    """Bilinear, exactly twice the size, corners aligned."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)


def upto(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear to a size, corners aligned."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def fit(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear to a size, pixel centres aligned, no antialias."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def activate(x: Tensor, kind: Activation) -> Tensor:
    """Apply an activation by name."""
    if kind == "relu":
        return F.relu(x)
    return F.gelu(x) if kind == "gelu" else x


def nearest(x: Tensor, size: tuple[int, int]) -> Tensor:
    """The nearest pixel, pixel centres aligned: output i reads input floor((i + ½) · n / size)."""
    rows, cols = (
        torch.arange(out).mul(2).add(1).mul(n).div(2 * out, rounding_mode="floor")
        for n, out in zip(x.shape[-2:], size, strict=True)
    )
    return x.index_select(-1, cols.to(x.device)).index_select(-2, rows.to(x.device))


class DepthwiseSeparable(nn.Module):
    """Depthwise k × k directly followed by pointwise 1 × 1: no norm and no activation between."""

    def __init__(
        self, cin: int, cout: int, kernel: int = 3, *, dilation: int = 1, bias: bool = False
    ) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.depthwise = nn.Conv2d(
            cin, cin, kernel, padding=padding, dilation=dilation, groups=cin, bias=bias
        )
        self.pointwise = nn.Conv2d(cin, cout, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, cin, H, W) to (B, cout, H, W)."""
        out: Tensor = self.pointwise(self.depthwise(x))
        return out


class ConvUnit(nn.Module):
    """One convolution, dense or depthwise separable, with an activation before or after it."""

    def __init__(
        self,
        cin: int,
        cout: int,
        kernel: int,
        *,
        light: bool,
        bias: bool,
        before: Activation = "none",
        after: Activation = "none",
    ) -> None:
        super().__init__()
        self.before, self.after = before, after
        self.conv: nn.Module
        if light:
            self.conv = DepthwiseSeparable(cin, cout, kernel, bias=bias)
        else:
            self.conv = nn.Conv2d(cin, cout, kernel, padding=kernel // 2, bias=bias)
            nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
            if self.conv.bias is not None:
                nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, cin, H, W) to (B, cout, H, W)."""
        return activate(self.conv(activate(x, self.before)), self.after)
