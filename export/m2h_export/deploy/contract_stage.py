"""The contract around a network: uint8 picture in, five finished outputs out, all inside the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from m2h_export.models.layers import nearest
from m2h_runtime.perception import Perception

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_export.models import M2H
    from m2h_runtime.label_space import LabelSpace


class ContractOutputs(NamedTuple):
    """The graph outputs, named and ordered as `m2h_runtime.engine.contract` has them."""

    depth: Tensor
    semantics: Tensor
    confidence: Tensor
    normals: Tensor
    edges: Tensor


class ContractGraph(nn.Module):
    """A network with the contract's pre- and post-processing.

    Args:
        network: normalised (1, 3, H, W) to the outputs of `M2H.forward`, the published or the deploy form;
            logits may come at a smaller size, then their nearest decision is taken.
        mean, std: the network's input normalisation, per RGB channel of 0..1.
        max_depth_m: clip the depth there; None leaves it as the network gives it.
        normals_sign: factors that bring the network's normals into the camera optical frame.
    """

    def __init__(
        self,
        network: nn.Module,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        *,
        max_depth_m: float | None = None,
        normals_sign: tuple[int, int, int] = (1, 1, 1),
    ) -> None:
        super().__init__()
        self.network, self.max_depth_m = network, max_depth_m
        spread = torch.tensor(std, dtype=torch.float64)
        self.register_buffer("scale", (1 / (255 * spread)).float()[None, :, None, None])
        self.register_buffer(
            "shift", (-torch.tensor(mean, dtype=torch.float64) / spread).float()[None, :, None, None]
        )
        self.flips = normals_sign != (1, 1, 1)
        self.register_buffer("sign", torch.tensor(normals_sign, dtype=torch.float32)[None, :, None, None])

    def forward(self, image: Tensor) -> ContractOutputs:
        """Run uint8 (1, H, W, 3), RGB, to the five outputs of the contract."""
        # Cast first and permute then: TensorRT refuses to permute uint8.
        picture = image.float().permute(0, 3, 1, 2) * cast("Tensor", self.scale) + cast("Tensor", self.shift)
        out = self.network(picture)
        size = (image.shape[1], image.shape[2])
        depth = out["depth"][:, 0]
        if self.max_depth_m is not None:
            depth = depth.clamp(max=self.max_depth_m)
        # Classes last: one pass per pixel over contiguous memory, which ONNX Runtime reduces much faster.
        logits = out["semantics"].permute(0, 2, 3, 1)
        top, best = logits.topk(1, dim=-1)
        # The top class probability is 1 / sum(exp(logit - top)); a whole softmax is not needed.
        confidence, labels = 255.0 / torch.exp(logits - top).sum(dim=-1), best[..., 0].int()
        if labels.shape[1:] != size:  # decided on the head's own grid: the nearest decision is the network's
            confidence, labels = nearest(confidence, size), nearest(labels, size)
        normals = out["normals"]
        # 1e-4 is harmless for vectors of about unit length, and survives half precision; 1e-12 does not.
        normals = normals / normals.square().sum(dim=1, keepdim=True).sqrt().clamp(min=1e-4)
        if self.flips:
            normals = normals * cast("Tensor", self.sign)
        return ContractOutputs(
            depth=depth,
            semantics=labels.to(torch.uint8),
            confidence=torch.round(confidence).to(torch.uint8),
            normals=normals,
            edges=torch.round(torch.sigmoid(out["edges"][:, 0]) * 255.0).to(torch.uint8),
        )


def published_graph(
    model: M2H, max_depth_m: float | None, normals_sign: tuple[int, int, int]
) -> ContractGraph:
    """The network as published, with the contract around: the reference of every parity check."""
    config = model.config
    graph = ContractGraph(model, config.mean, config.std, max_depth_m=max_depth_m, normals_sign=normals_sign)
    return graph.eval()


@torch.inference_mode()
def reference_perception(graph: ContractGraph, rgb: NDArray[np.uint8], label_space: LabelSpace) -> Perception:
    """What PyTorch fp32 says about one image, uint8 (H, W, 3) RGB."""
    out: ContractOutputs = graph(torch.from_numpy(np.ascontiguousarray(rgb))[None])
    depth, semantics, confidence, normals, edges = (tensor[0].numpy() for tensor in out)
    return Perception(
        depth=depth,
        semantics=semantics,
        confidence=confidence,
        normals=np.ascontiguousarray(normals.transpose(1, 2, 0)),
        edges=edges,
        label_space=label_space,
    )
