"""Engine latency against threads: 1, 2, ... usable cores, on every CPU backend.

    python benchmarks/threads.py --engines out/engines --out benchmarks/results/threads.json

All pairs of backend and thread count take turns (turns.py); the ratio is to one thread of the same backend.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from machine import facts  # beside this script
from turns import compared, engine_turn, exported, possible_backends, take_turns

from m2h_runtime.engine.ort import usable_cores
from m2h_runtime.files import write_atomically

SIZE = (224, 224)
BACKENDS = ("onnxruntime-cpu", "openvino", "openvino-bf16")


def counts(cores: int) -> list[int]:
    """1, 2, 4, ... and all cores."""
    return sorted({2**power for power in range(cores.bit_length()) if 2**power <= cores} | {cores})


def main() -> None:
    """Take turns for every network, write the JSON after each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engines", type=Path, required=True, help="folder with one engine per network")
    parser.add_argument("--models", nargs="+", default=["m2h-nano", "m2h-small"])
    parser.add_argument("--backends", nargs="+", default=list(BACKENDS), choices=BACKENDS)
    parser.add_argument("--threads", nargs="+", type=int, default=counts(usable_cores()), help="1 among them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="of timed frames in a turn, two at least")
    parser.add_argument("--out", type=Path, required=True, help="JSON file; networks that it has are kept")
    args = parser.parse_args()
    if 1 not in args.threads:
        parser.error("--threads: one thread is what all others are compared with")
    kept = json.loads(args.out.read_text())["models"] if args.out.is_file() else {}
    result = {"command": "python " + " ".join(sys.argv), "machine": facts(), "models": kept}
    for model in args.models:
        result["models"][model] = one_model(model, args)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(args.out, (json.dumps(result, indent=1) + "\n").encode())


def one_model(model: str, args: argparse.Namespace) -> dict[str, dict[str, dict[str, object]]]:
    """Rows per backend and thread count."""
    engine = exported(args.engines / model, model, SIZE)
    backends = possible_backends(engine, args.backends)
    contestants = {f"{name} {count}": (name, count) for name in backends for count in args.threads}
    times = take_turns(
        contestants,
        args.rounds,
        lambda who: engine_turn(engine, *contestants[who], args.seconds),
        model,
    )
    rows = {}
    for name in backends:
        own = {str(count): times[f"{name} {count}"] for count in args.threads}
        rows[name] = compared(own, "1")
    return rows


if __name__ == "__main__":
    main()
