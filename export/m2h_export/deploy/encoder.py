"""The deploy form of the backbone and of token reassembly, for one picture size and batch 1."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2h_export.deploy.algebra import bias64, fold_norm, linear, pointwise_of
from m2h_export.models.dinov3 import MaskedLinear

if TYPE_CHECKING:
    from collections.abc import Sequence

    from m2h_export.models.dinov3 import DinoV3, RopeBlock
    from m2h_export.models.layers import ConvUnit
    from m2h_export.models.reassembly import Reassemble
    from m2h_export.models.vit import Block, DinoV2, StemStage


class Rotation(NamedTuple):
    """Rotary positions as tables, float32 (N, d) each: x · cosine + x with its halves swapped · sine."""

    cosine: Tensor
    sine: Tensor


class DeployBlock(nn.Module):
    """A transformer block with the attention scale inside q and LayerScale inside the projections.

    A key bias that is masked out is left out.
    """

    def __init__(self, block: Block | RopeBlock) -> None:
        super().__init__()
        attention = block.attn
        width = attention.proj.in_features
        self.heads = attention.heads
        scale = torch.ones(3 * width, dtype=torch.float64)
        scale[:width] = (width // self.heads) ** -0.5
        qkv = attention.qkv
        bias = bias64(qkv) * scale
        if isinstance(qkv, MaskedLinear):
            bias = bias * cast("Tensor", qkv.bias_mask).double()
        self.qkv = linear(qkv.weight.double() * scale[:, None], bias)
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.proj = _scaled(attention.proj, block.ls1.gamma)
        self.fc1 = block.mlp.fc1
        self.fc2 = _scaled(block.mlp.fc2, block.ls2.gamma)

    def forward(self, x: Tensor, rotation: Rotation | None = None) -> Tensor:
        """(1, N, D) to (1, N, D)."""
        _, count, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(count, 3, self.heads, width // self.heads)
        qkv = qkv.permute(1, 2, 0, 3)  # (3, heads, N, d)
        q, k = qkv[:2] if rotation is None else _turned(qkv[:2], rotation)
        y = torch.softmax(q @ k.transpose(1, 2), dim=-1) @ qkv[2]
        x = x + self.proj(y.transpose(0, 1).reshape(1, count, width))
        out: Tensor = x + self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return out


def _turned(x: Tensor, rotation: Rotation) -> Tensor:
    """Queries and keys (2, heads, N, d) at once."""
    first, second = x.chunk(2, dim=-1)
    return x * rotation.cosine + torch.cat([second, first], dim=-1) * rotation.sine


def _scaled(layer: nn.Linear, gamma: Tensor) -> nn.Linear:
    factor = gamma.detach().double()
    return linear(layer.weight.double() * factor[:, None], bias64(layer) * factor)


class DeployStem(nn.Module):
    """The stages of a convolutional stem with their norms folded in."""

    def __init__(self, stages: Sequence[StemStage]) -> None:
        super().__init__()
        self.down = nn.ModuleList(fold_norm(stage.down, stage.norm) for stage in stages)
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                fold_norm(cast("nn.Conv2d", conv), cast("nn.BatchNorm2d", norm))
                for conv, norm in zip(stage.convs, stage.norms, strict=True)
            )
            for stage in stages
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """(1, 3, H, W) to (1, c_i, H/2ⁱ, W/2ⁱ) from every stage."""
        x, maps = image, []
        for down, block in zip(self.down, self.blocks, strict=True):
            x = F.relu(down(x))
            convs = list(cast("nn.ModuleList", block))
            if convs:
                x = F.relu(x + convs[1](F.relu(convs[0](x))))
            maps.append(x)
        return maps


class DeployEncoder(nn.Module):
    """The ViT for pictures of one size: position embedding interpolated and stored, border added in the graph."""

    def __init__(self, vit: DinoV2, size: tuple[int, int]) -> None:
        super().__init__()
        self.grid, self.padding, self.tapped = vit.grid(*size), vit.padding(*size), vit.config.tapped
        self.project = vit.patch_embed.proj
        stem = [cast("StemStage", stage) for stage in vit.patch_embed.stem] if vit.config.stem else []
        self.stem = DeployStem(stem) if stem else None
        with torch.no_grad():
            positions = vit.positions(*self.grid)
            self.register_buffer("cls", vit.cls_token + positions[:, :1])  # (1, 1, D)
            self.register_buffer("positions", positions[:, 1:].clone())  # (1, h·w, D)
        self.blocks = nn.ModuleList(DeployBlock(cast("Block", block)) for block in vit.blocks)

    def forward(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Normalised (1, 3, H, W) to the tapped tokens (1, 1 + h·w, D) and the stem's maps."""
        if any(self.padding):
            image = F.pad(image, self.padding)
        details = self.stem(image) if self.stem is not None else []
        patches = self.project(details[-1] if details else image).flatten(2).transpose(1, 2) + self.positions
        x = torch.cat([cast("Tensor", self.cls), patches], dim=1)
        tokens = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.tapped:
                tokens.append(x)
        return tokens, details


