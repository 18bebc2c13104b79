"""One step of gpu.py in a process of its own; tells its result as JSON in the last line.

python benchmarks/gpu_turn.py peaks cuda
python benchmarks/gpu_turn.py reference cuda m2h-nano FOLDER
python benchmarks/gpu_turn.py graphs cuda m2h-nano FOLDER
python benchmarks/gpu_turn.py eager-fp16 cuda m2h-nano FOLDER --iterations 200
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from equality import proof
from gpu_contestants import contestant, in_torch, manifest_of
from gpu_names import CONTESTANTS, STRICT
from roofline import peaks, traffic
from timing import Clock

from m2h_runtime.engine.manifest import GRAPH_NAME
from m2h_runtime.engine.selftest import read_golden, write_golden

ROOT = Path(__file__).resolve().parent.parent
SIZE = (224, 224)


def main() -> None:
    """Do the step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=("peaks", "reference", "graphs", *CONTESTANTS))
    parser.add_argument("device", choices=("cuda", "cpu"))
    parser.add_argument("model", nargs="?")
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("this PyTorch sees no CUDA device: torch.cuda.is_available() is False")
    clock = Clock(args.device)
    if args.step == "peaks":
        side, repeats = (512, 3) if args.quick else (8192, 20)
        told: dict[str, Any] = peaks(clock, args.device, side, copy_mb(args.device, args.quick), repeats)
    elif args.step == "reference":
        told = reference(args.model, args.folder, clock)
    elif args.step == "graphs":
        told = graphs(args.model, args.folder)
    else:
        told = measure(args.step, args.model, args.folder, clock, args.iterations)
    print(json.dumps(told))


def copy_mb(device: str, quick: bool) -> int:
    """How much to copy: far more than any cache holds, and there has to be room for two of it."""
    if quick:
        return 64
    have = torch.cuda.get_device_properties(0).total_memory if device == "cuda" else 4_000_000_000
    return min(4000, have // 8_000_000)


def reference(model: str, folder: Path, clock: Clock) -> dict[str, Any]:
    """What everybody is compared with: PyTorch fp32 without TF32, as published."""
    folder.mkdir(parents=True, exist_ok=True)
    image = picture()
    write_golden(folder, image, in_torch(STRICT, model, SIZE, clock).infer(image))
    return {"image": "golden frame of engines/m2h-nano-apartments, resized"}


def graphs(model: str, folder: Path) -> dict[str, Any]:
    """The rewritten graph in fp32 and typed fp16, and what each costs."""
    from m2h_export.deploy.cost import gflop
    from m2h_export.deploy.typed_fp16 import to_fp16

    graph = rewritten_graph(model)
    told: dict[str, Any] = {"gflop": round(gflop(graph), 2)}
    for precision, typed in (("fp32", graph), ("fp16", to_fp16(graph))):
        weights, activations = traffic(typed)
        told[precision] = {
            "weights_mb": round(weights / 1e6, 1),
            "activations_mb": round(activations / 1e6, 1),
        }
        place = folder / precision / GRAPH_NAME
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(typed.SerializeToString())
    return told


def rewritten_graph(model: str) -> Any:
    """The deploy graph in fp32, as m2h-export makes it."""
    from m2h_export.deploy.contract_stage import ContractGraph
    from m2h_export.deploy.graph import export_graph
    from m2h_export.deploy.network import DeployM2H
    from m2h_export.models import build_model
    from m2h_export.random_weights import fill_weights

    network = build_model(model).eval()
    fill_weights(network, 0)
    config = network.config
    return export_graph(ContractGraph(DeployM2H(network, SIZE), config.mean, config.std), SIZE)


def picture() -> np.ndarray:
    """A frame of an apartment that ships with the demo engine, at our size, uint8 (H, W, 3)."""
    with np.load(ROOT / "engines" / "m2h-nano-apartments" / "golden.npz") as stored:
        image = stored["image"]
    rows, cols = (np.arange(n) * have // n for n, have in zip(SIZE, image.shape[:2], strict=True))
    return np.ascontiguousarray(image[rows][:, cols])


def measure(name: str, model: str, folder: Path, clock: Clock, iterations: int) -> dict[str, Any]:
    """Prove one contestant, then time it: the engine alone, and with the copies from and to host memory."""
    golden = read_golden(folder, manifest_of(folder, model, SIZE, "fp32"))
    start = time.perf_counter()
    opened = contestant(name, folder, SIZE, clock)
    limits = "fp32" if opened.computes_in == "fp32" else "fp16"  # whose mantissa TF32 has
    proved = proof(opened.infer, golden.image, golden.outputs, limits)
    ready_s = time.perf_counter() - start
    warm_up = max(1, iterations // 4)
    told: dict[str, Any] = {
        "computes_in": opened.computes_in,
        "proof": proved,
        "ready_s": round(ready_s, 1),
        "iterations": iterations,
        "with_copies_ms": spread(clock.wall(lambda: opened.infer(golden.image), iterations, warm_up)),
    }
    if opened.step is not None:
        told["engine_ms"] = spread(clock.times(opened.step, iterations, warm_up))
    return told


def spread(times: list[float]) -> dict[str, float]:
    """Milliseconds."""
    values = {f"p{share}": float(np.percentile(times, share)) for share in (50, 90, 99)}
    return {name: round(ms, 4) for name, ms in {**values, "min": min(times), "max": max(times)}.items()}


if __name__ == "__main__":
    main()
