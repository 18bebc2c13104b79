"""Parity of every network with PyTorch fp32: exports each in fp32 and fp16 and collects the manifests' figures.

    python benchmarks/parity.py --engines out/engines --out benchmarks/results/parity.json

Random weights of seed 0, 224 × 224, the eight photographs of m2h-export. The fp32 engines stay in --engines, where
cpu_speed.py finds them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from machine import facts  # beside this script

from m2h_runtime.engine.manifest import read_manifest

MODELS = ("m2h-nano", "m2h-small", "m2h")


def main() -> None:
    """Export, collect, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engines", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    args = parser.parse_args()
    result = {"command": "python " + " ".join(sys.argv), "machine": facts(), "models": {}}
    if args.out.is_file():  # models that it has already are kept
        result["models"] = json.loads(args.out.read_text())["models"]
    for model in args.models:
        for precision in ("fp32", "fp16"):
            folder = args.engines / (model if precision == "fp32" else f"{model}-fp16")
            command = [sys.executable, "-m", "m2h_export.cli", "--model", model, "--random-weights"]
            command += ["--size", "224x224", "--precision", precision, "--out", str(folder)]
            subprocess.run(command, check=True)
            manifest = read_manifest(folder)
            result["models"][f"{model} {precision}"] = {
                "nodes_as_published": manifest.graph.nodes_as_published,
                "nodes": manifest.graph.nodes,
                "gflop_as_published": manifest.graph.gflop_as_published,
                "gflop": manifest.graph.gflop,
                "model_mb": round(manifest.files["model.onnx"].bytes / 1e6, 1),
                "runs": {run.backend: {"mean": run.mean, "worst": run.worst} for run in manifest.parity.runs},
            }
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
