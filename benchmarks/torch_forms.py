"""A network in PyTorch as people run it: as published or rewritten, eager or compiled, in fp32 or half."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from m2h_export.deploy.contract_stage import ContractGraph
from m2h_export.deploy.network import DeployM2H
from m2h_export.models import build_model
from m2h_export.random_weights import fill_weights
from m2h_runtime.label_space import default_label_space
from m2h_runtime.perception import Perception

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Form:
    """How a network is run.

    Attributes:
        rewritten: our rewritten module instead of the published structure.
        compiled: the mode of torch.compile; None is eager.
        precision: what it computes in.
        autocast: float32 weights under torch.autocast, instead of weights in `precision`.
        channels_last: weights and picture in that memory format.
    """

    rewritten: bool = False
    compiled: str | None = None
    precision: str = "fp32"
    autocast: bool = False
    channels_last: bool = False


class Prepared(nn.Module):
    """A network in the form: float32 (1, 3, H, W) in, the float32 outputs of `M2H.forward` out."""

    def __init__(self, network: nn.Module, form: Form, device: str) -> None:
        super().__init__()
        self.layout = torch.channels_last if form.channels_last else torch.contiguous_format
        weights = torch.float32 if form.autocast else TYPES[form.precision]
        inner: Any = _InType(
            network.to(device, weights, memory_format=self.layout), form, torch.device(device).type
        )
        self.inner = torch.compile(inner, mode=form.compiled) if form.compiled else inner

    def forward(self, picture: Tensor) -> dict[str, Tensor]:
        """One picture, in whatever layout, to the outputs."""
        outputs: dict[str, Tensor] = self.inner(picture.contiguous(memory_format=self.layout))
        return outputs


class _InType(nn.Module):
    def __init__(self, network: nn.Module, form: Form, device: str) -> None:
        super().__init__()
        self.network, self.form, self.device = network, form, device

    def forward(self, picture: Tensor) -> dict[str, Tensor]:
        dtype = TYPES[self.form.precision]
        with torch.autocast(self.device, dtype, enabled=self.form.autocast):
            outputs = self.network(picture if self.form.autocast else picture.to(dtype))
        return {name: value.float() for name, value in outputs.items()}


def build(model: str, size: tuple[int, int], form: Form, device: str = "cpu") -> ContractGraph:
    """The network of seed 0 in this form, with the engine contract's pre- and post-processing around."""
    network = build_model(model).eval()
    fill_weights(network, 0)
    config = network.config
    structure = DeployM2H(network, size) if form.rewritten else network
    graph = ContractGraph(Prepared(structure, form, device), config.mean, config.std)
    return graph.to(device).eval()


def picture_for(image: NDArray[np.uint8], device: str = "cpu") -> Tensor:
    """uint8 (H, W, 3) as the network itself wants it: float32 (1, 3, H, W), contiguous."""
    return torch.from_numpy(image.copy()).to(device).permute(2, 0, 1)[None].float().div(255).contiguous()


@torch.inference_mode()
def perceive(graph: ContractGraph, image: NDArray[np.uint8], device: str = "cpu") -> Perception:
    """The five outputs for uint8 (H, W, 3)."""
    outputs = graph(torch.from_numpy(image.copy())[None].to(device))
    depth, semantics, confidence, normals, edges = (tensor[0].cpu().numpy() for tensor in outputs)
    return Perception(
        depth=depth,
        semantics=semantics,
        confidence=confidence,
        normals=normals.transpose(1, 2, 0).copy(),
        edges=edges,
        label_space=default_label_space(41),
    )
