"""`m2h-bench mapping`: what a map made of an engine's depth and labels is worth, beside one made of the truth."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2h_runtime.cli.arguments import OneLineParser, not_negative, positive
from m2h_runtime.errors import M2HError
from m2h_runtime.shipped import DEMO_ENGINE, shipped_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.progress import Progress

    from m2h_runtime.engine import Engine

WALK, DURATION_S = "9001-handheld", 60.0
SCHEMA = "m2h-bench-mapping/1"


def build_parser() -> argparse.ArgumentParser:
    """The options. Nothing heavy is imported for them."""
    parser = OneLineParser(
        prog="m2h-bench mapping",
        description="Map simulated walks with the true depth and labels, and with those of engines, each without and "
        "with temporal alignment. Compare surface, rooms and objects with the truth.",
        epilog="Exit codes: 0 measured; 2 a foreseen failure; 130 Ctrl-C, nothing is written then. "
        "docs/mapping.md says how each figure is made.",
    )
    parser.add_argument(
        "--engine",
        metavar="FOLDER",
        type=Path,
        action="append",
        help=f"engine folder; may be given again (default: the shipped {DEMO_ENGINE})",
    )
    parser.add_argument(
        "--walk",
        metavar="NAME",
        action="append",
        help=f"simulated apartment and walk; may be given again (default: {WALK})",
    )
    parser.add_argument(
        "--duration",
        metavar="S",
        type=positive,
        default=DURATION_S,
        help=f"of each walk (default {DURATION_S:g})",
    )
    parser.add_argument(
        "--pose-noise",
        metavar="M,DEG",
        type=_noise,
        default=(0.0, 0.0),
        help="standard deviations of an error on each pose: metres, degrees (default: true poses)",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="everything, walk by walk")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="the tables")
    return parser


def _noise(text: str) -> tuple[float, float]:
    try:
        metres, degrees = (not_negative(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected metres and degrees, e.g. 0.01,0.5, got {text!r}"
        ) from None
    return metres, degrees


def main(argv: Sequence[str]) -> int:
    """The command; returns its exit code."""
    try:
        return run(build_parser().parse_args(argv))
    except M2HError as error:
        _say(str(error))
        return 2
    except KeyboardInterrupt:
        _say("interrupted; nothing was written")
        return 128 + signal.SIGINT


def run(args: argparse.Namespace) -> int:
    """Measure, print, write.

    Raises:
        M2HError: anything foreseen.
    """
    from m2h_runtime.sinks.base import check_writable

    for path in (args.json, args.markdown):
        if path is not None:
            check_writable(path)
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    import cv2

    cv2.setNumThreads(1)
    _write(args, _measure(args))
    return 0


def _measure(args: argparse.Namespace) -> dict[str, Any]:
    from m2h_runtime.bench import facts
    from m2h_runtime.bench.rendered_walk import FPS
    from m2h_runtime.bench.sensors import Sensors, open_nvml
    from m2h_runtime.engine import open_engine
    from m2h_runtime.scene_graph.roles import roles_of
    from m2h_runtime.sources.simulation import parse_name

    folders, names = args.engine or [shipped_engine()], args.walk or [WALK]
    for name in names:
        parse_name(name)  # one that does not exist is known now
    with ExitStack() as stack:
        engines = {folder.name: stack.enter_context(open_engine(folder)) for folder in folders}
        for engine in engines.values():
            roles_of(engine.manifest.label_space)  # a label space without roles is known now
        progress = stack.enter_context(_progress())
        passes = 2 + 2 * len(engines)
        task = progress.add_task("", total=len(names) * passes * max(1, int(args.duration * FPS)))
        walks = {}
        for name in names:
            progress.update(task, description=name)
            walks[name] = _results(name, engines, args, lambda: progress.advance(task))
        return {
            "schema": SCHEMA,
            "machine": facts.machine(Sensors(gpu=open_nvml()[0])),
            "engines": {folder.name: facts.engine(engines[folder.name], folder, None) for folder in folders},
            "settings": {"duration_s": args.duration, "pose_noise": args.pose_noise},
            "walks": walks,
        }


def _results(
    name: str, engines: dict[str, Engine], args: argparse.Namespace, on_frame: Callable[[], None]
) -> list[dict[str, Any]]:
    """The truth, then each engine without and with alignment, by the name of its folder."""
    from m2h_runtime.bench.mapping import TRUTH, measure_mapping
    from m2h_runtime.bench.rendered_walk import RenderedWalk

    walk = RenderedWalk(name, duration_s=args.duration, on_frame=on_frame)
    ways: list[tuple[str, Engine | None, bool]] = [(TRUTH, None, False)]
    ways += [(name, engine, aligned) for name, engine in engines.items() for aligned in (False, True)]
    return [
        measure_mapping(
            walk, engine, name=name, aligned=aligned, pose_noise=args.pose_noise, on_frame=on_frame
        ).as_dict()
        for name, engine, aligned in ways
    ]


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=not console.is_terminal)


def _write(args: argparse.Namespace, result: dict[str, Any]) -> None:
    """Print the tables, and write what was asked for."""
    from rich.console import Console

    from m2h_runtime.bench.mapping_tables import mapping_table, pooled
    from m2h_runtime.bench.report_markdown import table_markdown
    from m2h_runtime.cli.tables import print_table
    from m2h_runtime.files import write_atomically

    walks = result["walks"]
    tables = [mapping_table(name, rows) for name, rows in walks.items()]
    if len(walks) > 1:
        tables.append(mapping_table("all walks", pooled(list(walks.values()))))
    for table in tables:
        print_table(Console(highlight=False), table)
    if args.markdown is not None:
        text = "\n\n".join(["# m2h-bench mapping", *map(table_markdown, tables)])
        write_atomically(args.markdown, f"{text}\n".encode())
    if args.json is not None:
        write_atomically(args.json, (json.dumps(result, indent=1) + "\n").encode())


def _say(text: str) -> None:
    sys.stderr.write(f"m2h-bench mapping: {text}\n")
