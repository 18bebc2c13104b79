"""What the cross-view heads read: multi-scale maps of a picture, whatever network made them.

A new encoder is a subclass of `Encoder` with two things: `scales`, and a forward that gives those maps. docs/cvm.md
shows one for features of somebody else's network.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, nn

from m2h_export.models.dinov3 import DinoV3, DinoV3Config
from m2h_export.models.vit import DinoV2, StemStage, ViTConfig

if TYPE_CHECKING:
    from collections.abc import Sequence


class Scale(NamedTuple):
    """One map of an encoder: a name, pixels of the picture per cell, and channels."""

    name: str
    stride: int
    channels: int


class Encoder(nn.Module, ABC):
    """A picture to maps of one or more scales.

    Attributes:
        scales: what the maps are, in the order in which `forward` gives them.
    """

    scales: tuple[Scale, ...]

    @property
    def backbone(self) -> nn.Module:
        """The network whose published weights there are; it keeps their names."""
        return self

    @property
    def stride(self) -> int:
        """Pictures are padded to a multiple of it, right and down, before they come here."""
        return max(scale.stride for scale in self.scales)

    @abstractmethod
    def forward(self, image: Tensor) -> list[Tensor]:
        """Normalised (B, 3, H, W), whole strides, to one (B, channels, H/stride, W/stride) per scale."""


def patch_scales(tapped: Sequence[int], stride: int, width: int) -> tuple[Scale, ...]:
    """The scales of a plain ViT: tapped blocks, counted from 1 in their names, all at the patch's stride."""
    return tuple(Scale(f"block{index + 1}", stride, width) for index in tapped)


class DinoV3Encoder(Encoder):
    """DINOv3: four tapped outputs."""

    def __init__(self, config: DinoV3Config) -> None:
        super().__init__()
        self.vit = DinoV3(config)
        self.scales = patch_scales(config.tapped, config.patch, config.width)

    @property
    def backbone(self) -> DinoV3:
        """Official names."""
        return self.vit

    def forward(self, image: Tensor) -> list[Tensor]:
        """Four (B, D, H/16, W/16)."""
        return [tokens.patches for tokens in self.vit(image)]


class DinoV2Encoder(Encoder):
    """DINOv2, or a ViT behind a convolutional stem: the stem's maps from stride 4 on, then four tapped outputs."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.vit = DinoV2(config)
        stem = tuple(Scale(f"stem{2**i}", 2**i, c) for i, c in enumerate(config.stem[1:-1], start=2))
        self.scales = stem + patch_scales(config.tapped, config.patch, config.width)

    @property
    def backbone(self) -> DinoV2:
        """Official names."""
        return self.vit

    def forward(self, image: Tensor) -> list[Tensor]:
        """The stem's maps (B, c, H/2ⁱ, W/2ⁱ) of strides 4 and 8 if there is one, and four (B, D, H/p, W/p)."""
        tapped, details = self.vit(image)
        # M2H reads the blocks as they are; the heads here read what DINOv2 gives out, after its final norm.
        patches = [self.vit.norm(tokens.patches.movedim(1, -1)).movedim(-1, 1) for tokens in tapped]
        return [*details[1:-1], *patches]


class ConvEncoder(Encoder):
    """A small ResNet-like network with maps at strides 4, 8, 16 and 32: what is not a transformer."""

    def __init__(self, widths: tuple[int, int, int, int, int] = (24, 48, 96, 160, 256)) -> None:
        super().__init__()
        self.stages = nn.ModuleList(StemStage(cin, cout) for cin, cout in pairwise((3, *widths)))
        self.scales = tuple(Scale(f"stage{2**i}", 2**i, c) for i, c in enumerate(widths[1:], start=2))

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, c_i, H/4, W/4) to (B, c_i, H/32, W/32)."""
        x, maps = image, []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps[1:]
