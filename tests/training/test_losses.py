"""Every loss against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from m2h_export.data.sample import IGNORE
from m2h_export.training.experiment import TASKS, LossSettings
from m2h_export.training.losses import (
    M2HLoss,
    depth_normals_consistency,
    depth_to_normals,
    edge_loss,
    edges_semantics_consistency,
    gradient_loss,
    indoor_depth_loss,
    masked_mean,
    normals_loss,
    outdoor_depth_loss,
    semantic_loss,
)


def grid(*rows: list[float]) -> torch.Tensor:
    """(1, 1, H, W)."""
    return torch.tensor([[list(rows)]], dtype=torch.float32)


def test_masked_mean_is_a_mean_of_the_pictures_means() -> None:
    values = torch.tensor([[1.0, 3.0, 100.0], [4.0, math.nan, math.nan]])
    valid = torch.tensor([[True, True, False], [True, False, False]])
    assert masked_mean(values, valid).item() == pytest.approx((2 + 4) / 2)


def probabilities(*pixels: list[float]) -> torch.Tensor:
    """Logits (1, K, 1, N) whose softmax is each pixel's list."""
    return torch.tensor(pixels).log().T[None, :, None]


def test_cross_entropy_leaves_out_ignored_pixels() -> None:
    logits = probabilities([0.75, 0.25], [0.5, 0.5], [0.1, 0.9])
    labels = torch.tensor([[[0, 1, IGNORE]]], dtype=torch.uint8)
    wanted = -(math.log(0.75) + math.log(0.5)) / 2
    assert semantic_loss(logits, labels, 1.0, 0.0).item() == pytest.approx(wanted, rel=1e-6)


def test_dice_over_the_classes_that_are_there() -> None:
    logits = probabilities([0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.9, 0.05, 0.05])
    labels = torch.tensor([[[0, 1, IGNORE]]], dtype=torch.uint8)
    first = 1 - 2 * 0.7 / (0.7 + 0.4 + 1)
    second = 1 - 2 * 0.5 / (0.2 + 0.5 + 1)
    assert semantic_loss(logits, labels, 0.0, 1.0).item() == pytest.approx((first + second) / 2, rel=1e-6)


def test_semantic_weights_are_the_papers_by_stage() -> None:
    logits = probabilities([0.75, 0.25], [0.5, 0.5])
    labels = torch.tensor([[[0, 1]]], dtype=torch.uint8)
    ce, dice = (semantic_loss(logits, labels, *w).item() for w in ((1.0, 0.0), (0.0, 1.0)))
    loss = M2HLoss(LossSettings(), ["semantics"], 10.0)
    for fine_tuning, wanted in ((False, 0.5 * ce + 0.75 * dice), (True, 0.75 * ce + 1.0 * dice)):
        found = loss.of_tasks({"semantics": logits}, {"semantics": labels}, fine_tuning=fine_tuning)
        assert found["semantics"].item() == pytest.approx(wanted, rel=1e-6)


def test_gradient_loss_needs_both_neighbours() -> None:
    error = grid([0, 1, 5], [0, 3, 7])
    valid = grid([1, 1, 0], [1, 1, 1]).bool()
    across = (1 + 9 + 16) / 3  # 0-1 above; 0-3 and 3-7 below
    down = (0 + 4) / 2  # 0-0 and 1-3
    assert gradient_loss(error, valid).item() == pytest.approx(across + down)


def test_indoor_depth_is_huber_and_gradients() -> None:
    depth = grid([2.5, 5.0, 3.0, 50.0])
    truth = grid([2.0, 3.0, 0.0, 30.0])  # the third is unknown, the fourth beyond the cap
    huber = (0.5 * 0.5**2 + (2.0 - 0.5)) / 2
    gradient = (2.0 - 0.5) ** 2
    found = indoor_depth_loss(depth, truth, cap_m=10.0, lambda_grad=0.5)
    assert found.item() == pytest.approx(huber + 0.5 * gradient, rel=1e-6)


def test_outdoor_depth_is_scale_invariant_and_log_gradients() -> None:
    depth = grid([2.0, 12.0, 7.0])
    truth = grid([1.0, 3.0, 0.0])
    d1, d2 = math.log(2), math.log(4)
    si = (d1**2 + d2**2) / 2 - 0.5 * ((d1 + d2) / 2) ** 2
    found = outdoor_depth_loss(depth, truth, cap_m=80.0, lambda_grad=2.0)
    assert found.item() == pytest.approx(si + 2.0 * (d2 - d1) ** 2, rel=1e-5)


def test_normals_loss_is_one_minus_cosine_where_known() -> None:
    truth = torch.tensor([[0.0, 0, -1], [0, -1, 0], [0, 0, 0]]).T[None, :, None]
    found = torch.tensor([[0.0, 0, -2], [0.6, -0.8, 0], [1, 0, 0]]).T[None, :, None]
    assert normals_loss(found, truth).item() == pytest.approx((0 + 0.2) / 2, abs=1e-6)


def test_edge_loss_with_and_without_a_positive_weight() -> None:
    logits = grid([0.0, 2.0, 9.0])
    truth = torch.tensor([[[[1, 0, IGNORE]]]], dtype=torch.uint8)
    positive, negative = math.log(2), math.log(1 + math.exp(2))
    assert edge_loss(logits, truth).item() == pytest.approx((positive + negative) / 2, rel=1e-6)
    assert edge_loss(logits, truth, 3.0).item() == pytest.approx((3 * positive + negative) / 2, rel=1e-6)


