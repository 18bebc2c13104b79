"""The deploy form of cross-view networks is the same function of the same weights."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pytest
import torch
from golden import input_image, largest_difference

from m2h_export.deploy.cost_volume import DeployCostVolume, zero_of
from m2h_export.deploy.cross_view import DeployTransformer, spans
from m2h_export.deploy.encoder import DeployDinoV3
from m2h_export.deploy.streaming import check_streams, deploy_encoder, deploy_stream
from m2h_export.models import CVM_MODELS, CrossViewNetwork, CvMConfig, build_model
from m2h_export.models.cross_view import cells
from m2h_export.models.dinov3 import DinoV3, DinoV3Config
from m2h_export.models.encoders import DinoV2Encoder, DinoV3Encoder, Encoder, Scale
from m2h_export.models.layers import nearest
from m2h_export.models.multi_view import MultiViewTransformer
from m2h_export.models.vit import ViTConfig
from m2h_export.models.warping import cost_volume, plane_depths
from m2h_export.random_weights import fill_weights
from m2h_runtime.errors import InputError

if TYPE_CHECKING:
    from m2h_export.deploy.streaming import DeployStream
    from m2h_export.models import CrossView

SIZES = [(64, 96), (71, 89)]  # whole cells and patches, and neither
TAPPED = (0, 1, 2, 3)
SMALL = CvMConfig(
    planes=16, channels=32, cnn=(8, 16, 24), layers=4, expansion=2, adapter=40, upsampled=(12, 8)
)
TOLERANCES = {"depth": 3e-5, "normals": 3e-4, "edges": 3e-5, "semantics": 3e-5, "features": 1e-5}
"""Of the largest value of each output; random weights make costs of hundreds."""


def dinov3() -> DinoV3Encoder:
    return DinoV3Encoder(DinoV3Config(width=48, depth=4, heads=3, tapped=TAPPED))


def dinov2() -> DinoV2Encoder:
    return DinoV2Encoder(ViTConfig(width=48, depth=4, heads=3, tapped=TAPPED, trained_grid=6))


ENCODERS = {"tiny-dinov3": dinov3, "tiny-dinov2": dinov2}


@lru_cache(maxsize=16)
def network(name: str, **switches: Any) -> CrossView:
    """In evaluation mode, with filled weights."""
    if name in ENCODERS:
        config = replace(
            CVM_MODELS["cvm-vits"],
            name=name,
            encoder=ENCODERS[name],
            cvm=replace(SMALL, **switches),
            num_classes=7,
        )
        model = CrossViewNetwork(replace(config, head_channels=(16, 12)))
    else:
        model = build_model(name, **switches)
    fill_weights(model, 0)
    return model.eval()


def turned(angle: float) -> list[list[float]]:
    cosine, sine = math.cos(angle), math.sin(angle)
    return [[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]]


def poses(kind: str, neighbours: int) -> torch.Tensor:
    found = torch.eye(3, 4).repeat(neighbours, 1, 1)
    if kind == "translation":
        found[:, :, 3] = torch.tensor([0.12, -0.03, 0.05])
    if kind == "rotation":
        found[:, :, :3] = torch.tensor(turned(0.08))
    if kind == "behind the camera":
        found[:, 2, 3] = -1.5
    if kind == "one of each":
        found[-1, :, :3], found[-1, 0, 3] = torch.tensor(turned(-0.05)), 0.2
    return found


def inputs(model: CrossView, size: tuple[int, int], kind: str, neighbours: int) -> tuple[torch.Tensor, ...]:
    """A picture, features that no picture has, poses and a camera."""
    assert model.cvm is not None
    features = torch.randn(
        neighbours, model.cvm.config.channels, *cells(size), generator=torch.Generator().manual_seed(1)
    )
    camera = torch.tensor([80.0, 84.0, size[1] / 2 - 3, size[0] / 2 + 2])
    return input_image(3, size), features, poses(kind, neighbours), camera


@torch.inference_mode()
def stream(form: CrossView | DeployStream, given: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
    """Outputs at the picture's size, and the features."""
    out, features = form.forward_stream(*given)
    out["semantics"] = nearest(out["semantics"], (given[0].shape[-2], given[0].shape[-1]))
    return {**out, "features": features}


