"""`m2h-bench`: how fast an engine and the loop around it are on this machine; and whether another one is slower."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

from m2h_runtime.cli.arguments import OneLineParser, count, positive
from m2h_runtime.cli.leaving import leave
from m2h_runtime.errors import InputError, M2HError
from m2h_runtime.shipped import DEMO_ENGINE, shipped_engine

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from rich.progress import Progress

    from m2h_runtime.bench.measuring import Part, Plan
    from m2h_runtime.bench.stopping import Stop
    from m2h_runtime.bench.subject import Subject
    from m2h_runtime.engine import Engine

PARTS = ("latency", "loop", "peak", "soak", "cold-start")
USUAL = ("latency", "loop", "peak", "cold-start")
QUICK = {"seconds": 2.0, "rates": [30.0], "starts": 1}
USUALLY = {"seconds": 10.0, "rates": [10.0, 30.0, 60.0], "starts": 3}
OUTPUTS = ("json", "markdown", "png", "html")
WITH_COMPARE = ("compare", "fail_if_slower")
MAPPING = "mapping"
"""As first argument: the benchmark of `bench_mapping`."""


def build_parser() -> argparse.ArgumentParser:
    """The options. Nothing heavy is imported for them."""
    parser = OneLineParser(
        prog="m2h-bench",
        description="Latency of an engine, the whole loop at fixed rates, peak throughput, soak and cold start; or a "
        "comparison that knows its noise.",
        epilog="Exit codes: 0 measured or compared; 1 --fail-if-slower: B is; 2 a foreseen failure; 130 Ctrl-C, what "
        "was measured until then is written. m2h-bench mapping --help: another benchmark, of the maps that an engine's "
        "depth and labels make.",
    )
    _add_engine(parser)
    _add_measuring(parser)
    _add_comparing(parser)
    outputs = parser.add_argument_group("output")
    outputs.add_argument("--json", metavar="FILE", type=Path, help="everything; what --compare reads")
    outputs.add_argument("--markdown", metavar="FILE", type=Path, help="the tables")
    outputs.add_argument("--png", metavar="FILE", type=Path, help="histograms and curves")
    outputs.add_argument("--html", metavar="FILE", type=Path, help="tables and pictures in one file")
    return parser


def _add_engine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("engine")
    group.add_argument(
        "--engine", metavar="FOLDER", type=Path, help=f"engine folder (default: the shipped {DEMO_ENGINE})"
    )
    group.add_argument("--backend", metavar="B", help="auto (default) or a backend's name")
    group.add_argument(
        "--threads", metavar="N", type=count, help="CPU threads of the engine (default: all cores)"
    )
    group.add_argument(
        "--allow-unverified", action="store_true", help="also open an engine without a passing verdict"
    )


def _add_measuring(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is measured")
    group.add_argument(
        "--only",
        metavar="LIST",
        type=parts,
        help=f"of {','.join(PARTS)} (default: all but soak, which --soak adds; with --against: latency)",
    )
    group.add_argument("--rates", metavar="HZ,HZ", type=rates, help="of the camera (default: 10,30,60)")
    group.add_argument("--seconds", metavar="S", type=positive, help="of each measurement (default: 10)")
    group.add_argument(
        "--soak", metavar="MINUTES", type=positive, help="soak so long, at the first of --rates"
    )
    group.add_argument("--starts", metavar="N", type=count, help="cold starts (default: 3)")
    group.add_argument("--quick", action="store_true", help="a look: 2 seconds each, 30 Hz, one cold start")


def _add_comparing(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("comparison")
    how = group.add_mutually_exclusive_group()
    how.add_argument(
        "--compare", metavar=("A.json", "B.json"), nargs=2, type=Path, help="two results of this machine"
    )
    how.add_argument(
        "--against",
        metavar="ENGINE|BACKEND",
        help="run another engine, or this one on another backend, in turn",
    )
    group.add_argument(
        "--fail-if-slower", metavar="PERCENT", type=positive, help="exit with 1 if B is slower by more"
    )


def parts(text: str) -> list[str]:
    """Names from `PARTS`, in its order."""
    import argparse

    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in PARTS:
            raise argparse.ArgumentTypeError(f"no part {name!r}; there are {', '.join(PARTS)}")
    return [name for name in PARTS if name in names]


def rates(text: str) -> list[float]:
    """Positive numbers."""
    return [positive(part) for part in text.split(",")]


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] == [MAPPING]:
        from m2h_runtime.cli import bench_mapping

        return bench_mapping.main(given[1:])
    try:
        return run(build_parser().parse_args(given))
    except M2HError as error:
        _say(str(error))
        return 2
    except KeyboardInterrupt:
        _say("interrupted")
        return 128 + signal.SIGINT


def run(args: argparse.Namespace) -> int:
    """Compare two results, or measure.

    Raises:
        M2HError: anything foreseen; what was measured until then is written.
    """
    _check_options(args)
    if args.compare is not None:
        a, b = args.compare
        return _compare(a, b, args.fail_if_slower)
    _check_outputs(args)
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    import cv2

    from m2h_runtime.bench.stopping import Stop, stopped_by_signals
    from m2h_runtime.memory import keep_freed_memory

    cv2.setNumThreads(1)  # as m2h-run does
    keep_freed_memory()
    stop = Stop()
    with stopped_by_signals(stop):
        return _measure(args, stop)


def _check_options(args: argparse.Namespace) -> None:
    """Refuse options that would be ignored.

    Raises:
        InputError: names the option.
    """
    if args.fail_if_slower is not None and args.compare is None and args.against is None:
        raise InputError("--fail-if-slower goes with --compare or --against")
    given = [name for name, value in vars(args).items() if value not in (None, False)]
    if args.compare is not None and (extra := [name for name in given if name not in WITH_COMPARE]):
        raise InputError(f"--{extra[0].replace('_', '-')} does not go with --compare, which measures nothing")


def _check_outputs(args: argparse.Namespace) -> None:
    """Find out now, not after minutes, whether the outputs can be written.

    Raises:
        InputError, SinkError: one cannot.
    """
    from m2h_runtime.bench.report_figures import check_drawing
    from m2h_runtime.sinks.base import check_writable

    for name in OUTPUTS:
        if (path := getattr(args, name)) is not None:
            check_writable(path)
    if args.png is not None or args.html is not None:
        check_drawing()


def _compare(a: Path, b: Path, limit_percent: float | None) -> int:
    from m2h_runtime.bench.results import compare, read_result

    verdict, warning = compare(read_result(a), read_result(b))
    if warning:
        _say(warning)
    sys.stdout.write(f"{verdict.text}\n")
    return int(limit_percent is not None and verdict.slower_by(limit_percent))


def plan(args: argparse.Namespace) -> Plan:
    """What the options ask for."""
    from m2h_runtime.bench.measuring import Plan

    usual: dict[str, Any] = QUICK if args.quick else USUALLY
    chosen = args.only or (["latency"] if args.against else list(USUAL))
    if args.soak is not None and "soak" not in chosen:
        chosen = parts(",".join([*chosen, "soak"]))
    return Plan(
        cast("list[Part]", chosen),
        args.rates or usual["rates"],
        args.seconds or usual["seconds"],
        60 * (args.soak or 1.0),
        args.starts or usual["starts"],
    )


def _measure(args: argparse.Namespace, stop: Stop) -> int:
    from m2h_runtime.bench import facts
    from m2h_runtime.bench.measuring import SCHEMA, Measuring
    from m2h_runtime.bench.sensors import Sensors, open_nvml

    folder = (args.engine or shipped_engine()).resolve()
    sensors = Sensors(gpu=open_nvml()[0])
    machine = facts.machine(sensors)
    if (line := facts.busy(machine)) is not None:
        _say(line)
    chosen = plan(args)
    with ExitStack() as stack:
        engine = stack.enter_context(_open(args, folder, args.backend or "auto"))
        reference = (
            _reference(args, engine.backend, stack) if "latency" in chosen.parts and args.json else None
        )
        progress = stack.enter_context(_progress())
        result: dict[str, Any] = {
            "schema": SCHEMA,
            "outcome": "failed",
            "error": None,
            "machine": machine,
            "engine": facts.engine(engine, folder, args.threads),
            "settings": {
                "parts": list(chosen.parts),
                "rates_hz": list(chosen.rates_hz),
                "seconds": chosen.seconds,
            },
        }
        measuring = Measuring(engine, folder, args.threads, chosen, stop, sensors, _bar(progress), reference)
        try:
            measuring.run()
            if args.against is not None and not stop.requested:
                result["against"] = _against(args, engine, folder, chosen.seconds, stop, _bar(progress))
            result["outcome"] = "interrupted" if stop.requested else "finished"
        except M2HError as error:
            result["error"] = str(error)
            raise
        finally:
            result |= measuring.result
            progress.stop()
            _write(args, result)
    slower = args.fail_if_slower is not None and _slower(result.get("against"), args.fail_if_slower)
    return 128 + stop.signal_number if stop.signal_number is not None else int(slower)


def _against(
    args: argparse.Namespace,
    engine: Engine,
    folder: Path,
    seconds: float,
    stop: Stop,
    bar: Callable[[str], Callable[[float], None]],
) -> dict[str, Any]:
    """Both engines open in this process; `seconds` for each."""
    from m2h_runtime.bench import facts
    from m2h_runtime.bench.against import against_result
    from m2h_runtime.engine import BACKENDS

    is_backend = args.against in BACKENDS
    other = folder if is_backend else Path(args.against)
    backend = args.against if is_backend else args.backend or "auto"
    with _open(args, other, backend) as second:
        told = against_result((engine, folder), (second, other), 2 * seconds, stop, bar("in turn"))
        return {"engine": facts.engine(second, other, args.threads), **told}


def _slower(against: dict[str, Any] | None, percent: float) -> bool:
    if against is None or against["verdict"]["kind"] != "slower":
        return False
    return bool(against["verdict"]["ratio"] > 1 + percent / 100)


def _open(args: argparse.Namespace, folder: Path, backend: str) -> Engine:
    from m2h_runtime.engine import open_engine

    return open_engine(folder, backend, allow_unverified=args.allow_unverified, threads=args.threads)


def _reference(args: argparse.Namespace, backend: str, stack: ExitStack) -> Subject | None:
    """The shipped engine on this backend; None, and why in a line, where it does not open."""
    from m2h_runtime.bench.subject import Subject

    try:
        folder = shipped_engine()
        return Subject.of(stack.enter_context(_open(args, folder, backend)), folder)
    except M2HError as error:
        _say(f"no reference engine takes turns, so --compare can only judge runs of one clock: {error}")
        return None


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=not console.is_terminal)


def _bar(progress: Progress) -> Callable[[str], Callable[[float], None]]:
    def begin(title: str) -> Callable[[float], None]:
        task = progress.add_task(title, total=1.0)
        return lambda share: progress.update(task, completed=min(1.0, share))

    return begin


def _write(args: argparse.Namespace, result: dict[str, Any]) -> None:
    """Print the tables, and write every file that was asked for."""
    from m2h_runtime.bench.report_figures import png
    from m2h_runtime.bench.report_html import html
    from m2h_runtime.bench.report_markdown import markdown
    from m2h_runtime.files import write_atomically

    _print(result)
    made: dict[str, Callable[[], bytes]] = {
        "json": lambda: (json.dumps(result, indent=1) + "\n").encode(),
        "markdown": lambda: markdown(result).encode(),
        "png": lambda: png(result),
        "html": lambda: html(result).encode(),
    }
    for name, make in made.items():
        if (path := getattr(args, name)) is not None:
            write_atomically(path, make())


def _print(result: dict[str, Any]) -> None:
    from rich.console import Console

    from m2h_runtime.bench.tables import headline, tables
    from m2h_runtime.cli.tables import print_table

    console = Console(highlight=False)
    console.print(headline(result), soft_wrap=True)
    for told in tables(result):
        print_table(console, told)
    if result["outcome"] != "finished":
        console.print(f"{result['outcome']}: the rest was not measured")


def _say(text: str) -> None:
    sys.stderr.write(f"m2h-bench: {text}\n")


def command() -> NoReturn:
    """The console script."""
    leave(main())


if __name__ == "__main__":
    command()
