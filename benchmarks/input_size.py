"""Engine latency against the size of the input, and what a megapixel costs.

    python benchmarks/input_size.py --engines out/engines --out benchmarks/results/input_size.json

Sizes are whole patches of the network, so that no border is computed for nothing. Engines that are missing are exported
with random weights. All pairs of size and backend take turns (turns.py); a line is fitted through the medians.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from machine import facts  # beside this script
from turns import compared, engine_turn, exported, possible_backends, take_turns

from m2h_runtime.cli.arguments import network_size
from m2h_runtime.engine.manifest import read_manifest
from m2h_runtime.engine.ort import usable_cores
from m2h_runtime.files import write_atomically

SIZES = {  # patches of 16 and of 14
    "m2h-nano": [(160, 160), (224, 224), (224, 320), (320, 320), (448, 448)],
    "m2h-small": [(154, 154), (224, 224), (224, 322), (322, 322), (448, 448)],
}
BACKENDS = ("onnxruntime-cpu", "openvino", "openvino-bf16")


def main() -> None:
    """Take turns for every network, write the JSON after each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engines", type=Path, required=True, help="where the engines lie or are made")
    parser.add_argument("--models", nargs="+", default=list(SIZES))
    parser.add_argument("--sizes", nargs="+", type=network_size, metavar="HxW", help="two at least")
    parser.add_argument("--backends", nargs="+", default=list(BACKENDS), choices=BACKENDS)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="of timed frames in a turn, two at least")
    parser.add_argument("--out", type=Path, required=True, help="JSON file; networks that it has are kept")
    args = parser.parse_args()
    kept = json.loads(args.out.read_text())["models"] if args.out.is_file() else {}
    result = {
        "command": "python " + " ".join(sys.argv),
        "machine": facts(),
        "threads": args.threads,
        "models": kept,
    }
    for model in args.models:
        result["models"][model] = one_model(model, args.sizes or SIZES[model], args)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(args.out, (json.dumps(result, indent=1) + "\n").encode())


def one_model(model: str, sizes: list[tuple[int, int]], args: argparse.Namespace) -> dict[str, Any]:
    """Per backend the rows by size, and the line through them."""
    engines = {size: exported(folder_of(args.engines, model, size), model, size) for size in sizes}
    backends = possible_backends(engines[sizes[0]], args.backends)
    contestants = {f"{name} {h}x{w}": (name, (h, w)) for name in backends for h, w in sizes}

    def turn(who: str) -> float:
        name, size = contestants[who]
        return engine_turn(engines[size], name, args.threads, args.seconds)

    times = take_turns(contestants, args.rounds, turn, model)
    found = {}
    for name in backends:
        own = {f"{h}x{w}": times[f"{name} {h}x{w}"] for h, w in sizes}
        rows = compared(own, next(iter(own)))
        for (height, width), row in zip(sizes, rows.values(), strict=True):
            row |= {
                "pixels": height * width,
                "gflop": read_manifest(engines[height, width]).graph.gflop,
            }
        found[name] = {
            "sizes": rows,
            "line": line([r["pixels"] for r in rows.values()], [r["median_ms"] for r in rows.values()]),
        }
    return found


def folder_of(engines: Path, model: str, size: tuple[int, int]) -> Path:
    """The engine of a size; 224x224 is the one that the other scripts use."""
    return engines / (model if size == (224, 224) else f"{model}-{size[0]}x{size[1]}")


def line(pixels: list[int], ms: list[float]) -> dict[str, float]:
    """Least squares of ms = fixed + slope × megapixels, with the share of the variance that it explains."""
    megapixels, values = np.array(pixels) / 1e6, np.array(ms)
    slope, fixed = np.polyfit(megapixels, values, 1)
    left = values - (fixed + slope * megapixels)
    explained = 1 - float((left**2).sum() / ((values - values.mean()) ** 2).sum())
    return {
        "fixed_ms": round(float(fixed), 2),
        "ms_per_megapixel": round(float(slope), 1),
        "r2": round(explained, 4),
    }


if __name__ == "__main__":
    main()
