"""`m2h-eval`: a checkpoint or an engine on a data set, in the published metrics."""

from __future__ import annotations

import argparse
import math
import re
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2h_runtime.cli.arguments import OneLineParser, count, network_size, signs
from m2h_runtime.errors import InputError, M2HError
from m2h_runtime.files import reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Executor

    from m2h_export.data.sample import DenseDataset
    from m2h_export.data.views import Views
    from m2h_export.evaluation.evaluator import Evaluator
    from m2h_export.evaluation.predictors import Predictor

_PASCAL_MAX_DIST = 0.0075


def build_parser() -> argparse.ArgumentParser:
    """The options; nothing heavy is imported for them."""
    parser = OneLineParser(
        prog="m2h-eval",
        description="Evaluate weights or an engine on a data set: mIoU, depth errors, normal angles, odsF, and the "
        "angle between predicted depth and predicted normals where the camera is known.",
        epilog="example: m2h-eval --checkpoint model.safetensors --data nyudv2_folder --root NYUD_MT --split val "
        "--out results --panels 8",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="weights: .safetensors, or a .pt state dict"
    )
    what.add_argument("--engine", type=Path, metavar="FOLDER", help="engine folder")
    parser.add_argument(
        "--model", metavar="NAME", help="network of the checkpoint (default: what the file says)"
    )
    parser.add_argument("--backend", metavar="B", help="of the engine (default: auto)")
    parser.add_argument("--device", default="cpu", help="of a checkpoint: cpu (default) or cuda")
    parser.add_argument("--threads", type=count, metavar="N", help="CPU threads (default: all cores)")
    parser.add_argument(
        "--normals-sign",
        type=signs,
        metavar="X,Y,Z",
        help="factors of 1 or -1 that bring a checkpoint's normals into the camera optical frame",
    )
    data = parser.add_argument_group("data")
    data.add_argument("--data", required=True, metavar="KIND", help="kind of data set, e.g. nyudv2_folder")
    data.add_argument("--root", required=True, type=Path, metavar="FOLDER", help="where it lies")
    data.add_argument("--split", default="val", metavar="S", help="default val")
    data.add_argument(
        "--size", type=network_size, metavar="HxW", help="evaluate at this size (default: the data's own)"
    )
    data.add_argument(
        "--views",
        type=count,
        default=1,
        metavar="N",
        help="give a cvm checkpoint N - 1 neighbours of each picture, from data with poses (default 1: none)",
    )
    data.add_argument(
        "--gap",
        type=_gap,
        metavar="A,B",
        help="of the neighbours, the nearest and the farthest in frames (default 1,10)",
    )
    data.add_argument("--limit", type=count, metavar="N", help="only the first N samples")
    output = parser.add_argument_group("output")
    output.add_argument("--out", type=Path, metavar="FOLDER", help="write results.json and panels there")
    output.add_argument("--panels", type=count, default=0, metavar="N", help="so many panels, evenly spread")
    output.add_argument("--baseline", type=Path, metavar="FILE", help="results.json to tell the gain over")
    variants = parser.add_argument_group("variants")
    variants.add_argument("--odsf-variant", choices=("invpt", "sak", "mti", "bsds"), default="invpt")
    variants.add_argument(
        "--max-dist",
        type=float,
        metavar="F",
        help="matching tolerance of odsF, fraction of the diagonal (default: the variant's; PASCAL 0.0075)",
    )
    variants.add_argument(
        "--absent", choices=("zero", "exclude"), default="zero", help="classes without pixels"
    )
    variants.add_argument(
        "--depth-cap",
        type=_cap,
        default="multi_task",
        metavar="CAP",
        help="none, multi_task (80 m, default), single_task (10 m), or metres",
    )
    variants.add_argument("--depth-aggregate", choices=("pooled", "per_image"), default="pooled")
    variants.add_argument("--consistency", choices=("tblr", "sobel", "m2h"), default="tblr")
    variants.add_argument(
        "--workers", type=count, default=1, metavar="N", help="processes that match boundaries"
    )
    return parser


def run(args: argparse.Namespace) -> int:
    """Evaluate as the options say.

    Raises:
        M2HError: anything foreseen; options, baseline and data set are looked at before the network runs.
    """
    from rich.console import Console

    _check_options(args)
    try:
        from m2h_export.data import open_dataset
        from m2h_export.evaluation import report
    except ModuleNotFoundError as error:
        raise M2HError(f"the package {error.name} is missing: pip install 'm2h-runtime[export]'") from error
    console = Console(width=None if sys.stdout.isatty() else 100)
    baseline = report.read_headlines(args.baseline) if args.baseline else None
    dataset = open_dataset(args.data, args.root, split=args.split, size=args.size)
    views = _views(args, dataset)
    count = min(len(dataset), args.limit or len(dataset))
    if not count:
        raise InputError(f"{args.root}: no samples in split {args.split}; choose another --split")
    predictor = _predictor(args)
    with _executor(args.workers) as executor:
        evaluator = _evaluator(args, dataset, predictor, executor)
        alone = _evaluate(evaluator, predictor, views, count, args, console)
        result = evaluator.result()
    result["predictor"] = {"name": predictor.name, "source": str(args.checkpoint or args.engine)}
    result["data"] = {"kind": args.data, "split": args.split, "size": args.size}
    if args.views > 1:
        result["views"] = {"count": args.views, "gap": views.settings.gap, "alone": alone}
        console.print(
            f"{args.views} views; {alone} of {count} pictures have no neighbour and were taken alone"
        )
    if baseline is not None:
        result["gain"] = report.gain_over(result, args.baseline, baseline)
    console.print(report.table(result))
    if args.out:
        console.print(f"{report.write_results(args.out, result)}", soft_wrap=True)
    return 0


