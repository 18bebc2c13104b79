"""A cross-view network in the pieces that cvm_latency.py times: as graphs with our rewrites, and in PyTorch as published.

    python benchmarks/cvm_parts.py MODEL HxW FOLDER      # writes the graphs that are missing, with random weights

"two-views" is the papers' scheme: both pictures through everything, predictions for both. "encoder", "cvm" and "heads" are
what a frame of the stream goes through: the CNN once, the multi-view transformer for both views, the rest for the frame.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import onnx
import torch
from torch import Tensor, nn

from m2h_export.deploy.contract_stage import ContractGraph, ContractOutputs, published_graph
from m2h_export.deploy.graph import trace
from m2h_export.deploy.streaming import DeployCvM
from m2h_export.models import CrossViewNetwork, build_model
from m2h_export.models.cross_view import between_all
from m2h_export.random_weights import fill_weights
from m2h_runtime.cli.arguments import network_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from m2h_export.models.cvm import CrossViewModule

Size = tuple[int, int]
PARTS = ("encoder", "cvm", "heads")
GRAPHS = ("two-views", *PARTS)


def network(name: str) -> CrossViewNetwork:
    """A cvm- network with the weights of seed 0."""
    model = cast("CrossViewNetwork", build_model(name).eval())
    fill_weights(model, 0)
    return model


class TwoViews(nn.Module):
    """Both views through everything."""

    def __init__(self, stream: DeployCvM, contract: ContractGraph) -> None:
        super().__init__()
        self.stream, self.contract = stream, contract

    def forward(
        self, images: Tensor, neighbour_from_camera: Tensor, intrinsics: Tensor
    ) -> tuple[Tensor, ...]:
        """Uint8 (2, H, W, 3), poses (2, 3, 4) of each view's neighbour and (4,) to twice the contract's outputs."""
        stream, size = self.stream, (images.shape[1], images.shape[2])
        pictures = [self.contract.picture(images[i : i + 1]) for i in range(2)]
        views = stream.cvm.transformer(torch.cat([stream.spatial(picture) for picture in pictures]))
        found: list[Tensor] = []
        for i, picture in enumerate(pictures):
            ordered = views if i == 0 else torch.cat([views[1:], views[:1]])
            cross_view, zero = stream.cvm.read(ordered, neighbour_from_camera[i : i + 1], intrinsics)
            outputs = self.contract.finished(stream.predict(picture, cross_view), size)
            found.extend(outputs._replace(depth=outputs.depth + zero))
        return tuple(found)


class Part(nn.Module):
    """A function of a network as a module, to trace it."""

    def __init__(self, owner: nn.Module, call: Callable[..., tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.owner, self.call = owner, call

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Whatever the function takes and gives."""
        return self.call(*inputs)


def write_graphs(name: str, size: Size, folder: Path) -> None:
    """Trace the graphs that are not in `folder`."""
    missing = [graph for graph in GRAPHS if not (folder / f"{graph}.onnx").is_file()]
    if not missing:
        return
    model = network(name)
    contract = published_graph(model, None, (1, 1, 1))
    stream = DeployCvM(model, size, 1)
    folder.mkdir(parents=True, exist_ok=True)
    for graph in missing:
        module, inputs, outputs = described(graph, stream, contract)
        onnx.save(trace(module, inputs, outputs), folder / f"{graph}.onnx")


@torch.inference_mode()
def described(
    graph: str, stream: DeployCvM, contract: ContractGraph
) -> tuple[nn.Module, dict[str, Tensor], list[str]]:
    """A graph's module, inputs and the names of its outputs."""
    picture, neighbour = torch.zeros(1, 3, *stream.size), features_like(stream)
    pose, intrinsics = torch.eye(3, 4)[None], torch.ones(4)
    if graph == "two-views":
        names = [f"{output}_{view}" for view in range(2) for output in ContractOutputs._fields]
        images = torch.zeros(2, *stream.size, 3, dtype=torch.uint8)
        inputs = {"images": images, "neighbour_from_camera": pose.repeat(2, 1, 1), "intrinsics": intrinsics}
        return TwoViews(stream, contract), inputs, names
    maps = {f"map_{i}": x for i, x in enumerate(stream.encode(picture))}
    if graph == "encoder":
        return Part(stream, lambda x: tuple(stream.encode(x))), {"picture": picture}, list(maps)
    given = {"neighbour_features": neighbour, "neighbour_from_camera": pose, "intrinsics": intrinsics}
    if graph == "cvm":
        module = Part(stream, lambda x, *rest: stream.cvm(stream.spatial(x), *rest))
        return module, {"picture": picture, **given}, ["cross_view", "zero"]
    cross_view, _ = stream.cvm(stream.spatial(picture), *given.values())

    def heads(*inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(contract.finished(stream.decode(list(inputs[:-1]), inputs[-1]), stream.size))

    return Part(stream, heads), {**maps, "cross_view": cross_view}, list(ContractOutputs._fields)


def features_like(stream: DeployCvM) -> Tensor:
    """Zeros of the neighbour's features."""
    return torch.zeros(1, stream.cvm.cnn.project.out_channels, *stream.cells)


@torch.inference_mode()
def in_pytorch(name: str, what: str, size: Size) -> Callable[[], object]:
    """A call of the network as published, fp32: the "stream", "two-views", or one of `PARTS`."""
    model = network(name)
    picture, pose, intrinsics = torch.rand(1, 3, *size), shifted(), camera(size)
    encoded, features = model.encode(picture), model.encode_spatial(picture)
    if what == "stream":
        call = partial(model.forward_stream, picture, features, pose, intrinsics)
    elif what == "two-views":
        poses, cameras = between_all(pose)[None], intrinsics.expand(1, 2, 4)
        call = partial(model.forward_views, torch.rand(1, 2, 3, *size), poses, cameras)
    else:
        call = _part(model, what, picture, encoded, features)
    return torch.inference_mode()(call)


def _part(
    model: CrossViewNetwork, what: str, picture: Tensor, encoded: list[Tensor], features: Tensor
) -> Callable[..., object]:
    size, module = (picture.shape[-2], picture.shape[-1]), cast("CrossViewModule", model.cvm)
    poses, cameras = between_all(shifted())[None], camera(size).expand(1, 2, 4)
    if what == "encoder":
        return partial(model.encode, picture)

    def cvm() -> Tensor:
        maps: Tensor = module(torch.cat([model.encode_spatial(picture), features])[None], poses, cameras, 1)
        return maps[:, 0]

    if what == "cvm":
        return cvm
    cross_view = cvm()
    return lambda: model.resize(model.decode(encoded, cross_view, size), size)


def shifted() -> Tensor:
    """A neighbour a little to the side, (1, 3, 4)."""
    pose = torch.eye(3, 4)[None]
    pose[0, 0, 3] = 0.1
    return pose


def camera(size: Size) -> Tensor:
    """Intrinsics (4,) of a usual camera."""
    height, width = size
    return torch.tensor([width, width, (width - 1) / 2, (height - 1) / 2])


if __name__ == "__main__":
    write_graphs(sys.argv[1], network_size(sys.argv[2]), Path(sys.argv[3]))
    print("{}")  # what turns.own_process waits for
