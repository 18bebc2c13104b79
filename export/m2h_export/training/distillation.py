"""Learning from a larger network: the student is drawn to the teacher's outputs on the same pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from m2h_export.checkpoints import check_fit, read_checkpoint
from m2h_export.models import build_model
from m2h_export.training.experiment import TASKS
from m2h_runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from m2h_export.models import Network
    from m2h_export.training.experiment import DistillationSettings, Task

_SMALLEST_DEPTH_M = 1e-3


def load_teacher(settings: DistillationSettings, classes: int) -> Network:
    """The teacher in evaluation mode, without gradients.

    Raises:
        CheckpointError: its file cannot be read or is of another network.
        InputError: it knows another number of classes than the student.
    """
    path = Path(settings.teacher)
    checkpoint = read_checkpoint(path)
    check_fit(checkpoint, path, settings.model, None)
    if checkpoint.num_classes != classes and settings.weights.semantics:
        raise InputError(
            f"{path}: the teacher has {checkpoint.num_classes} classes and the student {classes}; "
            "set distillation.weights.semantics to 0"
        )
    teacher = build_model(settings.model, checkpoint.num_classes)
    teacher.load_state_dict(checkpoint.state)
    return teacher.eval().requires_grad_(False)


def semantics_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T²·KL(teacher ‖ student) of the softened class probabilities, a mean over pixels (arXiv 1503.02531)."""
    log_p = F.log_softmax(student / temperature, dim=1)
    log_q = F.log_softmax(teacher / temperature, dim=1)
    return temperature**2 * (log_q.exp() * (log_q - log_p)).sum(1).mean()


def log_depth_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean of |ln p - ln q| of two depth maps, metres."""
    return (
        (student.clamp_min(_SMALLEST_DEPTH_M).log() - teacher.clamp_min(_SMALLEST_DEPTH_M).log()).abs().mean()
    )


def distillation_loss(task: Task, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """The loss of one task between two outputs of the networks, in float32."""
    student, teacher = student.float(), teacher.float()
    if task == "semantics":
        return semantics_divergence(student, teacher, temperature)
    if task == "depth":
        return log_depth_distance(student, teacher)
    if task == "normals":
        return (1 - F.cosine_similarity(student, teacher, dim=1, eps=1e-6)).mean()
    return F.binary_cross_entropy_with_logits(student, teacher.sigmoid())


class Distillation:
    """A teacher and the losses of a student to it."""

    def __init__(self, settings: DistillationSettings, teacher: Network, tasks: Sequence[Task]) -> None:
        self.settings, self.teacher = settings, teacher
        self.weights: dict[Task, float] = {
            task: weight for task in tasks if task in TASKS and (weight := getattr(settings.weights, task))
        }

    def losses(self, outputs: Mapping[str, Tensor], normalised: Tensor) -> dict[str, Tensor]:
        """Unweighted scalars by task; `normalised` (B, 3, H, W) is the picture as the teacher takes it."""
        with torch.no_grad():
            wanted = self.teacher(normalised)
        with torch.autocast(normalised.device.type, enabled=False):
            return {
                task: distillation_loss(task, outputs[task], wanted[task], self.settings.temperature)
                for task in self.weights
            }
