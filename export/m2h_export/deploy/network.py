"""`DeployM2H`: a trained network for one picture size, rewritten. Same outputs as `M2H` up to rounding."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2h_export.deploy.algebra import matrix
from m2h_export.deploy.decoder import (
    DeployBranches,
    DeployCrossTask,
    DeployRestore,
    DeployUnique,
)
from m2h_export.deploy.encoder import DeployEncoder, DeployReassemble
from m2h_export.deploy.heads import DeployDepthHead, DeployPlainHead, DeploySemanticHead
from m2h_export.models.layers import fit, upto
from m2h_export.models.m2h import MIN_DEPTH_M, TASKS

if TYPE_CHECKING:
    from m2h_export.models import M2H, M2HCrossView
    from m2h_export.models.restoration import Restore


class DeployM2H(nn.Module):
    """Batch 1, one picture size, evaluation only."""

    def __init__(self, published: M2H | M2HCrossView, size: tuple[int, int]) -> None:
        super().__init__()
        model = copy.deepcopy(published).eval()
        config, head = model.config, model.mlt_head
        self.config, self.size = config, size
        self.encoder = DeployEncoder(model.backbone, size)
        grid = self.encoder.grid
        self.reassemble = DeployReassemble(head.reassemble_blocks, grid)
        self.convs = head.convs
        if config.backbone.stem:
            self.stem_projects = head.stem_projects
        self.branches = DeployBranches(
            [list(getattr(head, f"fusion_blocks_{task}")) for task in TASKS],
            [getattr(head, f"project_{task}") for task in TASKS],
        )
        half = ((grid[0] + 1) // 2, (grid[1] + 1) // 2)
        steps = 4 if config.last_fusion_upsamples else 3
        full = (half[0] << steps, half[1] << steps)
        self.full = mixed = full
        if config.mixing != "none":
            stride = config.attention_stride if config.light else 1
            mixed = (full[0] // stride, full[1] // stride)
            self.cross_task = DeployCrossTask(head.cross_attn, mixed)
            if config.light:
                self.pre, self.post = head.pre_attn_proj, head.post_attn_proj
        before: dict[str, Tensor | None] = {"depth": None, "sem_seg": None}
        if config.ggfm:
            self.unique_depth = DeployUnique(head.unique_depth_feature, grid)
            self.unique_semantics = DeployUnique(head.unique_semantic_feature, grid)
            self.restore_depth = self._restore(head.restore_depth, "depth", full, mixed, half)
            self.restore_semantics = self._restore(head.restore_semseg, "sem_seg", full, mixed, half)
            if not config.light:  # out_conv moves into the dense ASPP branches
                before = {
                    "depth": matrix(head.restore_depth.out_conv),
                    "sem_seg": matrix(head.restore_semseg.out_conv),
                }
        self.depth = DeployDepthHead(head.conv_depth, full, before["depth"])
        self.semantics = DeploySemanticHead(
            head.seg_out, full, size if config.labels == "smooth" else None, before["sem_seg"]
        )
        self.normals = DeployPlainHead(head.conv_normal, full)
        self.edges = DeployPlainHead(head.conv_edge, full)
        self.requires_grad_(requires_grad=False)
        self.eval()

    def _restore(
        self,
        restore: Restore,
        task: str,
        full: tuple[int, int],
        mixed: tuple[int, int],
        half: tuple[int, int],
    ) -> DeployRestore:
        post = cast("nn.Conv2d", self.post[task]) if mixed != full else None
        return DeployRestore(restore, post, full, mixed, (2 * half[0], 2 * half[1]))

    def _mix(self, own: list[Tensor]) -> list[Tensor]:
        """Cross-task attention on one (1, C, H, W) per task; the light head's result is still small and narrow."""
        if self.config.mixing == "none":
            return own
        if self.config.light:
            stride = self.config.attention_stride
            own = [F.max_pool2d(self.pre[task](x), stride) for task, x in zip(TASKS, own, strict=True)]
        return list(self.cross_task(torch.cat(own)).split(1))

    def _finish(self, task: str, mixed: Tensor, own: Tensor) -> Tensor:
        """The light head's way back from the attention's width and size, and the task's own map where it is kept."""
        if self.config.mixing != "none" and self.config.light:
            mixed = upto(self.post[task](mixed), self.full)
        return mixed + own if self.config.adds_own else mixed

    def forward(self, image: Tensor, finest: Tensor | None = None) -> dict[str, Tensor]:
        """Normalised (1, 3, H, W) of this size to what `M2H.forward` gives; "grid" logits stay on the head's grid.

        `finest` (1, C, ·, ·) is added to the finest level of the pyramid.
        """
        tapped, details = self.encoder(image)
        pyramid = [conv(x) for conv, x in zip(self.convs, self.reassemble(tapped), strict=True)]
        for level, detail in enumerate(details[1:3]):
            pyramid[level] = pyramid[level] + self.stem_projects[level](detail)
        if finest is not None:
            pyramid[0] = pyramid[0] + finest
        own = self.branches(pyramid)
        mixed = self._mix(own)
        edges, normals = self._finish("edges", mixed[0], own[0]), self._finish("normals", mixed[1], own[1])
        if self.config.ggfm:
            finish = DeployRestore.forward if self.config.light else DeployRestore.merge
            semantics = finish(self.restore_semantics, own[2], mixed[2], self.unique_semantics(tapped[-1]))
            depth = finish(self.restore_depth, own[3], mixed[3], self.unique_depth(tapped[-1]))
        else:
            semantics = self._finish("sem_seg", mixed[2], own[2])
            depth = self._finish("depth", mixed[3], own[3])
        return {
            "depth": fit(F.relu(self.depth(depth)) + MIN_DEPTH_M, self.size),
            "semantics": self.semantics(semantics),
            "normals": fit(F.normalize(torch.tanh(self.normals(normals)), dim=1), self.size),
            "edges": fit(self.edges(edges), self.size),
        }
