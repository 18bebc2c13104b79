"""The six losses of M2H (arXiv 2510.17363, section III-B), always computed in float32.

Every loss is a mean over the valid pixels of each picture, then over the pictures of the batch. So it does not matter
how a batch is cut into micro-batches or spread over processes, and a picture without any valid pixel adds exactly 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from m2h_export.data.sample import IGNORE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from m2h_export.training.experiment import LossSettings, Task

_SMALLEST_DEPTH_M = 1e-3  # the networks' own floor


def masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of `values` (B, ...) where `valid` (same shape, bool), per picture, then over pictures."""
    kept = torch.where(valid, values, values.new_zeros(())).flatten(1).sum(1)
    return (kept / valid.flatten(1).sum(1).clamp_min(1)).mean()


def semantic_loss(logits: Tensor, labels: Tensor, ce_weight: float, dice_weight: float) -> Tensor:
    """α·CE + β·Dice (the first eq. 14 of section III-B).

    Dice is soft, 1 - 2·Σ p·t / (Σ p + Σ t) per class over a picture's labelled pixels, and a mean over the classes
    that the picture's truth has: an absent class has no overlap to improve.

    Args:
        logits: (B, K, H, W).
        labels: (B, H, W) integers below K, or `IGNORE`.
        ce_weight: α.
        dice_weight: β.
    """
    classes = logits.shape[1]
    log_p = F.log_softmax(logits.float(), dim=1).flatten(2)  # (B, K, N)
    valid = labels.flatten(1) != IGNORE
    index = torch.where(valid, labels.flatten(1).long(), 0)
    log_p_true = log_p.gather(1, index[:, None])[:, 0]
    loss = ce_weight * masked_mean(-log_p_true, valid)
    if not dice_weight:
        return loss
    weight = valid.to(log_p)
    per_class = log_p.new_zeros(len(log_p), classes)
    overlap = per_class.scatter_add(1, index, log_p_true.exp() * weight)
    count = per_class.scatter_add(1, index, weight)
    predicted = torch.bmm(log_p.exp(), weight[:, :, None])[:, :, 0]
    dice = 1 - 2 * overlap / (predicted + count).clamp_min(1e-6)
    return loss + dice_weight * masked_mean(dice, count > 0)


def gradient_loss(error: Tensor, valid: Tensor) -> Tensor:
    """‖∇p - ∇y‖² by forward differences, where both neighbours are valid.

    Args:
        error: (B, 1, H, W), p - y (the difference of the gradients is the gradient of the difference).
        valid: (B, 1, H, W) bool.
    """
    across = masked_mean(error.diff(dim=-1).square(), valid[..., 1:] & valid[..., :-1])
    down = masked_mean(error.diff(dim=-2).square(), valid[..., 1:, :] & valid[..., :-1, :])
    return across + down


def valid_depth(truth: Tensor, cap_m: float) -> Tensor:
    """Where depth was measured and lies within the data set's cap, metres."""
    return (truth > 0) & (truth <= cap_m)


def indoor_depth_loss(
    depth: Tensor, truth: Tensor, *, cap_m: float, lambda_grad: float, huber_delta_m: float = 1.0
) -> Tensor:
    """Huber + λ·‖∇p - ∇y‖² (eq. 15a); depths (B, 1, H, W) in metres."""
    valid = valid_depth(truth, cap_m)
    error = depth.float() - torch.where(valid, truth, depth.detach().float())
    huber = F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=huber_delta_m)
    return masked_mean(huber, valid) + lambda_grad * gradient_loss(error, valid)


def outdoor_depth_loss(
    depth: Tensor, truth: Tensor, *, cap_m: float, lambda_grad: float, si_lambda: float = 0.5
) -> Tensor:
    """Scale-invariant loss of the log depth + λ·‖∇log p - ∇log y‖² (eq. 15b); depths (B, 1, H, W) in metres.

    Scale-invariant is mean(d²) - `si_lambda`·mean(d)² with d = log p - log y (arXiv 1406.2283, eq. 4).
    """
    valid = valid_depth(truth, cap_m)
    log_p = depth.float().clamp_min(_SMALLEST_DEPTH_M).log()
    # The truth is 0 where it is unknown; its logarithm must not reach the graph.
    error = log_p - torch.where(valid, truth, torch.ones_like(truth)).log()
    kept = torch.where(valid, error, error.new_zeros(())).flatten(1)
    count = valid.flatten(1).sum(1).clamp_min(1)
    mean = kept.sum(1) / count
    si = (kept.square().sum(1) / count - si_lambda * mean.square()).mean()
    return si + lambda_grad * gradient_loss(error, valid)


