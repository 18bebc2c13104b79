"""What the cross-view module brings on simulated apartments, small enough for a CPU: the papers' Tables 1, 4 to 7, A15.

    m2h-sim --apartments 48 --frames 6 --survey 10 --burst 2 --size 128x96 --out data/cvm
    m2h-sim --split test --frames 4 --survey 4 --burst 3 --size 128x96 --out data/cvm
    python benchmarks/cvm_simulation.py run --data data/cvm --out out/cvm --seeds 3
    python benchmarks/cvm_simulation.py figure --data data/cvm --out out/cvm     # docs/images/cvm_panels.jpg

Every run is one `m2h-train` of `export/experiments/cvm_apartments.yaml` with some changes, and an `m2h-eval` on the reserved
apartments for each number of views. All runs of a seed see the samples in the same order. `--jobs` run at a time, one thread
each; the results file is written after every run, and what is there is kept, so a stopped benchmark goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import machine
import yaml

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent.parent
EXPERIMENT = ROOT / "export" / "experiments" / "cvm_apartments.yaml"
RESULTS = ROOT / "benchmarks" / "results" / "cvm_simulation.json"
FIGURE = ROOT / "docs" / "images" / "cvm_panels.jpg"
SIZE = "96x128"
SAMPLES = (7, 55, 79)
"""Of the test split, shown in the figure."""


@dataclass(frozen=True)
class Variant:
    """A training, and the numbers of views that its weights are evaluated with."""

    changes: tuple[str, ...] = ()
    views: tuple[int, ...] = (1, 2)


def cvm(*changes: str) -> tuple[str, ...]:
    """Keys of `model.cvm`."""
    return tuple(f"model.cvm.{change}" for change in changes)


BARE = cvm("cost_volume=false", "cross_view_features=false")
VARIANTS: dict[str, Variant] = {
    "baseline": Variant((*BARE, "data.views.count=1", "batch=8"), (1,)),
    "baseline, video": Variant(BARE, (1,)),
    "CvM": Variant(views=(1, 2, 3)),
    "CvM, with our matching loss": Variant(("loss.matching_weight=2",), (1, 2, 3)),
    "without cost volume": Variant(cvm("cost_volume=false")),
    "without cross-view features": Variant(cvm("cross_view_features=false")),
    "encoder features instead of the CNN": Variant(cvm("spatial=encoder")),
    "self-attention instead of CvM": Variant(cvm("interaction=self-attention"), (1,)),
    "32 planes instead of 64": Variant(cvm("planes=32")),
    "128 planes instead of 64": Variant(cvm("planes=128")),
    "the papers' depth range": Variant(cvm("depths=[0.0001, 10]")),
}
MAIN = ("baseline", "baseline, video", "CvM")


def main() -> int:
    """Train and evaluate, or draw the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run, figure = commands.add_parser("run"), commands.add_parser("figure")
    for command in (run, figure):
        command.add_argument("--data", type=Path, required=True)
        command.add_argument("--out", type=Path, required=True)
        command.add_argument("--steps", type=int, default=steps_of_experiment())
    run.add_argument("--seeds", type=int, default=1, help="0, 1, ... (default 1)")
    run.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="VARIANT")
    run.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    if args.command == "figure":
        draw(args)
        return 0
    measure(args)
    return 0


def steps_of_experiment() -> int:
    """Those of the file."""
    return int(next(line for line in EXPERIMENT.read_text().splitlines() if line.startswith("steps:"))[6:])


def measure(args: argparse.Namespace) -> None:
    """Every run that is not there, and the results file after each."""
    runs = [(name, seed) for seed in range(args.seeds) for name in args.only]
    done: dict[tuple[str, int], dict[str, Any]] = {}
    with ThreadPoolExecutor(args.jobs) as pool:
        futures = {pool.submit(one, name, seed, args): (name, seed) for name, seed in runs}
        for future in as_completed(futures):
            name, seed = futures[future]
            done[name, seed] = future.result()
            write(done, args)
            print(f"{name}, seed {seed}: {json.dumps(done[name, seed]['evaluations'])}", flush=True)