def too_far(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> dict[str, float]:
    """Differences above the tolerance, as parts of the largest value."""
    parts = {
        name: largest_difference(found[name], value) / float(value.abs().max())
        for name, value in wanted.items()
    }
    return {name: part for name, part in parts.items() if not part <= TOLERANCES[name]}


KINDS = ("identity", "translation", "rotation", "behind the camera")


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["cvm-nano", "m2h-nano+cvm", "tiny-dinov3"])
def test_a_frame_with_one_neighbour(name: str, kind: str, size: tuple[int, int]) -> None:
    model = network(name)
    given = inputs(model, size, kind, 1)
    assert not too_far(stream(deploy_stream(model, size, 1), given), stream(model, given))


@pytest.mark.parametrize("kind", [*KINDS[1:], "one of each"])
@pytest.mark.parametrize("name", ["cvm-nano", "tiny-dinov3"])
def test_a_frame_with_two_neighbours(name: str, kind: str) -> None:
    model = network(name)
    given = inputs(model, SIZES[0], kind, 2)
    assert not too_far(stream(deploy_stream(model, SIZES[0], 2), given), stream(model, given))


@pytest.mark.parametrize("name", ["cvm-conv", "tiny-dinov2"])
def test_other_encoders(name: str) -> None:
    model = network(name)
    given = inputs(model, SIZES[1], "translation", 1)
    assert not too_far(stream(deploy_stream(model, SIZES[1], 1), given), stream(model, given))


@pytest.mark.parametrize("switch", ["cost_volume", "cross_view_features"])
def test_ablations_of_what_the_heads_get(switch: str) -> None:
    model = network("tiny-dinov3", **{switch: False})
    given = inputs(model, SIZES[0], "translation", 1)
    assert not too_far(stream(deploy_stream(model, SIZES[0], 1), given), stream(model, given))


def test_the_identity_pose_is_the_single_view_whatever_the_features_are() -> None:
    model = network("cvm-nano")
    given = inputs(model, SIZES[1], "identity", 1)
    with torch.inference_mode():
        alone = model(given[0])
    found = stream(deploy_stream(model, SIZES[1], 1), given)
    assert not too_far({task: found[task] for task in alone}, alone)


def test_features_handed_back_are_the_second_view() -> None:
    """A stream of two frames is `forward_views` of both, for the second frame."""
    model, size = network("tiny-dinov3"), SIZES[0]
    deployed, pose = deploy_stream(model, size, 1), poses("translation", 1)
    first, second = input_image(3, size), input_image(5, size)
    camera = torch.tensor([80.0, 84.0, 47.5, 31.5])
    earlier = stream(deployed, (first, torch.zeros_like(inputs(model, size, "", 1)[1]), poses("", 1), camera))
    found = stream(deployed, (second, earlier["features"], pose, camera))
    forth = torch.cat([pose[0], torch.tensor([[0.0, 0, 0, 1]])])
    between = torch.stack([torch.eye(4), forth, torch.linalg.inv(forth), torch.eye(4)]).view(1, 2, 2, 4, 4)
    with torch.inference_mode():
        both = model.forward_views(torch.stack([second, first], dim=1), between, camera.expand(1, 2, 4))
    assert not too_far({task: found[task] for task in both}, {task: x[:, 0] for task, x in both.items()})


def test_the_comparison_sees_one_damaged_weight() -> None:
    """Each of many weights of the deploy form in turn, 20 % noise on it."""
    model, size = network("tiny-dinov3"), SIZES[0]
    given = inputs(model, size, "translation", 1)
    wanted, deployed = stream(model, given), deploy_stream(model, size, 1)
    state = deployed.state_dict()
    names = [name for name, value in state.items() if value.is_floating_point() and value.numel() > 1]
    unseen = []
    for name in names[::7]:
        good = state[name].clone()
        noise = torch.randn(good.shape, generator=torch.Generator().manual_seed(0))
        state[name].mul_(1 + 0.2 * noise)
        if not too_far(stream(deployed, given), wanted):
            unseen.append(name)
        state[name].copy_(good)
    assert len(names) > 100
    assert not unseen


