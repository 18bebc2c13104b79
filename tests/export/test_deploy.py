"""The deploy form is the same function of the same weights."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import torch
from golden import (
    CASES,
    differences,
    differences_to_golden,
    filled,
    golden,
    input_image,
    largest_difference,
    run,
    wrong_labels,
)
from torch import nn

from m2h_export.deploy.algebra import ResizedMean, TapsConv, conv1x1, fold_norm, interpolation_matrix, matrix
from m2h_export.deploy.network import DeployM2H
from m2h_export.models.layers import upto

if TYPE_CHECKING:
    from m2h_export.models.cross_task import Mixing

TOLERANCES = {"depth": 5e-5, "normals": 2e-4, "edges": 5e-5, "semantics": 5e-5}
WHOLE = (None, None)
ABLATIONS = [("mha", None), ("none", None), (None, False), ("none", False)]


def too_far(found: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in found.items() if not value <= TOLERANCES[name]}


def cases() -> list[object]:
    """Whole networks at sizes that give even, odd and unpadded grids; ablations where the maps are small."""
    whole = {
        "m2h-nano": [(112, 144), (97, 131), (57, 200)],
        "m2h-small": [(98, 126), (99, 155), (56, 70)],
        "m2h": [(98, 126)],
    }
    small = {"m2h-nano": [(112, 144), (97, 131)], "m2h-small": [(57, 71)], "m2h": [(42, 56)]}
    listed = [(network, size, *WHOLE) for network, sizes in whole.items() for size in sizes]
    listed += [(network, size, *ab) for network, sizes in small.items() for size in sizes for ab in ABLATIONS]
    return [
        pytest.param(
            network, size, mixing, ggfm, id=f"{network}-{size[0]}x{size[1]}-{mixing or 'wmca'}-{ggfm}"
        )
        for network, size, mixing, ggfm in listed
    ]


@pytest.mark.parametrize(("network", "size", "mixing", "ggfm"), cases())
def test_deploy_form_gives_the_published_outputs(
    network: str, size: tuple[int, int], mixing: Mixing | None, ggfm: bool | None
) -> None:
    model, image = filled(network, 0, mixing, ggfm), input_image(4, size)
    found = differences(run(DeployM2H(model, size), image), run(model, image))
    assert not too_far(found), found


def test_deploy_form_gives_the_golden_outputs() -> None:
    case = CASES[1]  # 240 is no multiple of 14
    outputs = run(DeployM2H(filled(case.network, case.seed), case.size), input_image(case.seed, case.size))
    found = differences_to_golden(outputs, golden(case))
    assert not too_far(found), found
    assert wrong_labels(outputs["semantics"], golden(case)["labels"]) == 0


def test_the_filled_norms_are_not_trivial() -> None:
    """Else the folding of BatchNorm would be compared with nothing."""
    norms = [m for m in filled("m2h-nano").modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    for norm in norms:
        assert (norm.running_mean.abs().max(), (norm.running_var - 1).abs().max()) > (0.05, 0.05)


def test_rewriting_leaves_the_network_as_it_was() -> None:
    model = filled("m2h-nano")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    DeployM2H(model, (112, 144))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())


def test_a_training_network_is_rewritten_in_evaluation_mode() -> None:
    image = input_image(4, (112, 144))
    model = filled("m2h-nano")
    wanted = run(model, image)
    try:
        deployed = DeployM2H(model.train(), (112, 144))
        assert model.training
    finally:
        model.eval()
    assert not too_far(differences(run(deployed, image), wanted))


# The comparison can fail


UNUSED = re.compile(r"cross_task\.real|post\.(depth|sem_seg)\.|\.out_conv\.|tail\.block\.(residual|expand)\.")
"""What the deploy form holds and does not compute with (its part is multiplied into another weight), and the mask."""


@pytest.mark.parametrize(
    ("network", "every"), [("m2h-nano", 6), pytest.param("m2h", 100, marks=pytest.mark.slow)]
)
def test_one_damaged_weight_is_seen(network: str, every: int) -> None:
    """Each of many weights of the deploy form in turn, 20 % noise on it."""
    size = (57, 71)
    image = input_image(4, size)
    wanted, deployed = run(filled(network), image), DeployM2H(filled(network), size)
    state = deployed.state_dict()
    names = [name for name, value in state.items() if value.is_floating_point() and not UNUSED.search(name)]
    unseen = []
    for name in names[::every]:
        good = state[name].clone()
        noise = torch.randn(good.shape, generator=torch.Generator().manual_seed(0))
        state[name].mul_(1 + 0.2 * noise)
        if not too_far(differences(run(deployed, image), wanted)):
            unseen.append(name)
        state[name].copy_(good)
    assert len(names) > 100
    assert not unseen
    assert not too_far(differences(run(deployed, image), wanted)), "undamaged again"


def test_padded_tokens_left_as_they_are_would_be_seen() -> None:
    size = (57, 71)
    image, deployed = input_image(4, size), DeployM2H(filled("m2h-nano"), size)
    assert not deployed.cross_task.real.all()
    deployed.cross_task.real.fill_(1)
    assert too_far(differences(run(deployed, image), run(filled("m2h-nano"), image)))


# The algebra itself


@pytest.mark.parametrize(
    ("size", "out"), [((4, 5), (8, 10)), ((7, 3), (32, 11)), ((1, 6), (5, 12)), ((6, 6), (6, 6))]
)
def test_the_mean_of_an_enlarged_map_comes_from_the_small_one(
    size: tuple[int, int], out: tuple[int, int]
) -> None:
    x = torch.randn(1, 8, *size, generator=torch.Generator().manual_seed(1))
    found = ResizedMean(size, out)(x)
    assert found.shape == (1, 8, 1, 1)
    assert largest_difference(found, upto(x, out).mean((2, 3))) < 1e-6


def test_interpolation_weights_sum_to_one() -> None:
    assert interpolation_matrix(7, 20).sum(dim=1).sub(1).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("groups", "bias", "dilation"), [(1, True, 1), (1, False, 6), (8, False, 1), (4, True, 2)]
)
def test_batch_norm_folds_into_any_convolution(groups: int, bias: bool, dilation: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 16, 3, padding=dilation, dilation=dilation, groups=groups, bias=bias)
    norm = nn.BatchNorm2d(16, eps=1e-3).eval()
    for value in (norm.weight, norm.running_mean, norm.running_var):
        nn.init.uniform_(value, 0.5, 2.0)
    x = torch.randn(2, 8, 9, 7)
    with torch.inference_mode():
        assert largest_difference(fold_norm(conv, norm)(x), norm(conv(x))) < 1e-5


def test_grouped_matrix_is_block_diagonal() -> None:
    conv = nn.Conv2d(8, 12, 1, groups=4, bias=False)
    x = torch.randn(1, 8, 3, 5)
    with torch.inference_mode():
        assert largest_difference(conv1x1(matrix(conv), None)(x), conv(x)) < 1e-6


def test_nine_taps_are_a_convolution() -> None:
    conv = nn.Conv2d(8, 1, 3, padding=1, bias=False)
    x = torch.randn(1, 8, 6, 7)
    with torch.inference_mode():
        assert largest_difference(TapsConv()(conv1x1(TapsConv.taps(conv), None)(x)), conv(x)) < 1e-5
