"""The whole loop through `m2h-run`: FPS on every CPU backend, the engine's share of a frame, time to first perception.

    python benchmarks/loop_speed.py --engines out/engines --out benchmarks/results/loop_speed.json

The clip is 640 × 480 at 30 frames a second (tools/demo_clip.py), played as fast as possible, nothing dropped, nothing
recorded. Each command runs once unmeasured, so that caches are warm; then `--rounds` times in turn with the others.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from machine import facts  # beside this script

ROOT = Path(__file__).resolve().parent.parent
RUNS = (
    ("m2h-nano-apartments", "onnxruntime-cpu", 120),
    ("m2h-nano-apartments", "auto", 120),
    ("m2h-nano", "onnxruntime-cpu", 120),
    ("m2h-nano", "openvino", 120),
    ("m2h-nano", "openvino-bf16", 120),
    ("m2h-nano", "auto", 120),
    ("m2h-small", "onnxruntime-cpu", 15),
    ("m2h-small", "openvino", 15),
    ("m2h-small", "openvino-bf16", 30),
    ("m2h-small", "auto", 30),
)


def main() -> None:
    """Run everything in turn, write the JSON and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--engines",
        type=Path,
        required=True,
        help="folder with one engine folder per network, but for shipped ones",
    )
    parser.add_argument("--models", nargs="+", default=list(dict.fromkeys(run[0] for run in RUNS)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--out", type=Path, required=True, help="JSON file; runs that it has already are kept"
    )
    args = parser.parse_args()
    rows: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        clip, report = Path(scratch) / "clip.mp4", Path(scratch) / "report.json"
        subprocess.run([sys.executable, str(ROOT / "tools" / "demo_clip.py"), str(clip)], check=True)
        for turn in range(args.rounds + 1):
            for model, backend, frames in (run for run in RUNS if run[0] in args.models):
                shipped = ROOT / "engines" / model
                command = [
                    sys.executable,
                    "-m",
                    "m2h_runtime.cli.run",
                    "--video",
                    str(clip),
                    "--frames",
                    str(frames),
                ]
                command += [
                    "--engine",
                    str(shipped if shipped.is_dir() else args.engines / model),
                    "--backend",
                    backend,
                    "--report",
                    str(report),
                ]
                subprocess.run(command, check=True, capture_output=True)
                told = json.loads(report.read_text())
                if turn:
                    rows.setdefault(f"{model} {backend}", []).append(
                        {
                            "fps": told["fps"],
                            "engine_share": told["engine_share"],
                            "engine_p50_ms": told["latency_ms"]["engine"]["p50"],
                            "first_perception_s": told["time_to_first_perception_s"],
                        }
                    )
            print(f"turn {turn} of {args.rounds}", flush=True)
    kept = json.loads(args.out.read_text())["runs"] if args.out.is_file() else {}
    result = {
        "command": "python " + " ".join(sys.argv),
        "machine": facts(),
        "clip": "640x480, 30 FPS",
        "runs": kept
        | {
            name: {
                **{key: round(median(turn[key] for turn in turns), 3) for key in turns[0]},
                "fps_turns": [round(turn["fps"], 1) for turn in turns],
                "first_perception_s_max": round(max(turn["first_perception_s"] for turn in turns), 3),
            }
            for name, turns in rows.items()
        },
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    for name, row in result["runs"].items():
        print(
            f"{name:28} {row['fps']:6.1f} FPS, engine {row['engine_p50_ms']:6.1f} ms, "
            f"{100 * row['engine_share']:.0f} % of the time, first after {row['first_perception_s']:.2f} s"
        )


if __name__ == "__main__":
    main()
