"""Encoders behind one interface: whatever gives maps carries the module."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from scenes import ENCODERS, ROOT, cameras, pictures
from torch import nn

from m2h_export.models import CVM_MODELS
from m2h_export.models.dinov3 import DINOV3_L, DINOV3_S
from m2h_export.models.encoders import DinoV2Encoder, DinoV3Encoder, Encoder
from m2h_export.models.spatial import resized
from m2h_export.models.vit import VIT_L

SCALES = {
    "dinov3": [(16, 48)] * 4,
    "dinov2": [(14, 48)] * 4,
    "stem": [(4, 16), (8, 24), *[(16, 48)] * 4],
    "conv": [(4, 16), (8, 24), (16, 32), (32, 40)],
}


@pytest.mark.parametrize("name", ENCODERS)
@torch.inference_mode()
def test_maps_are_what_the_scales_say(name: str) -> None:
    encoder = ENCODERS[name]().eval()
    assert [(scale.stride, scale.channels) for scale in encoder.scales] == SCALES[name]
    assert len({scale.name for scale in encoder.scales}) == len(encoder.scales)
    side = 2 * 7 * 32
    maps = encoder(torch.zeros(1, 3, side, side))
    assert [tuple(x.shape) for x in maps] == [
        (1, scale.channels, side // scale.stride, side // scale.stride) for scale in encoder.scales
    ]


def test_large_transformers_are_read_where_the_papers_read_them() -> None:
    with torch.device("meta"):
        found = [DinoV3Encoder(DINOV3_L), DinoV3Encoder(DINOV3_S), DinoV2Encoder(VIT_L)]
    names = [[scale.name for scale in encoder.scales] for encoder in found]
    assert names[0] == names[2] == ["block5", "block12", "block18", "block24"]
    assert names[1] == ["block3", "block6", "block9", "block12"]


def test_an_encoder_has_to_say_how_it_sees() -> None:
    class Blind(Encoder):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Blind()  # type: ignore[abstract]


def test_resizing_keeps_the_top_left_corner() -> None:
    """The centre of cell i of stride s is pixel s i + (s - 1) / 2, at any stride."""
    for stride in (14, 16, 8, 4):
        at = torch.arange(112 // stride) * stride + (stride - 1) / 2
        ramp = at.expand(1, 1, len(at), -1).clone()
        found = resized(ramp, stride, 2, (40, 50))
        assert found.shape == (1, 1, 40, 50)
        inside = torch.arange(8, 40)
        torch.testing.assert_close(found[0, 0, 0, inside], 2.0 * inside + 0.5)


class Theirs(nn.Module):
    """A ViT of somebody else: a class token and five registers before the patches."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 20, 16, 16)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        patches = self.embed(image).flatten(2).transpose(1, 2)
        return torch.cat([patches.new_full((len(image), 6, 20), 9.0), patches], dim=1)


@torch.inference_mode()
def test_the_adapter_of_the_manual_works() -> None:
    text = (ROOT / "docs" / "cvm.md").read_text(encoding="utf-8")
    code = re.search(r"### Another encoder.*?```python\n(.*?)```", text, re.DOTALL)
    assert code is not None
    names: dict[str, Any] = {}
    exec(code[1], names)  # noqa: S102 - the manual's own
    network = names["network_on"](Theirs(), 20).eval()
    images, (poses, lens) = pictures(2)[None], cameras(1, 2)
    out = network.forward_views(images, poses, lens)
    assert out["depth"].shape == (1, 2, 1, *images.shape[-2:])
    assert network.config.name == "cvm-theirs"
    assert CVM_MODELS["cvm-nano"].name == "cvm-nano"