def write(done: dict[tuple[str, int], dict[str, Any]], args: argparse.Namespace) -> None:
    """The results file: these runs, and those of the same length that it had."""
    kept = {}
    if RESULTS.is_file():
        kept = {
            (run["variant"], run["seed"]): run
            for run in json.loads(RESULTS.read_text())["runs"]
            if run["steps"] == args.steps
        }
    kept.update({key: {"variant": key[0], "seed": key[1], **run} for key, run in done.items()})
    seeds = max(seed for _, seed in kept) + 1
    record = {
        "command": "python benchmarks/cvm_simulation.py run --data data/cvm --out out/cvm "
        f"--seeds {seeds} --steps {args.steps}",
        "machine": machine.facts(),
        "steps": args.steps,
        "experiment": EXPERIMENT.read_text(),
        "runs": [kept[key] for key in sorted(kept, key=lambda key: (key[1], list(VARIANTS).index(key[0])))],
    }
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")


def folder_of(name: str, seed: int, args: argparse.Namespace) -> Path:
    """Of a run."""
    plain = "".join(c if c.isalnum() else "-" for c in name)
    return Path(args.out / f"{plain}-{seed}-{args.steps}")


def one(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train and evaluate one run, or read what it gave."""
    folder, variant = folder_of(name, seed, args), VARIANTS[name]
    weights = folder / "model.safetensors"
    if not (folder / "trained").is_file():
        changes = [part for change in variant.changes for part in ("--set", change)]
        options = [
            "--out",
            folder,
            "--data",
            args.data,
            "--seed",
            seed,
            "--threads",
            1,
            "--steps",
            args.steps,
        ]
        call("training", [EXPERIMENT, *options, "--resume", *changes], folder / "train.log")
        (folder / "trained").touch()
    found = {}
    for views in variant.views:
        out = folder / f"eval-{views}"
        if not (out / "results.json").is_file():
            where = ["--data", "apartments", "--root", args.data, "--split", "test", "--size", SIZE]
            options = ["--absent", "exclude", "--threads", 1, "--out", out, "--views", views]
            gap = ["--gap", "1,2"] if views > 1 else []
            call("evaluation", ["--checkpoint", weights, *where, *options, *gap], folder / "eval.log")
        told = json.loads((out / "results.json").read_text())
        found[str(views)] = {
            "headlines": told["headlines"],
            "consistency": told["consistency"],
            "images": told["images"],
            "alone": told.get("views", {}).get("alone"),
        }
    return {"steps": args.steps, "seconds_per_step": seconds_per_step(folder), "evaluations": found}


def call(stage: str, arguments: Sequence[object], log: Path) -> None:
    """Run a stage with its output in a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", f"m2h_export.{stage}.cli", *map(str, arguments)]
    with log.open("a") as stream:
        done = subprocess.run(command, stdout=stream, stderr=stream)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: failed, see {log}")


def seconds_per_step(folder: Path) -> float:
    """The median of a training's log."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rates = sorted(line["samples_per_s"] for line in lines)
    batch = yaml.safe_load((folder / "experiment.yaml").read_text())["batch"]
    return round(batch / rates[len(rates) // 2], 3)


def draw(args: argparse.Namespace) -> None:
    """docs/images/cvm_panels.jpg from the weights of seed 0."""
    import cv2
    import numpy as np

    from m2h_export.data import open_dataset
    from m2h_export.data.views import Views, ViewSettings
    from m2h_export.evaluation.panels import comparison, label_space_of
    from m2h_export.evaluation.predictors import TorchPredictor

    dataset = open_dataset("apartments", args.data, split="test")
    space = label_space_of(dataset.class_names)
    predictors = {
        name: TorchPredictor(folder_of(name, 0, args) / "model.safetensors")
        for name in ("baseline, video", "CvM")
    }
    sheets = []
    for index in SAMPLES:
        views = Views(dataset, ViewSettings(3, (1, 2))).nearest(index)
        seen = {
            "baseline, video": predictors["baseline, video"].predict(views[0].image),
            "CvM, one view": predictors["CvM"].predict(views[0].image),
            "CvM, two views": predictors["CvM"].predict_views(views[:2]),
        }
        sheets.append(comparison(views[0], seen, space, width=192))
    sheet = np.ascontiguousarray(np.concatenate(sheets)[..., ::-1])
    cv2.imwrite(str(FIGURE), sheet, [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    raise SystemExit(main())
