"""The networks are the published ones: names, shapes and numbers."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from golden import (
    CASES,
    OUTPUTS,
    Case,
    differences_to_golden,
    filled,
    golden,
    input_image,
    largest_difference,
    published_shapes,
    run,
    wrong_labels,
)
from torch import Tensor, nn

from m2h_export.models import MODELS, build_model
from m2h_export.random_weights import values_for
from m2h_runtime.errors import InputError

if TYPE_CHECKING:
    from typing_extensions import Self

    from m2h_export.models import M2H
    from m2h_export.models.cross_task import Mixing
    from m2h_export.models.vit import Encoded

TOLERANCE = 5e-5  # of the outputs; the LayerNorm test below shows that a wrong epsilon does not pass
INNER_TOLERANCE = 1e-4


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def on_meta(network: str) -> M2H:
    with torch.device("meta"):
        return build_model(network)


# Names


@pytest.mark.parametrize("network", ["m2h", "m2h-small"])
def test_keys_and_shapes_are_the_published_ones(network: str) -> None:
    found, wanted = shapes(on_meta(network)), published_shapes(network)
    assert found.keys() == wanted.keys()
    assert found == wanted


@pytest.mark.parametrize(
    ("network", "width", "depth", "parameters"),
    [
        ("m2h-small", 384, 12, 22_056_576),
        ("m2h-small-vitb", 768, 12, 86_580_480),
        ("m2h-vitb", 768, 12, 86_580_480),
        ("m2h-small-vitl", 1024, 24, 304_368_640),
        ("m2h-vitl", 1024, 24, 304_368_640),
    ],
)
def test_backbones_have_the_names_of_the_official_dinov2_weights(
    network: str, width: int, depth: int, parameters: int
) -> None:
    wanted = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 1370, width),
        "mask_token": (1, width),
        "patch_embed.proj.weight": (width, 3, 14, 14),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    for i in range(depth):
        wanted |= {f"blocks.{i}.norm{n}.{leaf}": (width,) for n in (1, 2) for leaf in ("weight", "bias")}
        wanted |= {f"blocks.{i}.ls{n}.gamma": (width,) for n in (1, 2)}
        for layer, cout, cin in (
            ("attn.qkv", 3 * width, width),
            ("attn.proj", width, width),
            ("mlp.fc1", 4 * width, width),
            ("mlp.fc2", width, 4 * width),
        ):
            wanted |= {f"blocks.{i}.{layer}.weight": (cout, cin), f"blocks.{i}.{layer}.bias": (cout,)}
    backbone = on_meta(network).backbone
    assert shapes(backbone) == wanted
    assert sum(p.numel() for p in backbone.parameters()) == parameters


def test_larger_backbones_keep_the_head_and_its_task_maps() -> None:
    small, large = shapes(on_meta("m2h-small").mlt_head), shapes(on_meta("m2h-small-vitl").mlt_head)
    assert small.keys() == large.keys()
    read_tokens = ("reassemble_blocks.", "unique_depth_feature.", "unique_semantic_feature.")
    assert {k for k in small if small[k] != large[k]} <= {k for k in small if k.startswith(read_tokens)}


def test_unknown_network_is_named_with_those_there_are() -> None:
    with pytest.raises(InputError, match=r"no network 'm2h-tiny'; there are m2h, .*m2h-nano"):
        build_model("m2h-tiny")


def test_class_count_changes_the_last_layer_only() -> None:
    usual, other = shapes(build_model("m2h-nano")), shapes(build_model("m2h-nano", 13))
    assert {k: other[k][0] for k in usual if usual[k] != other[k]} == {
        "mlt_head.seg_out.final_conv.weight": 13,
        "mlt_head.seg_out.final_conv.bias": 13,
    }


# Numbers


@pytest.mark.parametrize(
    ("name", "shape", "seed", "first", "last"),
    [
        ("backbone.cls_token", (1, 1, 384), 0, 0.018989589, -0.08504466),
        ("backbone.blocks.3.norm1.weight", (384,), 0, 0.9731217, 1.073275),
        ("backbone.blocks.3.ls1.gamma", (384,), 0, 0.41704375, 0.48944044),
        ("mlt_head.seg_out.aspp.aspp1.1.running_var", (48,), 1, 0.88628894, 1.1313119),
        ("mlt_head.seg_out.aspp.aspp1.1.running_mean", (48,), 1, -0.061198898, -0.018649429),
        ("mlt_head.conv_depth.final_conv.weight", (1, 64, 3, 3), 0, 0.039580304, -0.03032559),
        ("mlt_head.conv_depth.final_conv.bias", (1,), 7, 3, 3),
        ("mlt_head.conv_edge.head.2.bias", (1,), 0, -0.045971375, -0.045971375),
    ],
)
def test_weight_filler_rule_is_pinned(
    name: str, shape: tuple[int, ...], seed: int, first: float, last: float
) -> None:
    values = values_for(name, shape, seed)
    assert values.shape == shape
    assert values.dtype == np.float32
    np.testing.assert_allclose([values.flat[0], values.flat[-1]], [first, last], rtol=1e-6)


def test_test_picture_rule_is_pinned() -> None:
    picture = input_image(0, (224, 224))
    assert (picture.shape, picture.dtype) == ((1, 3, 224, 224), torch.float32)
    np.testing.assert_allclose(picture[0, :, 0, 0], [0.05003516, 0.73961234, -0.45850119], rtol=1e-5)


class Inner:
    """Records the intermediate maps that a golden file holds, in the order of computation."""

    def __init__(self, model: M2H) -> None:
        self.maps: OrderedDict[str, Tensor] = OrderedDict()
        head = model.mlt_head
        self.hooks = [model.backbone.register_forward_hook(self._tokens)]
        for name, module in (
            *((f"reassembled_{i}", layer) for i, layer in enumerate(head.reassemble_blocks.resize_layers)),
            ("fused_edges", head.project_edges),
            ("fused_depth", head.project_depth),
            ("unique_depth", head.unique_depth_feature),
            ("restored_depth", head.restore_depth),
            ("restored_semantics", head.restore_semseg),
        ):
            self.hooks.append(module.register_forward_hook(self._keep(name)))
        self.hooks.append(head.cross_attn[1].register_forward_hook(self._tasks))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def _eighths(self, x: Tensor) -> Tensor:
        step = x.shape[-1] // 8
        return x[0, :4, ::step, ::step].clone()

    def _keep(self, name: str) -> object:
        return lambda _module, _inputs, out: self.maps.update({name: self._eighths(out)})

    def _tasks(self, _module: object, _inputs: object, out: list[Tensor]) -> None:
        self.maps.update({f"cross_task_{t}": self._eighths(x) for t, x in enumerate(out)})

    def _tokens(self, _module: object, _inputs: object, out: Encoded) -> None:
        for i, (patches, cls) in enumerate(out.tapped):
            self.maps[f"backbone_{i}"] = patches[0, :4, ::4, ::4]
            self.maps[f"class_token_{i}"] = cls[0, ::4]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_outputs_are_the_golden_ones(case: Case) -> None:
    model, stored = filled(case.network, case.seed), golden(case)
    with Inner(model) as inner:
        outputs = run(model, input_image(case.seed, case.size))
    off = [
        f"{name}: {difference:.1e}"
        for name, found in inner.maps.items()
        if name in stored and not (difference := largest_difference(found, stored[name])) <= INNER_TOLERANCE
    ]
    assert not off, f"departs from {off[0]} on: {off}"
    assert len(stored) == len(OUTPUTS) + 1 or stored.keys() - {*OUTPUTS, "labels"} == inner.maps.keys()
    found = differences_to_golden(outputs, stored)
    assert max(found.values()) <= TOLERANCE, found
    assert wrong_labels(outputs["semantics"], stored["labels"]) == 0


def test_golden_comparison_sees_a_wrong_layernorm_epsilon() -> None:
    case = CASES[0]
    model = copy.deepcopy(filled(case.network, case.seed))
    for module in model.backbone.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-5
    found = differences_to_golden(run(model, input_image(case.seed, case.size)), golden(case))
    assert max(found.values()) > 2 * TOLERANCE, found


def test_golden_labels_see_a_changed_class() -> None:
    stored = golden(CASES[0])
    logits = torch.nn.functional.one_hot(torch.from_numpy(stored["labels"].astype(np.int64)), 41).permute(
        2, 0, 1
    )
    assert wrong_labels(logits.float(), stored["labels"]) == 0
    logits[:, 3, 5] = logits[:, 3, 5].roll(1)
    assert wrong_labels(logits.float(), stored["labels"]) == 1


# Ablations, sizes, training


@pytest.mark.parametrize("network", ["m2h-nano", "m2h-small", "m2h"])
def test_ablations_change_the_parameters_that_they_should(network: str) -> None:
    def keys(mixing: Mixing | None = None, *, ggfm: bool | None = None) -> set[str]:
        with torch.device("meta"):
            return set(build_model(network, mixing=mixing, ggfm=ggfm).state_dict())

    def starting(*names: str) -> set[str]:
        return {k for k in keys() if k.startswith(tuple(f"mlt_head.{name}." for name in names))}

    merging = starting("unique_depth_feature", "unique_semantic_feature", "restore_depth", "restore_semseg")
    attention = starting("cross_attn", "pre_attn_proj", "post_attn_proj")
    assert merging
    assert attention
    assert keys("wmca", ggfm=True) == keys()
    assert keys("mha") == keys()
    assert keys("none") == keys() - attention
    assert keys(ggfm=False) == keys() - merging
    assert keys("none", ggfm=False) == keys() - attention - merging


@pytest.mark.parametrize(
    ("mixing", "ggfm"), [("mha", True), ("none", True), ("wmca", False), ("none", False)]
)
def test_ablations_run_and_give_something_else(mixing: Mixing, ggfm: bool) -> None:
    image = input_image(0, (112, 144))
    outputs = run(filled("m2h-nano", 0, mixing, ggfm), image)
    usual = run(filled("m2h-nano"), image)
    for name in OUTPUTS:
        assert outputs[name].isfinite().all()
        # Without merging, depth and semantics change; the other two never see it.
        touched = mixing != "wmca" or name in ("depth", "semantics")
        assert (largest_difference(outputs[name], usual[name]) > 1e-3) == touched, name


@pytest.mark.parametrize(
    ("network", "size"),
    [("m2h-nano", (97, 131)), ("m2h-nano", (64, 200)), ("m2h-nano", (121, 56)), ("m2h-small", (57, 71))],
)
def test_any_size_gives_outputs_of_that_size(network: str, size: tuple[int, int]) -> None:
    outputs = run(filled(network), input_image(3, size))
    assert {name: tuple(x.shape) for name, x in outputs.items()} == {
        "depth": (1, *size),
        "normals": (3, *size),
        "edges": (1, *size),
        "semantics": (41, *size),
    }
    assert all(x.isfinite().all() for x in outputs.values())
    assert outputs["depth"].min() >= 0.001 - 1e-6
    assert outputs["normals"].norm(dim=0).max() <= 1 + 1e-5


@torch.inference_mode()
def test_a_batch_is_its_pictures_one_by_one() -> None:
    pictures = torch.cat([input_image(seed, (97, 131)) for seed in (0, 1)])
    model = filled("m2h-nano")
    together = model(pictures)
    for index in range(2):
        alone = model(pictures[index : index + 1])
        assert all(largest_difference(together[name][index], alone[name][0]) < TOLERANCE for name in OUTPUTS)


@pytest.mark.parametrize(("mixing", "ggfm"), [("wmca", True), ("mha", True), ("none", False)])
def test_every_parameter_but_the_stored_only_ones_learns(mixing: Mixing, ggfm: bool) -> None:
    model = copy.deepcopy(filled("m2h-nano", 0, mixing, ggfm)).train()
    outputs = model(torch.cat([input_image(seed, (112, 144)) for seed in (0, 1)]))
    sum(x.square().mean() for x in outputs.values()).backward()
    without = {name for name, p in model.named_parameters() if p.grad is None}
    assert without == {"backbone.mask_token", "backbone.norm.weight", "backbone.norm.bias"}
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert all(grad.isfinite().all() for grad in grads.values())
    assert not [name for name, grad in grads.items() if name.endswith(".weight") and not grad.any()]


def test_every_network_is_described() -> None:
    for name, config in MODELS.items():
        assert config.name == name
        assert len(config.backbone.tapped) == 4
        assert config.backbone.tapped[-1] == config.backbone.depth - 1
