"""How much of the depth can be matched between two views of a simulated walk, by the pictures' size.

    python benchmarks/cvm_matching.py --out benchmarks/results/cvm_matching.json

The cross-view module compares features at an eighth of the picture's size. What there is to compare is measured without any
network: patches of 17 x 17 pixels around each cell, their mean taken away and brought to unit length, in the module's own
cost volume (64 planes, true poses). The best plane's inverse depth is set against the true one. With `--weights` also
the cost volume of a trained network, such as those that cvm_simulation.py leaves.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import machine
import numpy as np
import torch
import torch.nn.functional as F

from m2h_export.checkpoints import build_options, load_network, read_checkpoint, read_facts
from m2h_export.models import build_model
from m2h_export.models.warping import INDOORS, at_stride, cost_volume, plane_depths
from m2h_runtime.scene_graph.walk import TrueWalk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from m2h_runtime.scene_graph.walk import TrueView

SIZES = ((96, 128), (192, 256), (384, 512))
WALKS = ("9001-handheld", "9002-handheld", "9003-wheeled", "9004-drone")
EVERY_S, APART_S, DURATION_S = 4.0, 0.4, 40.0
STRIDE, PATCH, PLANES = 8, 17, 64
FITS = 0.1
"""A best plane whose inverse depth is off by less than this part of the true one is right."""


def main() -> None:
    """Render, match, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--weights",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "FILE"),
        help="a model.safetensors of m2h-train, and what to call it",
    )
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(2)
    rows = []
    for size in SIZES:
        pairs = [pair for name in WALKS for pair in pairs_of(name, size)]
        rows.append({"size": list(size), "features": "patches", **judged(pairs, patches)})
        print(rows[-1], flush=True)
    small = [pair for name in WALKS for pair in pairs_of(name, SIZES[0])]
    for name, path in args.weights:
        rows.append({"size": list(SIZES[0]), "features": name, **judged(small, learned(Path(path)))})
        print(rows[-1], flush=True)
    record = {
        "machine": machine.facts(),
        "command": f"python {shlex.join(sys.argv)}",
        "rows": rows,
    }
    args.out.write_text(json.dumps(record, indent=1) + "\n")


def pairs_of(name: str, size: tuple[int, int]) -> Iterator[tuple[TrueView, TrueView]]:
    """Views of a walk, each with the one `APART_S` later."""
    step = round(EVERY_S / APART_S)
    views: list[TrueView] = []
    for number, view in enumerate(TrueWalk(name, size, DURATION_S, 1 / APART_S).views()):
        if number % step in (0, 1):
            views.append(view)
    yield from zip(views[::2], views[1::2], strict=False)


def judged(pairs: list[tuple[TrueView, TrueView]], see: Any) -> dict[str, float]:
    """How the best planes of all cells that both views show compare with the truth."""
    planes = plane_depths(INDOORS, PLANES)
    found, true, baselines = [], [], []
    for first, second in pairs:
        pose = np.linalg.solve(second.frame.world_from_camera, first.frame.world_from_camera)
        baselines.append(float(np.linalg.norm(pose[:3, 3])))
        costs = see(first, second, torch.from_numpy(pose.astype(np.float32))[None], planes)
        depth = torch.from_numpy(first.depth)[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]
        inverse = 1 / depth.clamp_min(1e-3)
        nearest = (inverse - (1 / planes)[:, None, None]).abs().argmin(0)
        known = (depth > INDOORS.near_m) & (depth < INDOORS.far_m)
        known &= costs.gather(0, nearest[None])[0] != 0  # the true plane is in the second picture
        found.append((1 / planes)[costs.argmax(0)][known])
        true.append(inverse[known])
    best, truth = torch.cat(found).numpy(), torch.cat(true).numpy()
    other = np.random.default_rng(0).permutation(best)
    return {
        "pairs": len(pairs),
        "cells": len(truth),
        "median_baseline_m": float(np.median(baselines)),
        "correlation": float(np.corrcoef(best, truth)[0, 1]),
        "right": share_right(best, truth),
        "right_by_chance": share_right(other, truth),
    }


def share_right(inverse: NDArray[np.float32], truth: NDArray[np.float32]) -> float:
    """Share of inverse depths that fit."""
    return float((np.abs(inverse - truth) < FITS * truth).mean())


def patches(first: TrueView, second: TrueView, pose: Tensor, planes: Tensor) -> Tensor:
    """Cost volume (L, h, w) of normalised patches."""
    maps = []
    for view in (first, second):
        pixels = torch.from_numpy(view.frame.image.copy()).permute(2, 0, 1)[None].float() / 255
        height, width = pixels.shape[2:]
        before, after = PATCH // 2 - STRIDE // 2, PATCH // 2  # cells' centres are at 3.5, 11.5, ...
        pixels = F.pad(pixels, (before, after, before, after), mode="replicate")
        cut = F.unfold(pixels, PATCH, stride=STRIDE).view(1, -1, height // STRIDE, width // STRIDE)
        cut = cut - cut.mean(1, keepdim=True)
        maps.append(cut / (cut.norm(dim=1, keepdim=True) + 0.5))
    cameras = at_stride(camera(first), STRIDE)
    return cost_volume(maps[0], maps[1][:, None], pose[:, None], cameras, cameras[:, None], planes)[0]


def learned(path: Path) -> Any:
    """The cost volumes of a trained network."""
    checkpoint = read_checkpoint(path)
    options = build_options(read_facts(path))
    network: Any = build_model("cvm-nano", checkpoint.num_classes, **options)
    load_network(network, checkpoint)
    network.eval()
    mean, std = (torch.tensor(values)[:, None, None] for values in (network.config.mean, network.config.std))

    def see(first: TrueView, second: TrueView, pose: Tensor, _planes: Tensor) -> Tensor:
        images = [
            torch.from_numpy(v.frame.image.copy()).permute(2, 0, 1).float() / 255 for v in (first, second)
        ]
        flat = (torch.stack(images) - mean) / std
        with torch.no_grad():
            features = network.spatial(flat, None)[None]
            back = torch.linalg.inv(pose)
            own = torch.eye(4)[None]
            poses = torch.stack([torch.stack([own, pose], 1), torch.stack([back, own], 1)], 1)
            views = network.cvm.transformer(features, None)
            costs: Tensor = network.cvm.costs(views, poses, camera(first).expand(1, 2, 4), 1)[0, 0]
        return costs

    return see


def camera(view: TrueView) -> Tensor:
    """(1, 4) fx, fy, cx, cy."""
    model = view.frame.camera
    return torch.tensor([[model.fx, model.fy, model.cx, model.cy]])


if __name__ == "__main__":
    main()