def _check_options(args: argparse.Namespace) -> None:
    if args.panels and not args.out:
        raise InputError("--panels needs a place to write to; add --out FOLDER")
    if args.engine and (args.model or args.normals_sign):
        raise InputError("--model and --normals-sign go with --checkpoint; an engine has them built in")
    if args.gap and args.views == 1:
        raise InputError("--gap says which neighbours to take; add --views N")
    if args.engine and args.views > 1:
        raise InputError("--views goes with --checkpoint; an engine gets its neighbours from m2h-run")
    if args.checkpoint and args.backend:
        raise InputError("--backend goes with --engine; a checkpoint runs in PyTorch")
    if args.out:
        try:
            (args.out / "panels" if args.panels else args.out).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{args.out}: cannot be made ({reason(error)}); choose another --out") from error


def _views(args: argparse.Namespace, dataset: DenseDataset) -> Views:
    from m2h_export.data.views import PosedDataset, Views, ViewSettings

    if args.views > 1 and not isinstance(dataset, PosedDataset):
        raise InputError(f"--views {args.views}: {args.data} has no poses; apartments and nyuv2_video have")
    return Views(dataset, ViewSettings(args.views, args.gap or ViewSettings.gap))


def _predictor(args: argparse.Namespace) -> Predictor:
    from m2h_export.evaluation.predictors import EnginePredictor, TorchPredictor

    if args.engine:
        return EnginePredictor(args.engine, args.backend or "auto", args.threads)
    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    if args.device != "cpu" and not torch.cuda.is_available():
        raise InputError(f"--device {args.device}: PyTorch sees no such device here; use cpu")
    return TorchPredictor(args.checkpoint, args.model, args.device, args.normals_sign or (1, 1, 1))


def _evaluator(
    args: argparse.Namespace, dataset: DenseDataset, predictor: Predictor, executor: Executor | None
) -> Evaluator:
    from m2h_export.evaluation.evaluator import Evaluator

    max_dist = args.max_dist
    if max_dist is None and args.data == "pascal_context":
        max_dist = _PASCAL_MAX_DIST
    tasks = [task for task in predictor.tasks if task != "semantics" or dataset.class_names]
    return Evaluator(
        dataset.class_names,
        tasks,
        executor=executor,
        odsf=args.odsf_variant,
        max_dist=max_dist,
        absent=args.absent,
        depth_cap=args.depth_cap,
        depth_aggregate=args.depth_aggregate,
        consistency=args.consistency,
    )


def _evaluate(
    evaluator: Evaluator,
    predictor: Predictor,
    views: Views,
    count: int,
    args: argparse.Namespace,
    console: Any,
) -> int:
    """Count every picture; returns how many of them had no neighbour."""
    from rich.progress import track

    from m2h_export.evaluation.panels import label_space_of, panel, write_panel
    from m2h_export.evaluation.predictors import ClassMap, TorchPredictor

    class_names = views.dataset.class_names
    to_data = ClassMap(predictor.class_names, class_names)
    space = label_space_of(class_names)
    shown = _spread(args.panels, count)
    alone = 0
    for index in track(
        range(count), predictor.name, console=console, disable=not console.is_terminal, transient=True
    ):
        sample, *neighbours = views.nearest(index)
        alone += not neighbours
        if isinstance(predictor, TorchPredictor):
            prediction = to_data(predictor.predict_views([sample, *neighbours]))
        else:
            prediction = to_data(predictor.predict(sample.image))
        evaluator.add(prediction, sample)
        if index in shown:
            name = re.sub(r"[^\w.-]+", "_", sample.name)
            write_panel(args.out / "panels" / f"{index:05d}_{name}.png", panel(sample, prediction, space))
    return alone


def _spread(panels: int, count: int) -> set[int]:
    """Indices of `panels` samples, evenly spread over `count`."""
    return {int((i + 0.5) * count / panels) for i in range(min(panels, count))} if panels else set()


@contextmanager
def _executor(workers: int) -> Iterator[Executor | None]:
    if workers < 2:
        yield None
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    # A fork of a process with PyTorch's threads may hang.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        yield pool


def _cap(text: str) -> str | float:
    if text in ("none", "multi_task", "single_task"):
        return text
    try:
        metres = float(text)
    except ValueError:
        metres = math.nan
    if not metres > 0:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected none, multi_task, single_task or metres, e.g. 20"
        )
    return metres


def _gap(text: str) -> tuple[int, int]:
    try:
        near, far = (int(part) for part in text.split(","))
    except ValueError:
        near = far = 0
    if not 1 <= near <= far:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected the nearest and the farthest in frames, e.g. 1,10"
        )
    return near, far


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. 0: evaluated; 2: a foreseen error, one line; 130: Ctrl-C."""
    try:
        return run(build_parser().parse_args(argv))
    except M2HError as error:
        print(f"m2h-eval: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        print("m2h-eval: interrupted; no results were written", file=sys.stderr)  # noqa: T201
        return 130


if __name__ == "__main__":
    sys.exit(main())
