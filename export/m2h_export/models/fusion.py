"""Multi-scale fusion (MSF, M2H paper eq. 3): one coarse-to-fine chain per task."""

from __future__ import annotations

from torch import Tensor, nn

from m2h_export.models.layers import Activation, ConvUnit, DepthwiseSeparable, fit, up2


class ResidualUnit(nn.Module):
    """x + conv(ReLU(conv(ReLU(x)))), dense 3 × 3. ReLU whatever the head's activation is: the weights know it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvUnit(channels, channels, 3, light=False, bias=False, before="relu")
        self.conv2 = ConvUnit(channels, channels, 3, light=False, bias=False, before="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        out: Tensor = x + self.conv2(self.conv1(x))
        return out


class LightResidualUnit(nn.Module):
    """x + DS3×3(activation(x))."""

    def __init__(self, channels: int, activation: Activation) -> None:
        super().__init__()
        first = nn.GELU() if activation == "gelu" else nn.ReLU()
        self.block = nn.Sequential(first, DepthwiseSeparable(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        out: Tensor = x + self.block(x)
        return out


class FusionBlock(nn.Module):
    """Add a refined skip, refine, double the size (unless `upsample` is off), project.

    `activation` is the light unit's; the dense one has ReLU.
    """

    def __init__(
        self,
        channels: int,
        *,
        light: bool,
        has_skip: bool,
        activation: Activation = "gelu",
        upsample: bool = True,
    ) -> None:
        super().__init__()
        self.light, self.upsample = light, upsample
        self.activation: Activation = activation if light else "relu"
        if light:
            self.res_unit = LightResidualUnit(
                channels, activation
            )  # one set of weights, for the skip and for the sum
            self.project: nn.Module = nn.Conv2d(channels, channels, 1)
        else:
            if has_skip:
                self.res_conv_unit1 = ResidualUnit(channels)
            self.res_conv_unit2 = ResidualUnit(channels)
            self.project = ConvUnit(channels, channels, 1, light=False, bias=True)

    def refine_skip(self, skip: Tensor) -> Tensor:
        """The residual unit of the skip path."""
        out: Tensor = self.res_unit(skip) if self.light else self.res_conv_unit1(skip)
        return out

    def refine(self, x: Tensor) -> Tensor:
        """The residual unit of the main path."""
        out: Tensor = self.res_unit(x) if self.light else self.res_conv_unit2(x)
        return out

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """(B, C, H, W) and a skip of about that size, to (B, C, 2H, 2W)."""
        if skip is not None:
            if skip.shape[-2:] != x.shape[-2:]:  # odd patch grids: the main path is even
                skip = fit(skip, (x.shape[-2], x.shape[-1]))
            x = x + self.refine_skip(skip)
        x = self.refine(x)
        out: Tensor = self.project(up2(x) if self.upsample else x)
        return out