def normals_loss(normals: Tensor, truth: Tensor) -> Tensor:
    """1 - cos of the angle between (B, 3, H, W) normals, where the truth is not zero."""
    cosine = F.cosine_similarity(normals.float(), truth, dim=1, eps=1e-6)
    return masked_mean(1 - cosine, truth.square().sum(1) > 0)


def edge_loss(logits: Tensor, truth: Tensor, positive_weight: float = 1.0) -> Tensor:
    """Binary cross-entropy with logits; (B, 1, H, W) logits and 0, 1 or `IGNORE`."""
    valid = truth != IGNORE
    target = torch.where(valid, truth, 0).float()
    weight = torch.full((1,), positive_weight, device=logits.device)
    values = F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none", pos_weight=weight)
    return masked_mean(values, valid)


def depth_to_normals(depth: Tensor) -> Tensor:
    """Normals of a depth map (eq. 16a), (B, 1, H, W) metres to (B, 3, H-1, W-1).

    Forward differences in metres per pixel, as the paper has it: x right, y down. The paper's vector
    [-∂x d, -∂y d, 1] has n_z > 0, away from the camera; ours is its opposite, since our normals face the camera.
    """
    depth = depth.float()
    across = (depth[..., :-1, 1:] - depth[..., :-1, :-1])[:, 0]
    down = (depth[..., 1:, :-1] - depth[..., :-1, :-1])[:, 0]
    return F.normalize(torch.stack([across, down, -torch.ones_like(across)], dim=1), dim=1)


def depth_normals_consistency(depth: Tensor, normals: Tensor) -> Tensor:
    """1 - cos between the predicted normals and those of the predicted depth (eq. 16b)."""
    cosine = F.cosine_similarity(normals.float()[..., :-1, :-1], depth_to_normals(depth), dim=1, eps=1e-6)
    return (1 - cosine).mean()


def edges_semantics_consistency(logits: Tensor, edges: Tensor) -> Tensor:
    """L1 between the gradient magnitude of the semantic logits and the edge probability (eq. 17).

    The paper leaves open how K gradients become one number: we take the mean over classes of each one's magnitude.

    Args:
        logits: (B, K, H, W) semantic logits.
        edges: (B, 1, H, W) edge logits.
    """
    logits = logits.float()
    corner = logits[..., :-1, :-1]
    across, down = logits[..., :-1, 1:] - corner, logits[..., 1:, :-1] - corner
    # The floor keeps the root's slope finite on flat logits.
    magnitude = (across.square() + down.square() + 1e-12).sqrt().mean(1, keepdim=True)
    return (magnitude - edges.float()[..., :-1, :-1].sigmoid()).abs().mean()


class M2HLoss:
    """All losses of one experiment."""

    def __init__(self, settings: LossSettings, tasks: Sequence[Task], cap_m: float) -> None:
        self.settings, self.tasks, self.cap_m = settings, tuple(tasks), cap_m

    def of_tasks(
        self, outputs: Mapping[str, Tensor], truth: Mapping[str, Tensor], *, fine_tuning: bool
    ) -> dict[str, Tensor]:
        """The task-specific losses, unweighted scalars by task."""
        with torch.autocast(outputs[self.tasks[0]].device.type, enabled=False):
            return {task: self._of_task(task, outputs[task], truth[task], fine_tuning) for task in self.tasks}

    def _of_task(self, task: Task, output: Tensor, truth: Tensor, fine_tuning: bool) -> Tensor:
        s = self.settings
        if task == "semantics":
            return semantic_loss(output, truth, *(s.semantics_fine_tuning if fine_tuning else s.semantics))
        if task == "normals":
            return normals_loss(output, truth)
        if task == "edges":
            return edge_loss(output, truth, s.edge_positive_weight)
        if s.scene == "indoor":
            return indoor_depth_loss(
                output,
                truth,
                cap_m=self.cap_m,
                lambda_grad=s.lambda_grad,
                huber_delta_m=s.huber_delta_m,
            )
        return outdoor_depth_loss(
            output, truth, cap_m=self.cap_m, lambda_grad=s.lambda_grad, si_lambda=s.si_lambda
        )

    def of_consistency(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The cross-task losses, unweighted scalars, of those pairs whose two tasks are both trained."""
        losses = {}
        with torch.autocast(outputs[self.tasks[0]].device.type, enabled=False):
            if {"depth", "normals"} <= set(self.tasks):
                losses["depth_normals"] = depth_normals_consistency(outputs["depth"], outputs["normals"])
            if {"edges", "semantics"} <= set(self.tasks):
                losses["edges_semantics"] = edges_semantics_consistency(
                    outputs["semantics"], outputs["edges"]
                )
        return losses
