"""The cross-view networks: one geometry by three ways in, every switch, every gradient."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch
from scenes import ENCODERS, SIZE, cameras, filled, pictures, tiny

from m2h_export.models import CVM_MODELS, MODELS, M2HCrossView, build_model, model_names
from m2h_export.models.cross_view import between_all
from m2h_export.models.cvm import CvMConfig
from m2h_export.models.layers import fit
from m2h_export.models.warping import INDOORS, PAPERS, DepthRange
from m2h_export.random_weights import fill_weights
from m2h_runtime.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from m2h_export.models import CrossView

TOLERANCE = 1e-4  # of the largest value; filled weights make large ones
Outputs = dict[str, "Tensor"]


def assert_same(a: Outputs, b: Outputs, tolerance: float = TOLERANCE) -> None:
    assert a.keys() == b.keys()
    off = {task: float((a[task] - b[task]).abs().max() / a[task].abs().max().clamp(min=1)) for task in a}
    assert max(off.values()) <= tolerance, off


def differs(a: Outputs, b: Outputs) -> bool:
    return all(float((a[task] - b[task]).abs().max()) > 1e-3 for task in a)


def neighbours(network: CrossView, images: Tensor, poses: Tensor) -> tuple[Tensor, Tensor]:
    """What a stream hands back of the views after the first: features and poses (N, 3, 4)."""
    return network.encode_spatial(images[0, 1:]), poses[0, 0, 1:, :3]


# Outputs


@pytest.mark.parametrize("size", [(48, 72), (41, 50), (56, 84)])
@pytest.mark.parametrize("encoder", ENCODERS)
@torch.inference_mode()
def test_any_encoder_and_any_size_give_outputs_of_that_size(encoder: str, size: tuple[int, int]) -> None:
    network = tiny(encoder)
    out = network(pictures(2, size))
    assert {task: tuple(x.shape) for task, x in out.items()} == {
        "depth": (2, 1, *size),
        "semantics": (2, 5, *size),
        "normals": (2, 3, *size),
        "edges": (2, 1, *size),
    }
    assert all(x.isfinite().all() for x in out.values())
    assert out["depth"].min() >= 0.001 - 1e-6
    assert out["normals"].norm(dim=1).max() <= 1 + 1e-5
    cells = (-(-size[0] // 8), -(-size[1] // 8))
    assert network.encode_spatial(pictures(2, size)).shape == (2, 16, *cells)


@torch.inference_mode()
def test_pascal_has_its_five_tasks() -> None:
    out = tiny(tasks="pascal")(pictures(1))
    assert {task: x.shape[1] for task, x in out.items()} == {
        "semantics": 5,
        "human_parts": 7,
        "saliency": 2,
        "normals": 3,
        "edges": 1,
    }
    with torch.device("meta"):
        assert build_model("cvm-nano", tasks="pascal").config.num_classes == 21
        assert build_model("cvm-nano").config.num_classes == 41


@torch.inference_mode()
def test_padding_is_right_and_down_and_is_cut_off_again() -> None:
    """A picture in the corner of a black one gives its own predictions, but for what the border lets in."""
    network, image = tiny("conv"), pictures(1, (96, 128))
    black = torch.zeros(1, 3, 96, 128)
    black[..., :90, :121] = image[..., :90, :121]
    whole, cut = network(black), network(image[..., :90, :121])
    assert_same(cut, {task: x[..., :90, :121] for task, x in whole.items()}, 1e-5)


@torch.inference_mode()
def test_maps_of_any_stride_are_aligned_with_the_picture() -> None:
    """A bright spot is found where it is, by encoders of stride 14 and 16 alike."""
    for encoder in ("dinov2", "dinov3"):
        network = tiny(encoder, cost_volume=False, cross_view_features=False)
        spot = torch.zeros(1, 3, 112, 112)
        spot[..., 60:76, 28:44] = 5
        out = network.predict(spot)["edges"] - network.predict(torch.zeros_like(spot))["edges"]
        weight = out.abs()[0, 0].square()
        ys, xs = torch.meshgrid(torch.arange(56.0), torch.arange(56.0), indexing="ij")
        y, x = (float((2 * at * weight).sum() / weight.sum()) for at in (ys, xs))
        assert abs(y - 68) < 14
        assert abs(x - 36) < 14


# One network, three ways in


@pytest.mark.parametrize("name", ["cvm-nano", "cvm-conv", "m2h-nano+cvm"])
@torch.inference_mode()
def test_single_view_is_the_same_by_all_ways(name: str) -> None:
    network, image = filled(name), pictures(1)
    alone = network(image)
    poses, lens = torch.eye(4), torch.tensor([60.0, 61, 36, 24])
    once = network.forward_views(image[:, None], poses.expand(1, 1, 1, 4, 4), lens.expand(1, 1, 4))
    twice = network.forward_views(
        image[:, None].expand(-1, 2, -1, -1, -1), poses.expand(1, 2, 2, 4, 4), lens.expand(1, 2, 4)
    )
    handed = torch.full((1, *network.encode_spatial(image).shape[1:]), 1e3)
    streamed, features = network.forward_stream(image, handed, poses[None, :3], lens)
    assert torch.equal(features, network.encode_spatial(image))
    for task, x in alone.items():
        assert once[task].shape == (1, 1, *x.shape[1:])
    assert_same(alone, {task: x[:, 0] for task, x in once.items()})
    assert_same(alone, {task: x[:, 0] for task, x in twice.items()})
    assert_same(alone, {task: x[:, 1] for task, x in twice.items()})
    assert_same(alone, streamed)


@pytest.mark.parametrize("views", [2, 3, 4])
@pytest.mark.parametrize("name", ["tiny", "m2h-nano+cvm"])
@torch.inference_mode()
def test_a_stream_gives_what_all_views_at_once_give(name: str, views: int) -> None:
    network = tiny() if name == "tiny" else filled(name)
    images = pictures(views)[None]
    poses, lens = cameras(1, views)
    together = network.forward_views(images, poses, lens)
    streamed, features = network.forward_stream(images[:, 0], *neighbours(network, images, poses), lens[0, 0])
    assert_same(streamed, {task: x[:, 0] for task, x in together.items()})
    assert torch.equal(features, network.encode_spatial(images[:, 0]))
    alone = network(images[:, 0])
    assert differs(alone, streamed), "the neighbour is looked at"


@torch.inference_mode()
def test_of_two_neighbours_the_one_at_the_identity_is_the_frame_itself() -> None:
    network, images = tiny(), pictures(3)[None]
    poses, lens = cameras(1, 3)
    features, relative = neighbours(network, images, poses)
    relative = relative.clone()
    relative[1] = torch.eye(4)[:3]
    usual, _ = network.forward_stream(images[:, 0], features, relative, lens[0, 0])
    features[1] = 100
    found, _ = network.forward_stream(images[:, 0], features, relative, lens[0, 0])
    assert_same(found, usual, 0)
    features[0] = 100
    other, _ = network.forward_stream(images[:, 0], features, relative, lens[0, 0])
    assert differs(other, usual)


@torch.inference_mode()
def test_swapping_views_swaps_outputs() -> None:
    network, images = tiny(), pictures(3)[None]
    poses, lens = cameras(1, 3)
    order = [1, 2, 0]
    usual = network.forward_views(images, poses, lens)
    swapped = network.forward_views(images[:, order], poses[:, order][:, :, order], lens[:, order])
    assert_same(swapped, {task: x[:, order] for task, x in usual.items()})
    assert differs(swapped, usual)


@torch.inference_mode()
def test_scenes_of_a_batch_do_not_meet() -> None:
    network, images = tiny(), pictures(4).view(2, 2, 3, *SIZE)
    poses, lens = cameras(2, 2)
    together = network.forward_views(images, poses, lens)
    for b in range(2):
        alone = network.forward_views(images[b : b + 1], poses[b : b + 1], lens[b : b + 1])
        assert_same(alone, {task: x[b : b + 1] for task, x in together.items()})


@torch.inference_mode()
def test_the_pose_and_the_lens_matter() -> None:
    network, images = tiny(), pictures(2)[None]
    poses, lens = cameras(1, 2)
    usual = network.forward_views(images, poses, lens)
    assert differs(usual, network.forward_views(images, poses.transpose(1, 2), lens))
    assert differs(usual, network.forward_views(images, poses, lens * 2))
    plain = tiny(cost_volume=False)
    assert_same(
        plain.forward_views(images, poses, lens), plain.forward_views(images, poses.transpose(1, 2), lens), 0
    )


def test_poses_between_all_views_are_consistent() -> None:
    poses, _ = cameras(1, 4)
    torch.testing.assert_close(between_all(poses[0, 0, 1:, :3]), poses[0], atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_heads_on_their_own_grid_are_what_is_resized() -> None:
    network, image = tiny(), pictures(1)
    coarse = network.predict(image)
    assert coarse["depth"].shape == (1, 1, SIZE[0] // 2, SIZE[1] // 2)
    assert_same(network(image), {task: fit(x, SIZE) for task, x in coarse.items()}, 0)
    poses, lens = cameras(1, 2)
    views = network.predict_views(pictures(2)[None], poses, lens)
    assert views["semantics"].shape == (1, 2, 5, SIZE[0] // 2, SIZE[1] // 2)


def test_more_than_four_views_are_refused() -> None:
    with pytest.raises(InputError, match="5 views, expected 1 to 4"):
        tiny().forward_views(torch.zeros(1, 5, 3, *SIZE), *cameras(1, 5))


# Switches

SWITCHES: dict[str, dict[str, Any]] = {
    "full": {},
    "no cost volume": {"cost_volume": False},
    "no cross-view features": {"cross_view_features": False},
    "baseline": {"cost_volume": False, "cross_view_features": False},
    "encoder": {"spatial": "encoder"},
    "encoder with LoRA": {"spatial": "encoder-lora"},
    "encoder with adapters": {"spatial": "encoder-adapter"},
    "self-attention": {"interaction": "self-attention"},
    "96 planes": {"planes": 96},
    "the papers' range": {"depths": PAPERS},
}


def parts(network: CrossView) -> set[str]:
    """Of the module, two levels deep."""
    return {".".join(name.split(".")[1:3]) for name in network.state_dict() if name.startswith("cvm.")}


def test_every_switch_changes_the_parameters_that_it_should() -> None:
    usual = parts(tiny())
    assert {p.split(".")[0] for p in usual} == {"cnn", "transformer", "upsample_features", "upsample_costs"}

    def without(name: str) -> set[str]:
        return {p for p in usual if not p.startswith(name)}

    assert parts(tiny(cost_volume=False)) == without("upsample_costs")
    assert parts(tiny(cross_view_features=False)) == without("upsample_features")
    assert parts(tiny(cost_volume=False, cross_view_features=False)) == set()
    encoder = without("cnn") | {"from_encoder.projects", "from_encoder.norm"}
    assert parts(tiny(spatial="encoder")) == encoder
    assert parts(tiny(spatial="encoder-lora")) == encoder | {"lora.down", "lora.up"}
    assert parts(tiny(spatial="encoder-adapter")) == encoder | {"from_encoder.adapters"}
    assert parts(tiny(interaction="self-attention")) == encoder - {
        p for p in usual if p.startswith("upsample_costs")
    }
    assert parts(tiny(depths=PAPERS)) == usual
    planes = {name: x.shape for name, x in tiny(planes=96).state_dict().items()}
    changed = {name for name, x in tiny().state_dict().items() if planes[name] != x.shape}
    assert changed
    assert all(name.startswith("cvm.upsample_costs.") for name in changed)


@pytest.mark.parametrize("switch", [name for name in SWITCHES if name != "full"])
@torch.inference_mode()
def test_every_switch_changes_what_comes_out(switch: str) -> None:
    images, (poses, lens) = pictures(2)[None], cameras(1, 2)
    usual = tiny().forward_views(images, poses, lens)
    found = tiny(**SWITCHES[switch]).forward_views(images, poses, lens)
    assert all(x.isfinite().all() for x in found.values())
    assert differs(usual, found)


@torch.inference_mode()
def test_the_baseline_and_self_attention_look_at_one_view_only() -> None:
    images, (poses, lens) = pictures(2)[None], cameras(1, 2)
    for switch in ("baseline", "self-attention"):
        network = tiny(**SWITCHES[switch])
        together = network.forward_views(images, poses, lens)
        assert_same({task: x[:, 0] for task, x in together.items()}, network(images[:, 0]))


def test_the_baseline_has_no_features_to_hand_on() -> None:
    network = tiny(**SWITCHES["baseline"])
    assert network.cvm is None
    with pytest.raises(InputError, match="no module"):
        network.encode_spatial(pictures(1))


@pytest.mark.parametrize("name", ["cvm-vitl", "cvm-vits"])
def test_self_attention_is_of_equal_size(name: str) -> None:
    def millions(**switches: Any) -> float:
        with torch.device("meta"):
            module = build_model(name, **switches).cvm
        assert module is not None
        return sum(p.numel() for p in module.parameters()) / 1e6

    assert millions(interaction="self-attention") == pytest.approx(millions(), rel=0.1)


@torch.inference_mode()
def test_lora_begins_as_the_encoder_itself_and_leaves_it_alone() -> None:
    network, image = tiny(spatial="encoder-lora"), pictures(1)
    changed = network.encode_spatial(image)
    maps = [x.clone() for x in network.encoder(image)]
    assert network.cvm is not None and network.cvm.lora is not None
    for up in network.cvm.lora.up:
        up.zero_()
    plain = network.encode_spatial(image)
    assert (plain - changed).abs().max() > 1e-3
    torch.testing.assert_close(plain, network.cvm.from_encoder(maps, (6, 9)))
    assert all(torch.equal(x, y) for x, y in zip(network.encoder(image), maps, strict=True))
    assert network.cvm.lora.down[0].shape[0] == 16


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("encoder", ["dinov3", "stem"])
def test_gradients_reach_every_parameter(encoder: str, switch: str) -> None:
    network = tiny(encoder, **SWITCHES[switch]).train()
    poses, lens = cameras(1, 2)
    out = network.predict_views(pictures(2)[None], poses, lens)
    sum(x.square().mean() for x in out.values()).backward()
    without = {name for name, p in network.named_parameters() if p.grad is None}
    assert without == {"encoder.vit.mask_token"}
    grads = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    assert all(grad.isfinite().all() for grad in grads.values())
    assert not [name for name, grad in grads.items() if name.endswith("weight") and not grad.any()]


def test_wrong_switches_are_named() -> None:
    for given, says in (
        ({"plane": 96}, "no switch 'plane' .*nearest is 'planes'"),
        ({"planes": 1}, "planes: 1, expected 2 or more"),
        ({"views": 5}, "views: 5, expected 1 to 4"),
        ({"depths": DepthRange(2, 1)}, "expected 0 < near < far"),
        ({"interaction": "self-attention", "cross_view_features": False}, "gives features only"),
        ({"tasks": "cityscapes"}, "expected one of nyud, pascal"),
        ({"mixing": "none"}, "mixing and ggfm are M2H's"),
    ):
        with pytest.raises(InputError, match=says):
            build_model("cvm-nano", **given)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="has the tasks of 'nyud' only"):
        build_model("m2h-nano+cvm", tasks="pascal")
    with pytest.raises(InputError, match=r"take m2h-nano\+cvm"):
        build_model("m2h-nano", planes=96)
    with pytest.raises(InputError, match="need one of the cvm- networks"):
        build_model("m2h-nano+cvm", spatial="encoder")
    with pytest.raises(InputError, match="needs an encoder with attention"):
        build_model("cvm-conv", spatial="encoder-lora")


def test_every_name_is_built_and_described() -> None:
    names = model_names()
    assert len(set(names)) == len(names) == 2 * len(MODELS) + len(CVM_MODELS)
    for name, config in CVM_MODELS.items():
        assert config.name == name
        assert config.cvm.depths == INDOORS
    with torch.device("meta"):
        for name in ("cvm-vits", "cvm-vitb-dinov2", "m2h-small+cvm"):
            assert build_model(name).config.name == name


def test_the_defaults_are_the_papers() -> None:
    config = CvMConfig()
    assert (config.planes, config.channels, config.layers, config.views) == (128, 128, 6, 2)


# On M2H


@torch.inference_mode()
def test_m2h_with_the_module_is_m2h_at_the_start() -> None:
    plain = build_model("m2h-nano", 5).eval()
    fill_weights(plain, 0)
    network = build_model("m2h-nano+cvm", 5).eval()
    missing, extra = network.load_state_dict(plain.state_dict(), strict=False)
    assert not extra
    assert {name.split(".")[0] for name in missing} == {"cvm", "join"}
    for size in ((48, 72), (41, 50)):
        assert_same(network(pictures(1, size)), plain(pictures(1, size)), 1e-6)
    images, (poses, lens) = pictures(2)[None], cameras(1, 2)
    views = network.forward_views(images, poses, lens)
    assert_same({task: x[:, 1] for task, x in views.items()}, plain(images[:, 1]), 1e-5)


def test_m2h_learns_to_use_the_module() -> None:
    network = copy.deepcopy(filled("m2h-nano+cvm")).train()
    assert isinstance(network, M2HCrossView)
    poses, lens = cameras(1, 2)
    out = network.predict_views(pictures(2)[None], poses, lens)
    sum(x.square().mean() for x in out.values()).backward()
    without = {name for name, p in network.named_parameters() if p.grad is None}
    assert without == {"backbone.mask_token", "backbone.norm.weight", "backbone.norm.bias"}
    assert network.join.weight.grad is not None and network.join.weight.grad.any()


def test_a_fresh_join_lets_gradients_in() -> None:
    """Zero weights: the join itself learns from the first step, and then what lies before it."""
    network = build_model("m2h-nano+cvm", 5).train()
    assert isinstance(network, M2HCrossView)
    assert not network.join.weight.any()
    sum(x.square().mean() for x in network.predict(pictures(2)).values()).backward()
    assert network.join.weight.grad is not None and network.join.weight.grad.any()


@torch.inference_mode()
def test_m2h_sees_the_module_where_the_picture_is() -> None:
    """M2H pads on all sides: a spot in the module's map lands at the same place of the picture."""
    network = copy.deepcopy(filled("m2h-nano+cvm"))
    assert isinstance(network, M2HCrossView)
    size = (40, 56)  # padded by 4 above and below, and on both sides
    network.join.weight.fill_(1)
    network.join.bias.zero_()
    spot = torch.zeros(1, network.join.in_channels, 20, 28)
    spot[..., 8:12, 16:20] = 1  # pixels 16..24 and 32..40
    found = network._joined(spot, size)[0, 0]
    assert found.shape == (12, 16)
    ys, xs = found.nonzero(as_tuple=True)
    # Cells of 4 pixels of the padded picture.
    assert (4 * int(ys.min()) - 4, 4 * int(ys.max()) + 4 - 4) == (16, 24)
    assert (4 * int(xs.min()) - 4, 4 * int(xs.max()) + 4 - 4) == (32, 40)
