"""Does m2h-bench tell the truth: an engine against itself is no difference, and one slowed by 10 % is found.

    python benchmarks/honesty.py --out benchmarks/results/honesty.json

Each repeat makes three runs in processes of their own, in random order (the engine, the engine again, the engine slowed
down), compares them as `--compare` does, and lets the engine take turns with itself and with the slowed one as
`--against` does. A verdict "cannot tell" counts as wrong in both cases; how often it came is written, too.
`--methods against` repeats the second part alone.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from machine import facts as machine_facts  # beside this script

from m2h_runtime import open_engine
from m2h_runtime.bench import facts
from m2h_runtime.bench.against import against_result
from m2h_runtime.bench.measuring import SCHEMA, Measuring, Plan
from m2h_runtime.bench.results import compare, read_result
from m2h_runtime.bench.sensors import Sensors
from m2h_runtime.bench.slowed import SlowedEngine
from m2h_runtime.bench.stopping import Stop
from m2h_runtime.bench.subject import Subject
from m2h_runtime.shipped import shipped_engine

METHODS = ("compare", "against")
WANTED = {"same": "no difference", "slowed": "slower"}
GOAL = 0.95


def one(args: argparse.Namespace) -> None:
    """One run of the latency, as `m2h-bench --only latency --json` makes it, of an engine that may be slowed."""
    with (
        open_engine(args.engine, args.backend) as opened,
        open_engine(shipped_engine(), args.backend) as other,
    ):
        engine = SlowedEngine(opened, args.slow) if args.slow else opened
        sensors = Sensors()
        plan = Plan(["latency"], seconds=2 * args.seconds)  # half is the reference's
        reference = Subject.of(other, shipped_engine())
        measuring = Measuring(
            engine, args.engine, None, plan, Stop(), sensors, lambda _: lambda _: None, reference
        )
        result = {
            "schema": SCHEMA,
            "machine": facts.machine(sensors),
            "engine": facts.engine(engine, args.engine, None),
            **measuring.run(),
        }
    args.out.write_text(json.dumps(result))


def turns(args: argparse.Namespace) -> None:
    """The engine against itself, and against itself slowed down, in this process."""
    told = {}
    with open_engine(args.engine, args.backend) as a, open_engine(args.engine, args.backend) as b:
        for case, other in (("same", b), ("slowed", SlowedEngine(b, args.share))):
            result = against_result((a, args.engine), (other, args.engine), 2 * args.seconds, Stop())
            told[case] = result["verdict"]
    args.out.write_text(json.dumps(told))


def child(args: argparse.Namespace, part: str, out: Path, *more: str) -> None:
    """This script again, in a process of its own."""
    command = [sys.executable, __file__, "--part", part, "--out", str(out), "--seconds", str(args.seconds)]
    command += ["--engine", str(args.engine), "--backend", args.backend, "--share", str(args.share), *more]
    subprocess.run(command, check=True)


def repeat(args: argparse.Namespace, scratch: Path) -> dict[str, dict[str, Any]]:
    """Verdicts of one repeat, by method and case."""
    found = {}
    if "compare" in args.methods:
        found["compare"] = separate(args, scratch)
    if "against" in args.methods:
        child(args, "turns", scratch / "turns.json")
        found["against"] = json.loads((scratch / "turns.json").read_text())
    return found


def separate(args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Three runs in processes of their own, compared."""
    files = {name: scratch / f"{name}.json" for name in ("a", "same", "slowed")}
    for name in random.sample(list(files), 3):
        child(args, "one", files[name], "--slow", str(args.share if name == "slowed" else 0.0))
    runs = {name: read_result(file) for name, file in files.items()}
    told = {}
    for case in WANTED:
        verdict, _ = compare(runs["a"], runs[case])
        told[case] = {"kind": verdict.kind, "ratio": verdict.ratio, "text": verdict.text}
    return told


def summary(repeats: list[dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """By method and case how many verdicts were right."""
    told: dict[str, dict[str, Any]] = {}
    for method in repeats[0]:
        for case, wanted in WANTED.items():
            kinds = Counter(found[method][case]["kind"] for found in repeats)
            told[f"{method}, {case}"] = {
                "wanted": wanted,
                "right": kinds[wanted],
                "of": len(repeats),
                "kinds": dict(kinds),
                "met": kinds[wanted] >= GOAL * len(repeats),
            }
    return told


def main() -> None:
    """Repeat, print each verdict, and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", type=Path, default=shipped_engine())
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=6.0, help="for each side of a comparison")
    parser.add_argument("--share", type=float, default=0.1, help="how much slower the slowed engine is")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part", choices=("all", "one", "turns"), default="all", help=argparse.SUPPRESS)
    parser.add_argument("--slow", type=float, default=0.0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part != "all":
        (one if args.part == "one" else turns)(args)
        return
    with open_engine(args.engine, args.backend) as engine:
        args.backend = engine.backend  # the same in every run
    repeats: list[dict[str, dict[str, Any]]] = []
    began = time.monotonic()
    for number in range(args.repeats):
        with tempfile.TemporaryDirectory() as scratch:
            repeats.append(repeat(args, Path(scratch)))
        for method, cases in repeats[-1].items():
            for case, verdict in cases.items():
                print(f"{number + 1}/{args.repeats} {method:7} {case:6} {verdict['text']}", flush=True)
        result = {
            "command": "python " + " ".join(sys.argv),
            "machine": machine_facts(),
            "engine": args.engine.name,
            "backend": args.backend,
            "seconds": args.seconds,
            "share": args.share,
            "minutes": round((time.monotonic() - began) / 60, 1),
            "summary": summary(repeats),
            "repeats": repeats,
        }
        args.out.write_text(json.dumps(result, indent=1) + "\n")  # after each, so that a stopped one tells
    for name, told in summary(repeats).items():
        print(
            f"{name}: {told['right']} of {told['of']} {told['wanted']}: {'met' if told['met'] else 'missed'}"
        )


if __name__ == "__main__":
    main()
