"""Exact algebra on weights. Everything here runs once, at export, in float64 where it matters."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2h_export.models.layers import DepthwiseSeparable

if TYPE_CHECKING:
    from m2h_export.models.layers import ConvUnit


def conv1x1(weight: Tensor, bias: Tensor | None, groups: int = 1) -> nn.Conv2d:
    """A 1 × 1 convolution with these weights, (cout, cin / groups) or (cout, cin / groups, 1, 1)."""
    weight = weight.reshape(weight.shape[0], -1)
    layer = nn.Conv2d(weight.shape[1] * groups, weight.shape[0], 1, groups=groups, bias=bias is not None)
    layer.weight.data = weight.detach().float()[:, :, None, None].clone()
    if bias is not None and layer.bias is not None:
        layer.bias.data = bias.detach().float().clone()
    return layer


def linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear layer with these weights, (cout, cin)."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight.data = weight.detach().float().clone()
    if bias is not None:
        layer.bias.data = bias.detach().float().clone()
    return layer


def dense(conv: nn.Conv2d) -> Tensor:
    """The weight of a (grouped) convolution as one without groups, float64 (cout, cin, k, k)."""
    weight = conv.weight.detach().double()
    if conv.groups == 1:
        return weight
    per_out, per_in = weight.shape[0] // conv.groups, weight.shape[1]
    full = weight.new_zeros(weight.shape[0], per_in * conv.groups, *weight.shape[2:])
    for g in range(conv.groups):
        rows = slice(g * per_out, (g + 1) * per_out)
        full[rows, g * per_in : (g + 1) * per_in] = weight[rows]
    return full


def matrix(conv: nn.Conv2d) -> Tensor:
    """The (cout, cin) matrix of a 1 × 1 convolution, groups filled in, float64."""
    return dense(conv)[:, :, 0, 0]


def bias64(layer: nn.Module) -> Tensor:
    """A layer's bias in float64; it has to have one."""
    return cast("Tensor", layer.bias).detach().double()


def fold_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """One convolution that does `norm(conv(x))`, BatchNorm in evaluation mode."""
    variance, mean = cast("Tensor", norm.running_var), cast("Tensor", norm.running_mean)
    scale = norm.weight.detach().double() / torch.sqrt(variance.double() + norm.eps)
    shift = norm.bias.detach().double() - mean.double() * scale
    if conv.bias is not None:
        shift = shift + bias64(conv) * scale
    folded = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        cast("tuple[int, int]", conv.kernel_size),
        cast("tuple[int, int]", conv.stride),
        cast("tuple[int, int]", conv.padding),
        cast("tuple[int, int]", conv.dilation),
        conv.groups,
    )
    folded.weight.data = (conv.weight.detach().double() * scale[:, None, None, None]).float()
    cast("nn.Parameter", folded.bias).data = shift.float()
    return folded


def fold_conv_norm(conv: nn.Module, norm: nn.BatchNorm2d) -> nn.Module:
    """`norm(conv(x))` for a dense or depthwise separable convolution: the norm goes into the last layer."""
    if isinstance(conv, DepthwiseSeparable):
        return nn.Sequential(conv.depthwise, fold_norm(conv.pointwise, norm))
    return fold_norm(cast("nn.Conv2d", conv), norm)


def pointwise_of(unit: ConvUnit) -> tuple[Tensor, Tensor]:
    """Matrix (cout, cin) and bias of a 1 × 1 `ConvUnit` with bias, float64.

    The light kind is a per-channel scale and shift before the matrix: W' = Wp diag(d), b' = Wp bd + bp.
    """
    inner = unit.conv
    if isinstance(inner, DepthwiseSeparable):
        point = matrix(inner.pointwise)
        scale = inner.depthwise.weight.detach().double().flatten()
        return point * scale, point @ bias64(inner.depthwise) + bias64(inner.pointwise)
    return matrix(cast("nn.Conv2d", inner)), bias64(inner)


def interpolation_matrix(size: int, out: int) -> Tensor:
    """(out, size) matrix of linear interpolation with aligned corners, float64, as torch itself does it."""
    eye = torch.eye(size, dtype=torch.float64)[None, :, :, None]  # (1, size, size, 1): channel i is e_i
    rows = F.interpolate(eye, size=(out, 1), mode="bilinear", align_corners=True)
    return rows[0, :, :, 0].T


def mean_weights(size: int, out: int) -> Tensor:
    """(size,) weights whose product with a row is the mean of that row once interpolated to `out`."""
    return interpolation_matrix(size, out).mean(dim=0)


class ResizedMean(nn.Module):
    """The spatial mean of a map as if it had been resized (corners aligned) to `out` first.

    Resizing is linear, so the mean is a fixed weighted mean of the small map. Weights of mean 1 and a plain mean:
    products of 1/(H·W) would be subnormal in half precision, and matrix products would need another memory layout.
    """

    def __init__(self, size: tuple[int, int], out: tuple[int, int]) -> None:
        super().__init__()
        rows, cols = (n * mean_weights(n, m) for n, m in zip(size, out, strict=True))
        self.register_buffer("weights", torch.outer(rows, cols).float()[None, None])  # (1, 1, H, W)

    def forward(self, x: Tensor) -> Tensor:
        """(1, C, H, W) to (1, C, 1, 1)."""
        return (x * cast("Tensor", self.weights)).mean(dim=(2, 3), keepdim=True)


class TapsConv(nn.Module):
    """A 3 × 3 convolution to one channel, as nine 1 × 1 maps and a fixed shift and sum.

    The wide map is then read once with a plain matrix product; what is shifted has nine channels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Conv2d(9, 1, 3, padding=1, bias=False)
        self.shift.weight.data = torch.eye(9).reshape(1, 9, 3, 3)

    @staticmethod
    def taps(conv: nn.Conv2d) -> Tensor:
        """(9, cin): the weight of every tap, row-major."""
        return dense(conv)[0].flatten(1).T

    def forward(self, taps: Tensor) -> Tensor:
        """(1, 9, H, W) to (1, 1, H, W)."""
        out: Tensor = self.shift(taps)
        return out