class DeployDinoV3(nn.Module):
    """DINOv3 for pictures of one size, whole patches: rotary tables are stored, with no turn for the first tokens."""

    def __init__(self, vit: DinoV3, size: tuple[int, int]) -> None:
        super().__init__()
        self.grid, self.tapped = vit.grid(*size), vit.config.tapped
        self.project, self.norm = vit.patch_embed.proj, vit.norm
        with torch.no_grad():
            self.register_buffer("first", torch.cat([vit.cls_token, vit.storage_tokens], dim=1))  # (1, p, D)
            sine, cosine = vit.rope_embed(*self.grid)
        self.others = others = 1 + vit.config.storage_tokens
        half = sine.shape[1] // 2
        sine = torch.cat([-sine[:, :half], sine[:, half:]], dim=1)
        self.register_buffer("cosine", F.pad(cosine, (0, 0, others, 0), value=1.0))  # (p + h·w, d)
        self.register_buffer("sine", F.pad(sine, (0, 0, others, 0)))
        self.blocks = nn.ModuleList(DeployBlock(cast("RopeBlock", block)) for block in vit.blocks)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Normalised (1, 3, H, W) of this size to the tapped patch tokens (1, h·w, D), after the final norm."""
        patches = self.project(image).flatten(2).transpose(1, 2)
        x = torch.cat([cast("Tensor", self.first), patches], dim=1)
        rotation = Rotation(cast("Tensor", self.cosine), cast("Tensor", self.sine))
        tokens = []
        for index, block in enumerate(self.blocks):
            x = block(x, rotation)
            if index in self.tapped:
                tokens.append(self.norm(x[:, self.others :]))
        return tokens


class DeployReadout(nn.Module):
    """GELU(W [patch, class] + b), then the 1 × 1 projection, on tokens.

    W is split: its class half acts once per picture instead of once per patch.
    """

    def __init__(self, readout: nn.Linear, project: ConvUnit) -> None:
        super().__init__()
        width = readout.out_features
        weight = readout.weight.detach()
        self.patch = nn.Linear(width, width, bias=False)
        self.patch.weight.data = weight[:, :width].clone()
        self.cls = linear(weight[:, width:], bias64(readout))
        self.project = linear(*pointwise_of(project))

    def forward(self, tokens: Tensor) -> Tensor:
        """(1, 1 + N, D) to (1, N, c)."""
        out: Tensor = self.project(F.gelu(self.patch(tokens[:, 1:]) + self.cls(tokens[:, :1])))
        return out


class DeployReassemble(nn.Module):
    """Tokens to maps at 4×, 2×, 1× and ½× the patch grid."""

    def __init__(self, published: Reassemble, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.readouts = nn.ModuleList(
            DeployReadout(cast("nn.Linear", cast("nn.Sequential", readout)[0]), cast("ConvUnit", project))
            for readout, project in zip(published.readout_projects, published.projects, strict=True)
        )
        self.resize_layers = published.resize_layers

    def forward(self, tapped: list[Tensor]) -> list[Tensor]:
        """(1, 1 + h·w, D) each, to (1, c_i, ·, ·), finest first."""
        maps = []
        for tokens, readout, resize in zip(tapped, self.readouts, self.resize_layers, strict=True):
            maps.append(resize(tokens_to_map(readout(tokens), self.grid)))
        return maps


def tokens_to_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """(1, h·w, c) to (1, c, h, w)."""
    return tokens.transpose(1, 2).reshape(1, -1, *grid)
