"""Engine latency on this CPU against the same network in plain PyTorch eager, as published.

Every contestant runs in a process of its own, so that no thread pool spins beside another's, and the contestants
take turns for several rounds, so that a machine that slows down slows them all. The figure is the ratio within a
round; its median, smallest and largest over the rounds are reported. Agreement is checked before anything is timed.

    python benchmarks/cpu_speed.py --rounds 5 --out benchmarks/results/cpu_speed.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from machine import facts  # beside this script

ROOT = Path(__file__).resolve().parent.parent
SIZE = 224
THREADS = 2
CONTESTANTS = ("eager", "onnxruntime-cpu", "openvino", "openvino-bf16")
FRAMES = {"m2h": 3, "m2h-small": 6, "m2h-nano": 40}  # timed frames a turn
EAGER_FRAMES = {"m2h": 2, "m2h-small": 2, "m2h-nano": 20}


def turn(model: str, contestant: str, engine: Path) -> float:
    """Median milliseconds per frame of one contestant, in this process."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    if contestant == "eager":
        import torch

        from m2h_export.models import build_model
        from m2h_export.random_weights import fill_weights

        torch.set_num_threads(THREADS)
        network = build_model(model).eval()
        fill_weights(network, 0)
        picture = torch.from_numpy(image).permute(2, 0, 1)[None].float().div(255)

        def infer() -> None:
            with torch.inference_mode():
                network(picture)

        frames = EAGER_FRAMES[model]
    else:
        from m2h_runtime import open_engine

        opened = open_engine(engine, contestant, threads=THREADS)

        def infer() -> None:
            opened.infer(image)

        frames = FRAMES[model]
    infer()
    times = []
    for _ in range(frames):
        start = time.perf_counter()
        infer()
        times.append(1e3 * (time.perf_counter() - start))
    return median(times)


def main() -> None:
    """Export the engines (which proves agreement), take turns, write the JSON and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="+", default=list(FRAMES), choices=list(FRAMES))
    parser.add_argument(
        "--engines", type=Path, help="folder with one engine folder per model (default: made here)"
    )
    parser.add_argument("--out", type=Path, help="JSON file; models that it has already are kept")
    parser.add_argument("--turn", nargs=3, metavar=("MODEL", "CONTESTANT", "ENGINE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.turn:
        print(turn(args.turn[0], args.turn[1], Path(args.turn[2])))
        return
    result = {
        "command": "python " + " ".join(sys.argv),
        "machine": facts(),
        "size": [SIZE, SIZE],
        "threads": THREADS,
        "models": {},
    }
    if args.out and args.out.is_file():
        result["models"] = json.loads(args.out.read_text())["models"]
    with tempfile.TemporaryDirectory() as scratch:
        for model in args.models:
            result["models"][model] = one_model(model, args.rounds, (args.engines or Path(scratch)).resolve())
            if args.out:
                args.out.parent.mkdir(parents=True, exist_ok=True)
                args.out.write_text(json.dumps(result, indent=1) + "\n")
    for model, rows in result["models"].items():
        for contestant, row in rows.items():
            print(
                f"{model:10} {contestant:16} {row['median_ms']:8.1f} ms   {row['ratio']:5.2f}x eager "
                f"({row['ratio_min']:.2f} to {row['ratio_max']:.2f})"
            )


def one_model(model: str, rounds: int, engines: Path) -> dict[str, dict[str, object]]:
    """Export if need be, then `rounds` turns for everyone."""
    engine = engines / model
    if not engine.is_dir():
        subprocess.run(
            [
                sys.executable,
                "-m",
                "m2h_export.cli",
                "--model",
                model,
                "--random-weights",
                "--size",
                f"{SIZE}x{SIZE}",
                "--out",
                str(engine),
            ],
            check=True,
            cwd=ROOT,
        )
    times: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    for index in range(rounds):
        for name in CONTESTANTS:
            command = [sys.executable, __file__, "--turn", model, name, str(engine)]
            done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
            times[name].append(float(done.stdout.split()[-1]))
        print(
            f"{model}: round {index + 1} of {rounds}: "
            + ", ".join(f"{name} {times[name][-1]:.1f} ms" for name in CONTESTANTS),
            flush=True,
        )
    rows = {}
    for name in CONTESTANTS:
        ratios = [eager / own for eager, own in zip(times["eager"], times[name], strict=True)]
        rows[name] = {
            "median_ms": round(median(times[name]), 2),
            "turns_ms": [round(t, 2) for t in times[name]],
            "ratio": round(median(ratios), 2),
            "ratio_min": round(min(ratios), 2),
            "ratio_max": round(max(ratios), 2),
        }
    return rows


if __name__ == "__main__":
    main()
