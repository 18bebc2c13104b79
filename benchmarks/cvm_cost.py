"""Parameters and FLOPs of a cross-view network, part by part, beside the papers' (Tables A15 and A16).

    python benchmarks/cvm_cost.py --out benchmarks/results/cvm_cost.json

Nothing runs: shapes go through the network on PyTorch's meta device. A multiply-add counts as two. Two sums are given, because
counters differ: one with the matrix products inside scaled_dot_product_attention, and one without those in the encoder,
which a counter that looks at layers does not see; the papers' 1.23 TFLOP of the encoder is the latter. PyTorch's counter has
no entry for sampling and elementwise products, so warping and matching are counted here: per plane, channel and cell
four products and three sums of a bilinear sample, and a product and a sum of the match.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from machine import facts  # beside this script
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from m2h_export.models import CrossViewNetwork, build_model
from m2h_runtime.cli.arguments import network_size
from m2h_runtime.files import write_atomically

SIZE = (448, 576)
VIEWS = 2
PAPERS = {
    "cost volume": {"tflop": 0.02},
    "module": {"parameters_m": 5.0, "tflop": 0.27},
    "encoder": {"parameters_m": 300.0, "tflop_without_attention": 1.23},
}
PAPERS_CASE = ("cvm-vitl", [*SIZE], VIEWS)
PAPERS_TOLD = "~5 M and 0.27; 0.02; 300 M and 1.23"
PER_SAMPLE = 9
"""Operations per plane, channel and cell of a cost volume."""


class _Call(nn.Module):
    """One method of a network as a module: the counter names parts below a module that is called."""

    def __init__(self, network: CrossViewNetwork, method: str) -> None:
        super().__init__()
        self.network, self.method = network, method

    def forward(self, *inputs: Tensor) -> object:
        return getattr(self.network, self.method)(*inputs)


def on_meta(name: str) -> CrossViewNetwork:
    """A network without values; one with light heads."""
    with torch.device("meta"):
        network = build_model(name)
    if not isinstance(network, CrossViewNetwork):
        raise SystemExit(f"{name}: take one of the cvm- networks")
    return network.to("meta").eval()


def of_views(network: CrossViewNetwork, size: tuple[int, int], views: int) -> dict[str, Any]:
    """The papers' scheme: all views of a scene, predictions for all."""
    inputs = [(1, views, 3, *size), (1, views, views, 4, 4), (1, views, 4)]
    return _counted(network, "forward_views", inputs, size, views * max(views - 1, 1))


def of_stream(network: CrossViewNetwork, size: tuple[int, int], neighbours: int) -> dict[str, Any]:
    """A frame of a stream, whose neighbours' features are known."""
    cells = [-(-n // 8) for n in size]
    features = (neighbours, network.cvm.config.channels, *cells)
    inputs = [(1, 3, *size), features, (neighbours, 3, 4), (4,)]
    return _counted(network, "forward_stream", inputs, size, neighbours)


def _counted(
    network: CrossViewNetwork, method: str, shapes: list[tuple[int, ...]], size: tuple[int, int], warps: int
) -> dict[str, Any]:
    """GFLOP by part; `warps` cost volumes between two views are made."""
    inputs = [torch.empty(shape, device="meta") for shape in shapes]
    with torch.no_grad(), FlopCounterMode(display=False, depth=5) as counter:
        _Call(network, method)(*inputs)
    found = {name: {str(op): n for op, n in ops.items()} for name, ops in counter.get_flop_counts().items()}

    def gflop(part: str) -> float:
        return sum(found.get(f"_Call.network.{part}", {}).values()) / 1e9

    def attention(part: str) -> float:
        return found.get(f"_Call.network.{part}", {}).get("aten.bmm", 0) / 1e9

    config = network.cvm.config
    cells = -(-size[0] // 8) * -(-size[1] // 8)
    warped = PER_SAMPLE * warps * config.planes * config.channels * cells / 1e9
    parts = {
        "encoder": gflop("encoder"),
        "spatial-aware CNN": gflop("cvm.cnn"),
        "multi-view transformer": gflop("cvm.transformer"),
        "warping and matching": warped,
        "upsampling of the cost volume": gflop("cvm.upsample_costs"),
        "upsampling of the features": gflop("cvm.upsample_features"),
        "heads": sum(gflop(f"heads.{task}") for task in network.heads),
    }
    module = sum(parts.values()) - parts["encoder"] - parts["heads"]
    return {
        "gflop": {name: round(value, 3) for name, value in parts.items()},
        "encoder_gflop_without_attention": round(parts["encoder"] - attention("encoder"), 3),
        "attention_gflop": {
            "encoder": round(attention("encoder"), 3),
            "module": round(attention("cvm.transformer"), 3),
        },
        "module_gflop": round(module, 3),
        "cost_volume_gflop": round(warped + parts["upsampling of the cost volume"], 3),
        "total_gflop": round(sum(parts.values()), 3),
    }


def parameters(network: CrossViewNetwork) -> dict[str, int]:
    """Of the encoder, the module, its parts and the heads."""

    def count(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    parts = {f"module: {name}": count(part) for name, part in network.cvm.named_children()}
    return {
        "encoder": count(network.encoder),
        "module": count(network.cvm),
        **parts,
        "heads": count(network.heads),
    }


def cost(name: str, size: tuple[int, int], views: int) -> dict[str, Any]:
    """Parameters, all views at once, and a frame of a stream with as many views."""
    network = on_meta(name)
    together, streamed = of_views(network, size, views), of_stream(network, size, views - 1)
    return {
        "size": list(size),
        "views": views,
        "parameters": parameters(network),
        "all_views": together,
        "stream": streamed,
        "stream_over_all_views": round(streamed["total_gflop"] / together["total_gflop"], 4),
    }


def _print(name: str, found: dict[str, Any]) -> None:
    together, streamed = found["all_views"], found["stream"]
    print(f"{name} at {found['size'][0]}x{found['size'][1]}, {found['views']} views")
    for part, value in together["gflop"].items():
        print(f"  {part:32} {value:9.2f} GFLOP {streamed['gflop'][part]:9.2f} per frame of a stream")
    print(
        f"  {'all':32} {together['total_gflop']:9.2f}       {streamed['total_gflop']:9.2f}"
        f" ({found['stream_over_all_views']:.3f})"
    )
    count = found["parameters"]
    told = f" (papers: {PAPERS_TOLD})" if (name, found["size"], found["views"]) == PAPERS_CASE else ""
    print(
        f"  module {count['module'] / 1e6:.2f} M and {together['module_gflop'] / 1e3:.3f} TFLOP; in it the cost volume"
        f" with its upsampling {together['cost_volume_gflop'] / 1e3:.3f}; encoder {count['encoder'] / 1e6:.1f} M and"
        f" {together['gflop']['encoder'] / 1e3:.3f}, {together['encoder_gflop_without_attention'] / 1e3:.3f} without"
        f" the products inside attention{told}"
    )


def main() -> None:
    """Count, print, write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["cvm-vitl", "cvm-vitb", "cvm-vits", "cvm-nano"])
    parser.add_argument("--size", type=network_size, default=SIZE, metavar="HxW")
    parser.add_argument("--views", type=int, default=VIEWS, choices=(2, 3, 4))
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    args = parser.parse_args()
    found = {name: cost(name, args.size, args.views) for name in args.models}
    for name, one in found.items():
        _print(name, one)
    result = {
        "command": "python " + " ".join(sys.argv),
        "machine": facts(),
        "papers": PAPERS,
        "models": found,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(args.out, (json.dumps(result, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
