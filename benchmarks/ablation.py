"""The ablation of the M2H paper (Table VI) on simulated apartments, small enough for a CPU.

    python benchmarks/ablation.py run --data data/apartments --out out/ablation --seeds 1
    python benchmarks/ablation.py table            # docs/ablation.md from benchmarks/results/ablation.json

Every row is one `m2h-train` of `export/experiments/ablation_apartments.yaml` and one `m2h-eval` on the reserved
apartments, with equal steps, order of samples and augmentation per seed; `--jobs` of them run at a time, one thread
each. Runs that are there are kept, so a stopped ablation goes on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import machine

ROOT = Path(__file__).resolve().parent.parent
EXPERIMENT = ROOT / "export" / "experiments" / "ablation_apartments.yaml"
RESULTS = ROOT / "benchmarks" / "results" / "ablation.json"
PAGE = ROOT / "docs" / "ablation.md"
TASKS = ("semantics", "depth", "normals", "edges")
ALONE = ["model.mixing=none"]
VARIANTS: dict[str, list[str]] = {
    **{f"single-task: {task}": [f"tasks=[{task}]", *ALONE] for task in TASKS},
    "plain multi-task": [*ALONE, "model.ggfm=false"],
    "without WMCA": ALONE,
    "without GGFM": ["model.ggfm=false"],
    "MHA instead of WMCA": ["model.mixing=mha"],
    "full": [],
}
SIGNS = {"semantics": 1, "depth": -1, "normals": -1, "edges": 1}


def main() -> int:
    """Run the ablation, or write its page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("--data", type=Path, required=True)
    run.add_argument("--out", type=Path, required=True)
    run.add_argument("--seeds", type=int, default=1)
    run.add_argument("--jobs", type=int, default=2)
    run.add_argument("--steps", type=int)
    commands.add_parser("table")
    args = parser.parse_args()
    if args.command == "run":
        measure(args)
    PAGE.write_text(page(json.loads(RESULTS.read_text())))
    return 0


def measure(args: argparse.Namespace) -> None:
    """Train and evaluate everything, then write the results file."""
    runs = [(name, seed) for seed in range(args.seeds) for name in VARIANTS]
    with ThreadPoolExecutor(args.jobs) as pool:
        found = list(pool.map(lambda run: one(*run, args), runs))
    steps = args.steps or int(
        next(line for line in EXPERIMENT.read_text().splitlines() if line.startswith("steps:"))[6:]
    )
    record = {
        "command": "python benchmarks/ablation.py run --data data/apartments --out out/ablation "
        f"--seeds {args.seeds}" + (f" --steps {args.steps}" if args.steps else ""),
        "machine": machine.facts(),
        "steps": steps,
        "experiment": EXPERIMENT.read_text(),
        "runs": [
            {"variant": name, "seed": seed, **result}
            for (name, seed), result in zip(runs, found, strict=False)
        ],
    }
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")


def one(name: str, seed: int, args: argparse.Namespace) -> dict[str, object]:
    """The headline metrics of one run."""
    folder = args.out / f"{name.replace(': ', '-').replace(' ', '-')}-{seed}"
    results = folder / "eval" / "results.json"
    if not results.is_file():
        changes = [part for change in VARIANTS[name] for part in ("--set", change)]
        steps = ["--steps", str(args.steps)] if args.steps else []
        command = [
            sys.executable,
            "-m",
            "m2h_export.training.cli",
            EXPERIMENT,
            "--out",
            folder,
            "--data",
            args.data,
        ]
        call([*command, "--seed", seed, "--threads", 1, "--resume", *steps, *changes], folder, "train")
        command = [
            sys.executable,
            "-m",
            "m2h_export.evaluation.cli",
            "--checkpoint",
            folder / "model.safetensors",
        ]
        data = ["--data", "apartments", "--root", args.data, "--split", "test", "--size", "96x128"]
        call(
            [*command, *data, "--absent", "exclude", "--threads", 1, "--out", results.parent], folder, "eval"
        )
    told = json.loads(results.read_text())
    trained = [name.removeprefix("single-task: ")] if name.startswith("single") else list(TASKS)
    return {"headlines": {task: told["headlines"][task] for task in trained}, "images": told["images"]}


def call(command: list[object], folder: Path, name: str) -> None:
    """Run a command with its output in a log file."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.log").open("w") as log:
        done = subprocess.run([str(part) for part in command], stdout=log, stderr=log)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: failed, see {folder / name}.log")


def means(record: dict, variant: str) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation over seeds, per task."""
    runs = [run["headlines"] for run in record["runs"] if run["variant"] == variant]
    return {
        task: (statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0)
        for task in runs[0]
        if (values := [run[task] for run in runs])
    }


def page(record: dict) -> str:
    """docs/ablation.md."""
    alone = {task: means(record, f"single-task: {task}")[task] for task in TASKS}
    seeds = len({run["seed"] for run in record["runs"]})
    rows = [("single-task × 4 (baseline)", alone)]
    rows += [(name, means(record, name)) for name in VARIANTS if not name.startswith("single")]
    lines = [
        "# Ablation on simulated apartments",
        "",
        "The paper's Table VI compares modules of M2H on NYUDv2. This page does the same with `m2h-nano` on simulated",
        f"apartments: {record['steps']} steps of batch 8 at 96 × 128, {seeds} seed{'s' * (seeds > 1)}, evaluated at 96 × 128 on",
        f"{record['runs'][0]['images']} frames of the five reserved apartments. Every row sees the same pictures in the same order.",
        f"Made by `{record['command']}` on {record['machine']['cpu']}, {record['machine']['cores']} cores,",
        f"{record['machine']['date']}; this page by `python benchmarks/ablation.py table`.",
        "",
        "| | mIoU ↑ | depth RMSE (m) ↓ | normals mErr (°) ↓ | odsF ↑ | Δ_MTL (%) ↑ |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in rows:
        gain = 100 / 4 * sum(SIGNS[t] * (row[t][0] - alone[t][0]) / alone[t][0] for t in TASKS)
        cells = [
            f"{100 * row['semantics'][0]:.2f}" + spread(100 * row["semantics"][1], seeds),
            f"{row['depth'][0]:.4f}" + spread(row["depth"][1], seeds),
            f"{row['normals'][0]:.2f}" + spread(row["normals"][1], seeds),
            f"{100 * row['edges'][0]:.2f}" + spread(100 * row["edges"][1], seeds),
            f"{gain:+.2f}" if row is not alone else "0",
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    notes = PAGE.read_text().split("\n## ", 1)[1:] if PAGE.is_file() else []
    return "\n".join(lines) + "\n" + "".join(f"\n## {note}" for note in notes)


def spread(value: float, seeds: int) -> str:
    """± over seeds, where there are several."""
    return f" ± {value:.2g}" if seeds > 1 else ""


if __name__ == "__main__":
    raise SystemExit(main())
