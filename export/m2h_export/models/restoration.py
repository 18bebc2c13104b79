"""Global gated feature merging (GGFM, M2H paper III.A.2): local, attended and unique maps of one task."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2h_export.models.layers import upto


class Restore(nn.Module):
    """Gated sum of a task's own map, its attended map and its unique map, with a pointwise FFN."""

    def __init__(self, channels: int, *, light: bool) -> None:
        super().__init__()
        groups = 4 if light else 1
        hidden = channels * 3 // 2 if light else 4 * channels

        def one(cin: int, cout: int, groups: int = 1) -> nn.Conv2d:
            return nn.Conv2d(cin, cout, 1, groups=groups, bias=False)

        self.conv_orig = one(channels, channels, groups)
        self.conv_attn = one(channels, channels, groups)
        self.conv_uniq = one(channels, channels, groups)
        gate = [one(3 * channels, 3 * channels)]
        if not light:
            gate = [one(3 * channels, channels), nn.ReLU(), one(channels, 3 * channels)]  # type: ignore[list-item]
        self.gate_fc = nn.Sequential(*gate)
        self.ffn = nn.Sequential(one(channels, hidden), nn.ReLU(), one(hidden, channels))
        self.out_conv = one(channels, channels)

    def forward(self, own: Tensor, attended: Tensor, unique: Tensor) -> Tensor:
        """(B, C, H, W), (B, C, H, W) and (B, C, h, w), to (B, C, H, W)."""
        o, a = self.conv_orig(own), self.conv_attn(attended)
        u = upto(self.conv_uniq(unique), (o.shape[-2], o.shape[-1]))
        merged = torch.cat([o, a, u], dim=1)
        gate = torch.sigmoid(self.gate_fc(F.adaptive_avg_pool2d(merged, 1)))
        f = torch.stack((gate * merged).chunk(3, dim=1)).sum(dim=0)
        out: Tensor = self.out_conv(f + self.ffn(f))
        return out
