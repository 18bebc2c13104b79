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

    from m2h_export.models import CrossView, Network
    from m2h_runtime.engine.contract import Neighbours, Views
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

    views: Views | None = None

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
        return self.finished(self.network(self.picture(image)), (image.shape[1], image.shape[2]))

    def picture(self, image: Tensor) -> Tensor:
        """Uint8 (1, H, W, 3) to what the network reads, (1, 3, H, W)."""
        # Cast first and permute then: TensorRT refuses to permute uint8.
        return image.float().permute(0, 3, 1, 2) * cast("Tensor", self.scale) + cast("Tensor", self.shift)

    def finished(self, out: dict[str, Tensor], size: tuple[int, int]) -> ContractOutputs:
        """A network's outputs for a picture of (H, W), as the contract has them."""
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


class CrossViewOutputs(NamedTuple):
    """The same of a cross-view engine: one output more."""

    depth: Tensor
    semantics: Tensor
    confidence: Tensor
    normals: Tensor
    edges: Tensor
    features: Tensor


class CrossViewGraph(ContractGraph):
    """A network that looks at neighbours, published (`CrossView`) or rewritten (`DeployStream`).

    Attributes:
        views: what the engine's manifest says of them.
    """

    views: Views

    def forward(  # type: ignore[override]
        self, image: Tensor, neighbour_features: Tensor, neighbour_from_camera: Tensor, intrinsics: Tensor
    ) -> CrossViewOutputs:
        """Run the inputs of a cross-view engine to its outputs, see `m2h_runtime.engine.contract`."""
        stream = cast("CrossView", self.network).forward_stream
        out, features = stream(self.picture(image), neighbour_features, neighbour_from_camera, intrinsics)
        return CrossViewOutputs(*self.finished(out, (image.shape[1], image.shape[2])), features)


def published_graph(
    model: Network,
    max_depth_m: float | None,
    normals_sign: tuple[int, int, int],
    views: Views | None = None,
) -> ContractGraph:
    """The network as published, with the contract around: the reference of every parity check."""
    return contract_graph(model, model, max_depth_m, normals_sign, views)


def contract_graph(
    network: nn.Module,
    published: Network,
    max_depth_m: float | None,
    normals_sign: tuple[int, int, int],
    views: Views | None,
) -> ContractGraph:
    """A network, `published` or rewritten, with the contract around; with `views` that of a cross-view engine."""
    config, kind = published.config, ContractGraph if views is None else CrossViewGraph
    graph = kind(network, config.mean, config.std, max_depth_m=max_depth_m, normals_sign=normals_sign)
    graph.views = views
    return graph.eval()


@torch.inference_mode()
def reference_perception(graph: ContractGraph, rgb: NDArray[np.uint8], label_space: LabelSpace) -> Perception:
    """What PyTorch fp32 says about one image, uint8 (H, W, 3) RGB."""
    out: ContractOutputs = graph(torch.from_numpy(np.ascontiguousarray(rgb))[None])
    return _perception(out, label_space)


@torch.inference_mode()
def reference_views(
    graph: CrossViewGraph, rgb: NDArray[np.uint8], views: Neighbours, label_space: LabelSpace
) -> tuple[Perception, NDArray[np.float32]]:
    """What PyTorch fp32 says about an image and its neighbours, and the image's features (1, K, h, w)."""
    inputs = (np.ascontiguousarray(rgb)[None], *views.tensors.values())
    # Copies: torch wants to be able to write, and the neighbours are read-only.
    out: CrossViewOutputs = graph(*(torch.from_numpy(np.array(array)) for array in inputs))
    return _perception(ContractOutputs(*out[:-1]), label_space), out.features.numpy()


def _perception(out: ContractOutputs, label_space: LabelSpace) -> Perception:
    depth, semantics, confidence, normals, edges = (tensor[0].numpy() for tensor in out)
    return Perception(
        depth=depth,
        semantics=semantics,
        confidence=confidence,
        normals=np.ascontiguousarray(normals.transpose(1, 2, 0)),
        edges=edges,
        label_space=label_space,
    )
