"""DINOv3: the official names, and the numbers of the authors' own code."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
import torch
from golden import DATA, input_image, largest_difference

from m2h_export.models.dinov3 import DINOV3_B, DINOV3_L, DINOV3_S, DinoV3, DinoV3Config
from m2h_export.random_weights import fill_weights

TOLERANCE = 2e-5  # measured: 0; a wrong epsilon is off by 2e-4


@pytest.fixture(scope="module")
def network() -> DinoV3:
    model = DinoV3(DINOV3_S)
    fill_weights(model, 0)
    return model.eval()


@torch.inference_mode()
def differences(model: DinoV3) -> list[float]:
    """Of the class token and the stored patch channels, per tapped output."""
    outputs = model(input_image(0, (224, 224)))
    found = []
    with np.load(DATA / "golden_dinov3-vits16_seed0_224x224.npz", allow_pickle=False) as stored:
        for i, (patches, cls) in enumerate(outputs):
            found.append(largest_difference(cls[0], stored[f"cls_{i}"]))
            found.append(largest_difference(patches[0, ::8], stored[f"patch_{i}"]))
    return found


def test_names_and_shapes_are_the_official_ones(network: DinoV3) -> None:
    with gzip.open(DATA / "state_dict_dinov3-vits16.json.gz", "rt", encoding="utf-8") as stream:
        wanted = {name: tuple(shape) for name, shape in json.load(stream).items()}
    assert {name: tuple(value.shape) for name, value in network.state_dict().items()} == wanted


@pytest.mark.parametrize(("config", "millions"), [(DINOV3_S, 21.6), (DINOV3_B, 85.7), (DINOV3_L, 303)])
def test_sizes_are_the_published_ones(config: DinoV3Config, millions: float) -> None:
    with torch.device("meta"):
        model = DinoV3(config)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=2e-3)
    assert config.tapped[-1] == config.depth - 1


def test_features_are_the_golden_ones(network: DinoV3) -> None:
    found = differences(network)
    assert len(found) == 8
    assert max(found) <= TOLERANCE, found


@pytest.mark.parametrize("wrong", ["epsilon", "key bias", "positions", "storage tokens"])
def test_golden_comparison_sees_what_is_wrong(network: DinoV3, wrong: str) -> None:
    model = DinoV3(DINOV3_S).eval()
    model.load_state_dict(network.state_dict())
    for name, module in model.named_modules():
        if wrong == "epsilon" and isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-6
        if wrong == "key bias" and name.endswith("qkv"):
            module.bias_mask.fill_(1)
    if wrong == "positions":
        model.rope_embed.periods *= 1.01
    if wrong == "storage tokens":
        model.storage_tokens.data.zero_()
    assert max(differences(model)) > 2 * TOLERANCE


def test_any_picture_is_padded_right_and_down() -> None:
    model = DinoV3(DinoV3Config(width=48, depth=4, heads=2, tapped=(0, 1, 2, 3))).eval()
    image = torch.randn(1, 3, 41, 50)
    padded = torch.nn.functional.pad(image, (0, 14, 0, 7))
    for found, wanted in zip(model(image), model(padded), strict=True):
        assert found.patches.shape == (1, 48, 3, 4)
        assert torch.equal(found.patches, wanted.patches)