def test_rewriting_leaves_the_network_as_it_was() -> None:
    model = network("cvm-nano")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    deploy_stream(model, SIZES[0], 1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


# Its parts


def test_dinov3_with_stored_tables_and_folded_scales() -> None:
    vit = DinoV3(DinoV3Config(width=48, depth=3, heads=3, tapped=(0, 1, 2, 2)))
    fill_weights(vit, 0)
    image = input_image(0, (48, 80))
    with torch.inference_mode():
        wanted, found = vit.eval()(image), DeployDinoV3(vit, (48, 80))(image)
    for tokens, own in zip(wanted, found, strict=False):
        assert largest_difference(own.transpose(1, 2).reshape(tokens.patches.shape), tokens.patches) < 1e-5
        assert float(tokens.patches.std()) > 0.5


@pytest.mark.parametrize("views", [2, 3])
@pytest.mark.parametrize(("grid", "splits"), [((8, 12), 2), ((9, 11), 2), ((7, 7), 3), ((5, 6), 1)])
def test_rectangles_are_the_masked_windows(grid: tuple[int, int], splits: int, views: int) -> None:
    transformer = MultiViewTransformer(16, 4, splits, 2, 24).eval()
    fill_weights(transformer, 0)
    features = torch.randn(views, 16, *grid, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        wanted = transformer(features[None])[0]
        found = DeployTransformer(transformer, grid)(features).transpose(1, 2).unflatten(2, grid)
    assert largest_difference(found, wanted) < 3e-6 * float(wanted.abs().max())


def test_spans_cover_a_side_once() -> None:
    assert spans(56, 2, shifted=False) == [(0, 28), (28, 56)]
    assert spans(56, 2, shifted=True) == [(0, 14), (14, 42), (42, 56)]
    assert spans(7, 2, shifted=True) == [(0, 2), (2, 6), (6, 7)]
    assert spans(9, 1, shifted=True) == [(0, 9)]


@pytest.mark.parametrize("kind", KINDS)
def test_matching_first_is_warping_first(kind: str) -> None:
    grid, depths = (9, 12), plane_depths(CvMConfig().depths, 24)
    views = torch.randn(3, 16, *grid, generator=torch.Generator().manual_seed(2))
    pose, camera = poses(kind, 2), torch.tensor([80.0, 84.0, 46.0, 35.0])
    cell = torch.cat([camera[:2] / 8, (camera[2:] + 0.5) / 8 - 0.5])[None]
    wanted = cost_volume(views[:1], views[None, 1:], pose[None], cell, cell.expand(1, 2, 4), depths)
    volume = DeployCostVolume(grid, depths, 2)
    positions = volume.positions(pose, camera)
    found = volume(views.flatten(2).transpose(1, 2), positions)
    assert zero_of(positions) == 0
    assert largest_difference(found, wanted) < 1e-4
    assert float(wanted.abs().max()) > 0.1
    assert kind == "identity" or float((wanted == 0).float().mean()) > 0.01, "some planes leave the picture"


def test_the_identity_pose_gives_the_identity_grid_bit_for_bit() -> None:
    volume = DeployCostVolume((9, 12), plane_depths(CvMConfig().depths, 5), 1)
    camera = torch.tensor([77.7, 81.3, 40.1, 29.9])
    found = volume.positions(torch.eye(3, 4)[None], camera)  # (h·w, 1, L, 2)
    cell = volume.cells[:2] * volume.scale[:, :, 0] - 1
    assert torch.equal(found, cell.T[:, None, None].expand_as(found))


# What becomes no engine


@pytest.mark.parametrize(
    ("name", "switches", "says"),
    [
        ("cvm-nano", {"tasks": "pascal"}, "cvm-nano: has the tasks semantics, human_parts"),
        ("cvm-nano", {"spatial": "encoder"}, "cvm-nano: this ablation becomes no engine"),
        ("cvm-nano", {"interaction": "self-attention"}, "cvm-nano: this ablation becomes no engine"),
        (
            "cvm-nano",
            {"cost_volume": False, "cross_view_features": False},
            "cvm-nano: this ablation becomes no engine",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_becomes_no_engine_is_one_line(name: str, switches: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        check_streams(build_model(name, **switches))
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


def test_somebody_else_s_encoder_is_one_line() -> None:
    class Theirs(Encoder):
        scales = (Scale("theirs", 16, 8),)

        def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
            return [image]

    with pytest.raises(InputError, match=r"no deploy form of the encoder Theirs"):
        deploy_encoder(Theirs(), (64, 64))
