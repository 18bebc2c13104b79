"""Cameras and tiny cross-view networks for tests."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from m2h_export.models import CrossViewConfig, CrossViewNetwork, CvMConfig, build_model
from m2h_export.models.dinov3 import DinoV3Config
from m2h_export.models.encoders import ConvEncoder, DinoV2Encoder, DinoV3Encoder
from m2h_export.models.vit import ViTConfig
from m2h_export.random_weights import fill_weights

if TYPE_CHECKING:
    from torch import Tensor

    from m2h_export.models import CrossView

ROOT = Path(__file__).resolve().parents[2]
SIZE = (48, 72)
TINY_V3 = DinoV3Config(width=48, depth=4, heads=2, tapped=(0, 1, 2, 3))
TINY_V2 = ViTConfig(width=48, depth=4, heads=2, tapped=(0, 1, 2, 3), trained_grid=4)
ENCODERS = {
    "dinov3": partial(DinoV3Encoder, TINY_V3),
    "dinov2": partial(DinoV2Encoder, TINY_V2),
    "stem": partial(DinoV2Encoder, replace(TINY_V2, patch=16, stem=(8, 16, 24, 32))),
    "conv": partial(ConvEncoder, (8, 16, 24, 32, 40)),
}
TINY_CVM = CvMConfig(
    planes=8, channels=16, cnn=(8, 12, 16), layers=2, expansion=2, adapter=24, upsampled=(8, 6)
)


def tiny(encoder: str = "dinov3", tasks: Any = "nyud", **switches: Any) -> CrossViewNetwork:
    """A network of the papers' form, with filled weights, in evaluation mode."""
    cvm = replace(TINY_CVM, **switches)
    config = CrossViewConfig("tiny", ENCODERS[encoder], (16, 12), cvm, tasks=tasks, num_classes=5)
    network = CrossViewNetwork(config)
    fill_weights(network, 0)
    return network.eval()


@lru_cache(maxsize=4)
def filled(name: str) -> CrossView:
    """A network by name with filled weights. Shared: not to be changed."""
    network = build_model(name, 5)
    fill_weights(network, 0)
    return network.eval()  # type: ignore[return-value]


def pictures(count: int, size: tuple[int, int] = SIZE, seed: int = 0) -> Tensor:
    """(count, 3, H, W), normalised noise."""
    return torch.randn((count, 3, *size), generator=torch.Generator().manual_seed(seed))


def cameras(batch: int, views: int, size: tuple[int, int] = SIZE) -> tuple[Tensor, Tensor]:
    """Poses (B, V, V, 4, 4) between cameras that stand and look about, and intrinsics (B, V, 4)."""
    generator = torch.Generator().manual_seed(views)
    turn = 0.1 * torch.randn((batch, views, 3, 3), generator=generator)
    world = torch.eye(4).repeat(batch, views, 1, 1)
    world[..., :3, :3] = torch.linalg.matrix_exp(turn - turn.transpose(-1, -2))
    world[..., :3, 3] = 0.3 * torch.randn((batch, views, 3), generator=generator)
    poses = torch.linalg.inv(world)[:, None] @ world[:, :, None]  # [i, j] = inverse(world_j) world_i
    each = torch.arange(views)
    poses[:, each, each] = torch.eye(4)
    intrinsics = torch.tensor([60.0, 61.0, size[1] / 2, size[0] / 2]).expand(batch, views, 4)
    return poses, intrinsics
