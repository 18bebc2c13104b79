"""Multi-scale token reassembly (MSTR, M2H paper eq. 2): ViT tokens to a pyramid of maps, as in DPT."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from m2h_export.models.fusion import FusionBlock
from m2h_export.models.layers import Activation, ConvUnit

if TYPE_CHECKING:
    from m2h_export.models.vit import Tokens


class Reassemble(nn.Module):
    """Four tapped ViT outputs to maps of `channels[i]` at 4×, 2×, 1× and ½× the patch grid."""

    def __init__(self, width: int, channels: tuple[int, int, int, int], *, light: bool) -> None:
        super().__init__()
        c0, c1, _, c3 = channels
        self.projects = nn.ModuleList(ConvUnit(width, c, 1, light=light, bias=True) for c in channels)
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(c0, c0, 4, 4),
                nn.ConvTranspose2d(c1, c1, 2, 2),
                nn.Identity(),
                nn.Conv2d(c3, c3, 3, 2, padding=1),
            ]
        )
        self.readout_projects = nn.ModuleList(
            nn.Sequential(nn.Linear(2 * width, width), nn.GELU()) for _ in channels
        )

    def forward(self, tapped: list[Tokens]) -> list[Tensor]:
        """Patch maps (B, D, h, w) with class tokens (B, D), to maps (B, channels[i], ·, ·), finest first."""
        maps = []
        for (patches, cls), readout, project, resize in zip(
            tapped, self.readout_projects, self.projects, self.resize_layers, strict=True
        ):
            both = torch.cat([patches, cls[:, :, None, None].expand_as(patches)], dim=1)  # (B, 2D, h, w)
            x = readout(both.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            maps.append(resize(project(x)))
        return maps


class _UniqueReassemble(nn.Module):
    def __init__(self, width: int, *, light: bool) -> None:
        super().__init__()
        self.projects = ConvUnit(width, width, 1, light=light, bias=True)
        self.resize_layers = nn.Conv2d(width, width, 3, 2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.resize_layers(self.projects(x))
        return out


class UniqueFeature(nn.Module):
    """A task's own map U_t straight from the last ViT output (eq. 14): (B, D, h, w) to (B, C, 2q, 2r)."""

    def __init__(self, width: int, channels: int, *, light: bool, activation: Activation = "gelu") -> None:
        super().__init__()
        self.reassemble = _UniqueReassemble(width, light=light)
        self.conv_proj = ConvUnit(width, channels, 3, light=light, bias=True, after="gelu")
        self.fusion_block = FusionBlock(channels, light=light, has_skip=False, activation=activation)

    def forward(self, patches: Tensor) -> Tensor:
        """The class token is not used; q = ceil(h/2), r = ceil(w/2)."""
        out: Tensor = self.fusion_block(self.conv_proj(self.reassemble(patches)))
        return out
