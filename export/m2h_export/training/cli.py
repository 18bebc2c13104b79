"""`m2h-train`: an experiment's YAML in, weights for `m2h-export` out."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from m2h_runtime.cli.arguments import OneLineParser, count
from m2h_runtime.errors import M2HError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def build_parser() -> argparse.ArgumentParser:
    """The command line; nothing heavy is imported to print its help."""
    parser = OneLineParser(
        prog="m2h-train",
        description="Train a network. FOLDER gets model.safetensors (weights for m2h-export), states to go on "
        "from, the experiment with all its defaults, metrics.jsonl and curves.png. Several processes: torchrun "
        "--nproc-per-node N -m m2h_export.training.cli ...",
        epilog="example: m2h-train export/experiments/m2h_nyudv2.yaml --data ~/nyudv2 --out runs/m2h --device cuda",
    )
    parser.add_argument(
        "experiment", type=Path, metavar="EXPERIMENT.yaml", help="what to train, on what, how"
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="FOLDER", help="where everything is written"
    )
    parser.add_argument("--data", metavar="ROOT", help="the data set's folder (instead of data.root)")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from the last state in FOLDER, from the start if it has none",
    )
    parser.add_argument(
        "--steps", type=count, metavar="N", help="total steps (stages keep their shares, the decay its shape)"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="of weights, order and augmentation")
    parser.add_argument(
        "--set",
        dest="changes",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a key of the experiment, e.g. --set optimiser.lr=1e-4; may be given again",
    )
    parser.add_argument("--threads", type=count, metavar="N", help="CPU threads (default: all cores)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default cpu")
    return parser


def run(args: argparse.Namespace) -> int:
    """Train as the options say."""
    try:
        import torch

        from m2h_export.training.batches import open_training_data
        from m2h_export.training.curves import draw_curves
        from m2h_export.training.distributed import join_world
        from m2h_export.training.experiment import read_experiment
        from m2h_export.training.panels import SamplePanels
        from m2h_export.training.trainer import Trainer
    except ModuleNotFoundError as error:
        raise M2HError(f"the package {error.name} is missing: pip install 'm2h-runtime[export]'") from error
    experiment = read_experiment(args.experiment, args.changes)
    if args.data is not None:
        experiment = dataclasses.replace(
            experiment, data=dataclasses.replace(experiment.data, root=args.data)
        )
    if args.seed is not None:
        experiment = dataclasses.replace(experiment, seed=args.seed)
    if args.steps is not None:
        experiment = experiment.with_steps(args.steps)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    with join_world(args.device) as world:
        samples = open_training_data(experiment.data)
        panels = SamplePanels(args.out, samples) if experiment.panels_every else None
        trainer = Trainer(experiment, samples, args.out, world=world, resume=args.resume, on_panels=panels)
        trainer.progress.say(
            f"{experiment.name}: {experiment.model.name}, {len(samples)} samples, "
            f"{experiment.total_steps} steps, {world.size} process(es) on {world.device.type}"
        )
        outcome = trainer.run()
        if world.rank == 0:
            draw_curves(args.out / "metrics.jsonl", args.out / "curves.png")
        weights = args.out / "model.safetensors"
        if not outcome.signal:
            trainer.progress.say(f"{weights}: done, {outcome.step} steps")
            return 0
        given = shlex.join(argument for argument in args.given if argument != "--resume")
        trainer.progress.say(
            f"stopped after step {outcome.step}; go on with: {_command(world.size)} {given} --resume"
        )
        return 128 + outcome.signal


def _command(processes: int) -> str:
    if processes == 1:
        return "m2h-train"
    return f"torchrun --nproc-per-node {processes} -m m2h_export.training.cli"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. 0: trained; 2: a foreseen error, one line; 128 + signal: stopped, and can be resumed."""
    args = build_parser().parse_args(argv)
    args.given = list(sys.argv[1:] if argv is None else argv)
    try:
        return run(args)
    except M2HError as error:
        print(f"m2h-train: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        print("m2h-train: stopped before the running step was over", file=sys.stderr)  # noqa: T201
        return 130


if __name__ == "__main__":
    sys.exit(main())