def test_normals_of_depth_face_the_camera() -> None:
    flat = depth_to_normals(torch.full((1, 1, 3, 3), 2.0))
    torch.testing.assert_close(flat, torch.tensor([0.0, 0, -1])[None, :, None, None].expand(1, 3, 2, 2))
    # One metre farther per pixel to the right: the surface looks left, back at the camera, at 45 degrees.
    slope = depth_to_normals(grid([1, 2, 3], [1, 2, 3]))
    half = math.sqrt(0.5)
    torch.testing.assert_close(slope[0, :, 0, 0], torch.tensor([half, 0.0, -half]))


def test_depth_normals_consistency_is_zero_for_its_own_normals_and_two_for_the_opposite() -> None:
    depth = torch.rand(1, 1, 5, 6, generator=torch.Generator().manual_seed(0)) + 1
    own = torch.zeros(1, 3, 5, 6)
    own[..., :-1, :-1] = depth_to_normals(depth)
    assert depth_normals_consistency(depth, own).item() == pytest.approx(0, abs=1e-6)
    assert depth_normals_consistency(depth, -own).item() == pytest.approx(2, abs=1e-6)


def test_edges_semantics_consistency() -> None:
    logits = torch.tensor([[[[0.0, 3], [4, 0]], [[1.0, 1], [1, 1]]]])  # one gradient (3, 4), one none
    edges = torch.full((1, 1, 2, 2), math.log(3))  # probability 0.75
    found = edges_semantics_consistency(logits, edges)
    assert found.item() == pytest.approx((5 + 0) / 2 - 0.75, rel=1e-5)


def outputs(batch: int = 2) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    return {
        "depth": torch.rand(batch, 1, 6, 8, generator=g) + 0.5,
        "semantics": torch.randn(batch, 4, 6, 8, generator=g),
        "normals": torch.randn(batch, 3, 6, 8, generator=g),
        "edges": torch.randn(batch, 1, 6, 8, generator=g),
    }


def truths(batch: int = 2) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(2)
    return {
        "depth": torch.rand(batch, 1, 6, 8, generator=g) * (torch.rand(batch, 1, 6, 8, generator=g) > 0.3),
        "semantics": torch.randint(0, 4, (batch, 6, 8), dtype=torch.uint8, generator=g),
        "normals": torch.nn.functional.normalize(torch.randn(batch, 3, 6, 8, generator=g), dim=1),
        "edges": torch.randint(0, 2, (batch, 1, 6, 8), dtype=torch.uint8, generator=g),
    }


NOTHING = {
    "depth": torch.zeros(2, 1, 6, 8),
    "semantics": torch.full((2, 6, 8), IGNORE, dtype=torch.uint8),
    "normals": torch.zeros(2, 3, 6, 8),
    "edges": torch.full((2, 1, 6, 8), IGNORE, dtype=torch.uint8),
}


@pytest.mark.parametrize("scene", ["indoor", "outdoor"])
def test_without_any_truth_every_loss_is_zero_and_keeps_its_graph(scene: str) -> None:
    found = {name: value.requires_grad_() for name, value in outputs().items()}
    losses = M2HLoss(LossSettings(scene=scene), TASKS, 10.0).of_tasks(found, NOTHING, fine_tuning=False)
    assert {name: loss.item() for name, loss in losses.items()} == dict.fromkeys(TASKS, 0.0)
    torch.stack(list(losses.values())).sum().backward()
    for value in found.values():
        assert value.grad is not None
        assert not value.grad.any()  # a NaN would count


@pytest.mark.parametrize("scene", ["indoor", "outdoor"])
def test_gradients_are_finite_with_holes_in_the_truth(scene: str) -> None:
    found = {name: value.requires_grad_() for name, value in outputs().items()}
    loss = M2HLoss(LossSettings(scene=scene), TASKS, 10.0)
    losses = loss.of_tasks(found, truths(), fine_tuning=True) | loss.of_consistency(found)
    torch.stack(list(losses.values())).sum().backward()
    for value in found.values():
        assert value.grad is not None
        assert value.grad.isfinite().all()
        assert value.grad.any()


@pytest.mark.parametrize("scene", ["indoor", "outdoor"])
def test_a_batch_costs_the_mean_of_its_pictures(scene: str) -> None:
    loss = M2HLoss(LossSettings(scene=scene), TASKS, 10.0)
    found, truth = outputs(4), truths(4)
    whole = loss.of_tasks(found, truth, fine_tuning=False)
    parts = [
        loss.of_tasks(
            {k: v[i : i + 1] for k, v in found.items()},
            {k: v[i : i + 1] for k, v in truth.items()},
            fine_tuning=False,
        )
        for i in range(4)
    ]
    for task in TASKS:
        assert whole[task].item() == pytest.approx(sum(p[task].item() for p in parts) / 4, rel=1e-5)


def test_losses_are_float32_under_autocast() -> None:
    loss = M2HLoss(LossSettings(), TASKS, 10.0)
    low = {name: value.bfloat16() for name, value in outputs().items()}
    wanted = loss.of_tasks({name: value.float() for name, value in low.items()}, truths(), fine_tuning=False)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss.of_tasks(low, truths(), fine_tuning=False)
    for task in TASKS:
        assert found[task].dtype == torch.float32
        assert found[task].item() == wanted[task].item()


def test_consistency_only_between_trained_tasks() -> None:
    loss = M2HLoss(LossSettings(), ["depth", "normals", "edges"], 10.0)
    assert list(loss.of_consistency(outputs())) == ["depth_normals"]
