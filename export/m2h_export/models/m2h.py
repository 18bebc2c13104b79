"""The M2H networks (arXiv 2510.17363; where the paper and the published weights differ, the weights decide)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2h_export.models.cross_task import CrossTaskLayer, Mixing
from m2h_export.models.fusion import FusionBlock
from m2h_export.models.heads import ContextHead, PlainHead
from m2h_export.models.layers import ConvUnit, fit, nearest, upto
from m2h_export.models.reassembly import Reassemble, UniqueFeature
from m2h_export.models.restoration import Restore
from m2h_export.models.vit import VIT_B, VIT_L, VIT_NANO, VIT_S, DinoV2, Tokens, ViTConfig

TASKS = ("edges", "normals", "sem_seg", "depth")
"""Token order and norm index of the cross-task attention."""

MIN_DEPTH_M = 0.001


@dataclass(frozen=True)
class M2HConfig:
    """Everything that tells the variants apart.

    Attributes:
        name: as `build_model` and the manifest call it.
        backbone: the ViT.
        channels: C, of the task maps.
        head_channels: channels at the heads' input and after each of their 2× upsampling blocks.
        reassembled: channels of the four reassembled maps.
        light: depthwise separable convolutions and a half-resolution attention detour (`m2h-small`).
        attention_channels: width of the cross-task tokens.
        attention_stride: how much coarser their grid is than the task maps, in the light head.
        mixing_adds: what the tasks learn from each other is added to a task's own map where no gated merging does
            that, instead of replacing it: with a coarse detour, nothing else would be sharp.
        last_fusion_upsamples: the finest fusion block doubles its size; off in `m2h-nano`.
        fusion_activation: of the light residual units.
        labels: "smooth" resizes the logits to the picture bilinearly; "grid" decides on the head's own grid and
            takes the nearest decision: less work for a CPU, outlines that are a little coarser.
        num_classes: of the semantic head.
        mixing: how tasks meet; "mha" and "none" are the paper's ablations (Table VI).
        ggfm: global gated feature merging; off is the paper's ablation.
        heads: attention heads of the cross-task layers.
        window: side of an attention window, in tokens.
        mean, std: what the network's input was normalised with, per RGB channel of 0..1.
    """

    name: str
    backbone: ViTConfig
    channels: int
    head_channels: tuple[int, ...]
    reassembled: tuple[int, int, int, int]
    light: bool
    attention_channels: int
    attention_stride: int = 2
    mixing_adds: bool = False
    last_fusion_upsamples: bool = True
    fusion_activation: Literal["gelu", "relu"] = "gelu"
    labels: Literal["smooth", "grid"] = "smooth"
    num_classes: int = 41
    mixing: Mixing = "wmca"
    ggfm: bool = True
    heads: int = 4
    window: int = 7
    mean: tuple[float, float, float] = (0.4803, 0.4800, 0.4723)
    std: tuple[float, float, float] = (0.2594, 0.2573, 0.2641)

    @property
    def adds_own(self) -> bool:
        """Mixing happens, and adds to what it mixes."""
        return self.mixing_adds and self.mixing != "none"


_FULL = M2HConfig("m2h", VIT_S, 256, (256, 128, 64), (48, 96, 192, 384), light=False, attention_channels=256)
_SMALL = M2HConfig(
    "m2h-small", VIT_S, 96, (96, 128, 64), (48, 96, 192, 384), light=True, attention_channels=24
)
_NANO = M2HConfig(
    "m2h-nano",
    VIT_NANO,
    32,
    (32, 32),
    (32, 48, 64, 96),
    light=True,
    attention_channels=32,
    last_fusion_upsamples=False,
    # A CPU engine keeps its blocked layout through ReLU; GELU would cost it two reorders a time.
    fusion_activation="relu",
    attention_stride=4,
    mixing_adds=True,
    labels="grid",
)
MODELS = {
    config.name: config
    for config in (
        _FULL,
        replace(_FULL, name="m2h-vitb", backbone=VIT_B),
        replace(_FULL, name="m2h-vitl", backbone=VIT_L),
        _SMALL,
        replace(_SMALL, name="m2h-small-vitb", backbone=VIT_B),
        replace(_SMALL, name="m2h-small-vitl", backbone=VIT_L),
        _NANO,
    )
}


class M2HHead(nn.Module):
    """Everything after the backbone; the state dict's `mlt_head.`."""

    def __init__(self, config: M2HConfig) -> None:
        super().__init__()
        self.config = config
        c, light, width = config.channels, config.light, config.backbone.width
        self.reassemble_blocks = Reassemble(width, config.reassembled, light=light)
        self.convs = nn.ModuleList(ConvUnit(r, c, 3, light=light, bias=False) for r in config.reassembled)
        stem = config.backbone.stem
        if stem:  # its maps of stride 4 and 8 are as large as the two finest of the pyramid
            self.stem_projects = nn.ModuleList(nn.Conv2d(cin, c, 1) for cin in stem[1:3])
        for task in TASKS:
            setattr(self, f"fusion_blocks_{task}", self._branch())
            setattr(self, f"project_{task}", ConvUnit(c, c, 3, light=light, bias=True, after="relu"))
        if config.mixing != "none":
            window = config.window if config.mixing == "wmca" else None
            if light:
                self.pre_attn_proj = self._per_task(c, config.attention_channels)
                self.post_attn_proj = self._per_task(config.attention_channels, c)
            self.cross_attn = nn.ModuleList(
                CrossTaskLayer(config.attention_channels, config.heads, len(TASKS), window) for _ in range(2)
            )
        if config.ggfm:
            unique = partial(UniqueFeature, width, c, light=light, activation=config.fusion_activation)
            self.unique_depth_feature, self.unique_semantic_feature = unique(), unique()
            self.restore_depth = Restore(c, light=light)
            self.restore_semseg = Restore(c, light=light)
        self.conv_depth = ContextHead(config.head_channels, 1, 3, light=light)
        self.seg_out = ContextHead(config.head_channels, config.num_classes, 1, light=light)
        self.conv_normal = PlainHead(config.head_channels, 3, light=light)
        self.conv_edge = PlainHead(config.head_channels, 1, light=light)
        # Training starts at a room's depth: below zero the ReLU after it would have no slope.
        nn.init.constant_(cast("Tensor", self.conv_depth.final_conv.bias), 2.0)

    def _branch(self) -> nn.ModuleList:
        c, light, last = self.config.channels, self.config.light, self.config.last_fusion_upsamples
        return nn.ModuleList(
            FusionBlock(
                c,
                light=light,
                has_skip=i > 0,
                activation=self.config.fusion_activation,
                upsample=last or i < 3,
            )
            for i in range(4)
        )

    @staticmethod
    def _per_task(cin: int, cout: int) -> nn.ModuleDict:
        return nn.ModuleDict({task: nn.Conv2d(cin, cout, 1) for task in TASKS})

    def pyramid(self, tapped: list[Tokens], details: list[Tensor]) -> list[Tensor]:
        """Four maps (B, C, ·, ·), finest first: reassembled tokens, and what a stem saw at that scale."""
        maps = [conv(x) for conv, x in zip(self.convs, self.reassemble_blocks(tapped), strict=True)]
        for level, detail in enumerate(details[1:3]):
            maps[level] = maps[level] + self.stem_projects[level](detail)
        return maps

    def task_maps(self, pyramid: list[Tensor]) -> list[Tensor]:
        """The preliminary task features F^t (eq. 3), (B, C, 16q, 16r) each, in the order of `TASKS`."""
        maps = []
        for task in TASKS:
            x = None
            for block, level in zip(getattr(self, f"fusion_blocks_{task}"), reversed(pyramid), strict=True):
                x = block(level) if x is None else block(x, level)
            maps.append(getattr(self, f"project_{task}")(x))
        return maps

    def mix(self, maps: list[Tensor]) -> list[Tensor]:
        """Cross-task attention (eq. 4a); the light head takes a coarser and narrower detour."""
        if self.config.mixing == "none":
            return maps
        if self.config.light:
            stride, size = self.config.attention_stride, (maps[0].shape[-2], maps[0].shape[-1])
            maps = [F.max_pool2d(self.pre_attn_proj[t](x), stride) for t, x in zip(TASKS, maps, strict=True)]
        for layer in self.cross_attn:
            maps = layer(maps)
        if self.config.light:
            maps = [self.post_attn_proj[t](upto(x, size)) for t, x in zip(TASKS, maps, strict=True)]
        return maps

    def predict(
        self, tapped: list[Tokens], details: list[Tensor], finest: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Tapped ViT outputs and the stem's maps (none without one), to the outputs on the heads' own grid.

        `finest` (B, C, ·, ·) is added to the finest level of the pyramid: what a cross-view module saw.
        """
        pyramid = self.pyramid(tapped, details)
        if finest is not None:
            pyramid[0] = pyramid[0] + finest
        own = self.task_maps(pyramid)
        mixed = self.mix(own)
        if self.config.adds_own:
            kept = 2 if self.config.ggfm else 4  # gated merging adds those of semantics and depth itself
            mixed = [x + y for x, y in zip(mixed[:kept], own, strict=False)] + mixed[kept:]
        edges, normals, semantics, depth = mixed
        if self.config.ggfm:
            last = tapped[-1].patches
            depth = self.restore_depth(own[3], depth, self.unique_depth_feature(last))
            semantics = self.restore_semseg(own[2], semantics, self.unique_semantic_feature(last))
        return {
            "depth": F.relu(self.conv_depth(depth)) + MIN_DEPTH_M,
            "semantics": self.seg_out(semantics),
            # Normalised before the resize and not again after it: across creases they come out a little short.
            "normals": F.normalize(torch.tanh(self.conv_normal(normals)), dim=1),
            "edges": self.conv_edge(edges),
        }

    def forward(
        self, tapped: list[Tokens], size: tuple[int, int], details: list[Tensor] | None = None
    ) -> dict[str, Tensor]:
        """The same at the picture's size (H, W)."""
        return self.resize(self.predict(tapped, details or []), size)

    def resize(self, out: dict[str, Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
        """Outputs on the heads' grid, at the picture's size (H, W)."""
        labels = fit if self.config.labels == "smooth" else nearest
        return {task: (labels if task == "semantics" else fit)(x, size) for task, x in out.items()}


class M2H(nn.Module):
    """An M2H network: picture in, four dense predictions out."""

    def __init__(self, config: M2HConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = DinoV2(config.backbone)
        self.mlt_head = M2HHead(config)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Predict the four tasks.

        Args:
            image: float (B, 3, H, W), RGB, normalised with the config's mean and std; any H and W.

        Returns:
            `depth` (B, 1, H, W) metres, >= 0.001; `semantics` (B, K, H, W) logits; `normals` (B, 3, H, W),
            about unit length; `edges` (B, 1, H, W) logits.
        """
        tapped, details = self.backbone(image)
        out: dict[str, Tensor] = self.mlt_head(tapped, (image.shape[-2], image.shape[-1]), details)
        return out

    def predict(self, image: Tensor) -> dict[str, Tensor]:
        """What `forward` gives, but on the heads' own, coarser grid: for losses that need not pay for resizing."""
        out: dict[str, Tensor] = self.mlt_head.predict(*self.backbone(image))
        return out
