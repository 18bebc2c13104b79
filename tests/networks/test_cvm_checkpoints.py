"""Weight files of cross-view networks and of encoders."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import save_file
from scenes import filled, pictures

from m2h_export.checkpoints import check_fit, load_backbone, load_network, read_checkpoint
from m2h_export.models import build_model
from m2h_export.models.dinov3 import DINOV3_S, DinoV3
from m2h_export.models.vit import VIT_S, DinoV2
from m2h_export.random_weights import fill_weights
from m2h_runtime.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn


def saved(state: dict[str, Tensor], path: Path) -> Path:
    torch.save(state, path)
    return path


def hollow(model: type[nn.Module], config: object) -> dict[str, Tensor]:
    """An official file's names and shapes; one value stands for each tensor, so the file stays small."""
    with torch.device("meta"):
        state = model(config).state_dict()
    return {name: torch.full((), 0.01).expand(value.shape) for name, value in state.items()}


def test_a_checkpoint_comes_back_whole(tmp_path: Path) -> None:
    network = filled("cvm-nano")
    path = saved(network.state_dict(), tmp_path / "weights.pt")
    loaded = read_checkpoint(path)
    assert loaded.num_classes == 5
    check_fit(loaded, path, "cvm-nano", 5)
    other = build_model("cvm-nano", 5)
    assert load_network(other, loaded)
    image = pictures(1)
    with torch.inference_mode():
        assert torch.equal(other.eval()(image)["depth"], network(image)["depth"])


def test_the_planes_are_no_weights() -> None:
    """Another depth range is another network with the same weights."""
    assert not [name for name in filled("cvm-nano").state_dict() if name.endswith("depths")]


@pytest.mark.parametrize(
    ("held", "asked"), [("cvm-nano", "m2h-nano"), ("m2h-nano+cvm", "cvm-nano"), ("cvm-nano", "m2h-nano+cvm")]
)
def test_weights_of_another_network_name_the_right_one(held: str, asked: str, tmp_path: Path) -> None:
    path = saved(filled(held).state_dict(), tmp_path / "weights.pt")
    with pytest.raises(CheckpointError) as caught:
        check_fit(read_checkpoint(path), path, asked, None)
    assert str(caught.value).endswith(f"these are the weights of {held}: pass --model {held}")


def test_switches_are_part_of_what_fits(tmp_path: Path) -> None:
    network = build_model("cvm-nano", 5, cost_volume=False, tasks="pascal")
    path = saved(network.state_dict(), tmp_path / "weights.pt")
    loaded = read_checkpoint(path)
    check_fit(loaded, path, "cvm-nano", None, cost_volume=False, tasks="pascal")
    with pytest.raises(CheckpointError, match="not the weights of cvm-nano"):
        check_fit(loaded, path, "cvm-nano", None, tasks="pascal")


def test_m2h_weights_load_beside_a_fresh_module(tmp_path: Path) -> None:
    plain = build_model("m2h-nano", 5)
    fill_weights(plain, 0)
    path = saved(plain.state_dict(), tmp_path / "weights.pt")
    loaded = read_checkpoint(path)
    check_fit(loaded, path, "m2h-nano+cvm", None)
    network = build_model("m2h-nano+cvm", 5)
    assert not load_network(network, loaded)
    found = network.state_dict()
    assert all(torch.equal(found[name], value) for name, value in plain.state_dict().items())
    part = {name: value for name, value in plain.state_dict().items() if name != "backbone.cls_token"}
    path = saved(part, tmp_path / "part.pt")
    with pytest.raises(CheckpointError, match=r"1 tensors missing, the first is backbone\.cls_token"):
        check_fit(read_checkpoint(path), path, "m2h-nano+cvm", None)


@pytest.mark.parametrize(
    ("name", "model", "config"), [("cvm-vits", DinoV3, DINOV3_S), ("cvm-vits-dinov2", DinoV2, VIT_S)]
)
def test_official_encoder_weights_load(
    name: str, model: type[nn.Module], config: object, tmp_path: Path
) -> None:
    path = saved(hollow(model, config), tmp_path / "official.pth")
    network = build_model(name, 5)
    load_backbone(network, path)
    assert all((value == 0.01).all() for value in network.backbone.state_dict().values())


def test_what_dinov3_computes_itself_may_be_missing(tmp_path: Path) -> None:
    state = {
        name: value
        for name, value in hollow(DinoV3, DINOV3_S).items()
        if not name.endswith(("periods", "bias_mask"))
    }
    network = build_model("cvm-vits", 5)
    load_backbone(network, saved(state, tmp_path / "official.pth"))
    assert network.backbone.state_dict()["rope_embed.periods"][0] == 1


def test_the_encoder_of_an_m2h_checkpoint_loads(tmp_path: Path) -> None:
    """The demo engine's network lends its eyes to cvm-nano."""
    state = build_model("m2h-nano", 5).state_dict()
    path = tmp_path / "weights.safetensors"
    save_file(state, path)
    network = build_model("cvm-nano", 5)
    load_backbone(network, path)
    assert torch.equal(network.backbone.state_dict()["cls_token"], state["backbone.cls_token"])


def test_encoder_weights_that_do_not_fit_are_one_line(tmp_path: Path) -> None:
    network = build_model("cvm-vits", 5)
    wrong = saved(hollow(DinoV2, VIT_S), tmp_path / "dinov2.pth")
    spoilt = hollow(DinoV3, DINOV3_S) | {"norm.bias": torch.full((384,), torch.nan)}
    for path, says in (
        (wrong, "not the weights of cvm-vits's backbone"),
        (saved(spoilt, tmp_path / "spoilt.pth"), "norm.bias has values that are not finite"),
        (tmp_path / "none.pth", "no such backbone file"),
    ):
        with pytest.raises(CheckpointError, match=says) as caught:
            load_backbone(network, path)
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(f"{path}: ")
