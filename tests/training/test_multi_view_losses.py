"""The losses of CvM: their values by hand, and what has no truth."""

from __future__ import annotations

import math

import pytest
import torch

from m2h_export.data.sample import IGNORE
from m2h_export.training.cvm_losses import (
    CvMLoss,
    balanced_cross_entropy,
    cross_entropy,
    depth_l1,
    edge_cross_entropy,
    matching_loss,
    normals_l1,
)
from m2h_export.training.experiment import LossSettings

LN2, LN3 = math.log(2), math.log(3)


def test_cross_entropy_counts_labelled_pixels_of_each_picture() -> None:
    logits = torch.zeros(2, 3, 1, 2)
    labels = torch.tensor([[[0, IGNORE]], [[1, 2]]], dtype=torch.uint8)
    assert cross_entropy(logits, labels).item() == pytest.approx(LN3)
    logits[0, :, 0, 1] = torch.tensor([9.0, -9, 0])  # where nothing is known
    assert cross_entropy(logits, labels).item() == pytest.approx(LN3)


def test_saliency_weighs_each_class_by_the_other_s_share() -> None:
    """One of four pixels is salient: it weighs 3/4, each other 1/4; together 6/4 of ln 2 over four pixels."""
    labels = torch.tensor([[[1, 0, 0, 0]]], dtype=torch.uint8)
    assert balanced_cross_entropy(torch.zeros(1, 2, 1, 4), labels).item() == pytest.approx(1.5 * LN2 / 4)
    nothing = torch.zeros(1, 1, 4, dtype=torch.uint8)
    assert balanced_cross_entropy(torch.zeros(1, 2, 1, 4), nothing).item() == 0


def test_edges_weigh_nineteen_times_what_lies_beside() -> None:
    truth = torch.tensor([[[[1, 0, IGNORE]]]], dtype=torch.uint8)
    value = edge_cross_entropy(torch.zeros(1, 1, 1, 3), truth, 0.95)
    assert value.item() == pytest.approx((0.95 + 0.05) * LN2 / 2)
    logits = torch.tensor([[[[2.0, 0, 0]]]])
    only = 0.95 * math.log1p(math.exp(-2)) + 0.05 * LN2
    assert edge_cross_entropy(logits, truth, 0.95).item() == pytest.approx(only / 2, rel=1e-5)


def test_depth_is_l1_where_it_was_measured() -> None:
    truth = torch.tensor([[[[2.0, 0.0, 11.0, math.nan]]]])
    assert depth_l1(torch.full((1, 1, 1, 4), 2.5), truth, 10).item() == 0.5


def test_normals_are_made_unit_and_summed_over_axes() -> None:
    truth = torch.zeros(1, 3, 1, 2)
    truth[0, 2, 0, 0] = -1
    found = torch.zeros(1, 3, 1, 2)
    found[0, 0, 0, 0] = 5.0  # along x: |1 - 0| + |0 - -1|
    assert normals_l1(found, truth).item() == pytest.approx(2)


def test_a_task_without_truth_is_no_loss_and_no_gradient() -> None:
    outputs = {
        "depth": torch.rand(2, 1, 4, 4, requires_grad=True),
        "semantics": torch.rand(2, 5, 4, 4, requires_grad=True),
        "normals": torch.rand(2, 3, 4, 4, requires_grad=True),
        "edges": torch.rand(2, 1, 4, 4, requires_grad=True),
        "human_parts": torch.rand(2, 7, 4, 4, requires_grad=True),
        "saliency": torch.rand(2, 2, 4, 4, requires_grad=True),
    }
    unknown = torch.full((2, 4, 4), IGNORE, dtype=torch.uint8)
    truth = {
        "depth": torch.zeros(2, 1, 4, 4),
        "semantics": unknown,
        "normals": torch.zeros(2, 3, 4, 4),
        "edges": unknown[:, None],
        "human_parts": unknown,
        "saliency": unknown,
    }
    loss = CvMLoss(LossSettings(kind="cvm"), list(outputs), 10.0)
    losses = loss.of_tasks(outputs, truth, fine_tuning=False)
    assert [value.item() for value in losses.values()] == [0.0] * 6
    torch.stack(list(losses.values())).sum().backward()
    for name, output in outputs.items():
        assert output.grad is not None
        assert not output.grad.any(), name


def test_matching_asks_for_the_plane_of_the_true_depth() -> None:
    """Planes at 4, 2 and 1 m; cells: one at 2 m, one whose plane leaves the picture, one without depth."""
    planes = torch.tensor([4.0, 2.0, 1.0])
    depth = torch.zeros(1, 1, 2, 6)
    depth[..., 1, 1], depth[..., 1, 3] = 2.1, 2.0
    costs = torch.tensor([1.0, 5.0, 1.0])[None, :, None, None].repeat(1, 1, 1, 3)
    costs[0, :, 0, 1] = torch.tensor([3.0, 0.0, 1.0])
    here = torch.tensor([True])
    right = matching_loss(costs, depth, planes, here)
    assert right.item() == pytest.approx(math.log(1 + 2 * math.exp(-4)), rel=1e-4)
    assert matching_loss(costs.roll(1, 1), depth, planes, here) > 1 > right
    assert matching_loss(costs, depth, planes, ~here).item() == 0, "its own neighbour"
    assert matching_loss(costs, torch.zeros_like(depth), planes, here).item() == 0
