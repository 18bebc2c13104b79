"""The losses of CvM (arXiv 2511.20646, section A1.1): cross-entropy and L1, in float32.

The papers take functions and weights from SAK (arXiv 2410.14633, losses.py of its code); so do we. Cross-entropy for
semantics, parts and saliency, the two classes of saliency weighted by each other's share; for edges 0.95 on them and
0.05 beside them; L1 for depth and, summed over x, y and z, for normals of unit length. Its weights, which the
experiments set: semantics 1, depth 1, normals 10, edges 50, human parts 2, saliency 5.

SAK pools the pixels of a batch. Here every loss is a mean over a picture's pixels, then over pictures, as M2H's are,
and so for several views over views and tasks (eq. 3); saliency's shares are those of a picture.

`matching_loss` is ours, and off unless an experiment asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from m2h_export.data.sample import IGNORE
from m2h_export.training.losses import M2HLoss, masked_mean, valid_depth

if TYPE_CHECKING:
    from torch import Tensor

    from m2h_export.training.experiment import Task


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Of (B, K, H, W) logits and (B, H, W) integers below K, or `IGNORE`."""
    valid = labels != IGNORE
    return masked_mean(_negative_log(logits, labels), valid)


def balanced_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The same of two classes, each pixel weighted by the share of the other class in its picture."""
    valid = labels != IGNORE
    positive = (labels == 1).to(torch.float32)
    share = positive.flatten(1).sum(1) / valid.flatten(1).sum(1).clamp_min(1)
    share = share[:, None, None]
    weight = torch.where(labels == 1, 1 - share, share)
    return masked_mean(weight * _negative_log(logits, labels), valid)


def edge_cross_entropy(logits: Tensor, truth: Tensor, positive_share: float) -> Tensor:
    """(B, 1, H, W) logits and 0, 1 or `IGNORE`; pixels on an edge weigh `positive_share`, others 1 minus it."""
    valid = truth != IGNORE
    target = torch.where(valid, truth, 0).float()
    values = F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
    return masked_mean(values * torch.where(target > 0, positive_share, 1 - positive_share), valid)


def depth_l1(depth: Tensor, truth: Tensor, cap_m: float) -> Tensor:
    """(B, 1, H, W) metres, where measured and within the cap."""
    valid = valid_depth(truth, cap_m)
    return masked_mean((depth.float() - torch.where(valid, truth, 0.0)).abs(), valid)


def normals_l1(normals: Tensor, truth: Tensor) -> Tensor:
    """(B, 3, H, W), brought to unit length, where the truth is not zero."""
    distance = (F.normalize(normals.float(), dim=1) - truth).abs().sum(1)
    return masked_mean(distance, truth.square().sum(1) > 0)


def matching_loss(costs: Tensor, depth: Tensor, planes: Tensor, moved: Tensor) -> Tensor:
    """Cross-entropy of a cost volume as scores of its planes, the true one being the nearest to the true depth.

    Ours, not the papers': it tells the features at once what the tasks would tell them over many steps. It counts
    where the true plane lies in a neighbour's picture.

    Args:
        costs: (B, L, h, w).
        depth: (B, 1, H, W) metres, 0 where unknown; each cell takes the pixel at its middle.
        planes: (L,) their depths, metres.
        moved: (B,) bool, where there is a neighbour that is not the view itself.
    """
    costs = costs.float()
    stride = depth.shape[-1] // costs.shape[-1]
    middle = depth[:, 0, stride // 2 :: stride, stride // 2 :: stride]
    inverse = 1 / planes
    known = (middle > planes.min()) & (middle < planes.max())
    true = (1 / torch.where(known, middle, planes.max()))[:, None] - inverse[:, None, None]
    index = true.abs().argmin(dim=1)
    seen = costs.detach().gather(1, index[:, None])[:, 0] != 0
    return masked_mean(F.cross_entropy(costs, index, reduction="none"), known & seen & moved[:, None, None])


def _negative_log(logits: Tensor, labels: Tensor) -> Tensor:
    target = torch.where(labels == IGNORE, 0, labels).long()
    return F.cross_entropy(logits.float(), target, reduction="none")


class CvMLoss(M2HLoss):
    """The losses of an experiment whose `loss.kind` is cvm; stages of fine-tuning have the same."""

    def _of_task(self, task: Task, output: Tensor, truth: Tensor, fine_tuning: bool) -> Tensor:  # noqa: ARG002
        if task == "depth":
            return depth_l1(output, truth, self.cap_m)
        if task == "normals":
            return normals_l1(output, truth)
        if task == "edges":
            return edge_cross_entropy(output, truth, self.settings.edge_positive_share)
        return balanced_cross_entropy(output, truth) if task == "saliency" else cross_entropy(output, truth)
