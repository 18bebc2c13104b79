"""`m2h-doctor`: what this machine has, which backends run on it, and whether an engine answers rightly here."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from m2h_runtime.cli.arguments import OneLineParser, positive, split_ros_args
from m2h_runtime.errors import BackendUnavailableError, EngineError, InputError, M2HError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console

    from m2h_runtime.engine.manifest import Manifest

OWN_BACKEND = {
    "onnx": "onnxruntime-cpu",
    "openvino": "openvino",
    "tensorrt": "tensorrt",
    "tensorrt-rtx": "tensorrt-rtx",
}
"""The backend that an engine is made for, by the kind of its target."""

PLAIN_WIDTH = 150
MARKS = {"found": "yes", "missing": "no", "broken": "BROKEN"}


def build_parser() -> argparse.ArgumentParser:
    """The options. Nothing heavy is imported for them."""
    parser = OneLineParser(
        prog="m2h-doctor",
        description="What this machine has: system, CPU, GPU, libraries, ROS, cameras, and which backends run.",
        epilog="Exit codes: 0 told, or all is well; 1 --verify: the engine failed, --ros: something is wrong; "
        "2 foreseen failures.",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the same facts as JSON")
    parser.add_argument(
        "--engine", metavar="FOLDER", type=Path, help="also show an engine and which backends can run it"
    )
    parser.add_argument(
        "--verify",
        metavar="FOLDER",
        type=Path,
        help="run an engine's golden frame here and write the verdict into its manifest",
    )
    parser.add_argument(
        "--backend", metavar="B", help="for --verify (default: the one the engine is made for)"
    )
    ros = parser.add_argument_group("ROS 2")
    ros.add_argument(
        "--ros",
        action="store_true",
        help="instead: check the topics of a running perception node as a strict reader; names the first thing wrong",
    )
    ros.add_argument("--profile", metavar="P", help="for --ros: what should be there (default: default)")
    ros.add_argument(
        "--seconds", metavar="S", type=positive, help="for --ros: how long to listen (default: 5)"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code: 0, 1 for an engine that fails --verify, 2 for foreseen failures."""
    ours, ros_args = split_ros_args(sys.argv[1:] if argv is None else argv)
    try:
        return run(build_parser().parse_args(ours), ros_args)
    except M2HError as error:
        sys.stderr.write(f"m2h-doctor: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("m2h-doctor: interrupted\n")
        return 128 + signal.SIGINT


def run(args: argparse.Namespace, ros_args: Sequence[str] = ()) -> int:
    """Check the options, find the facts, print them, verify if asked to; or look at a running ROS graph.

    Raises:
        M2HError: anything foreseen, before anything is printed where it can be known before.
    """
    check_options(args)
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    if args.ros:
        return run_ros(args, ros_args)
    for folder in (args.engine, args.verify):
        if folder is not None:
            read_engine(folder)
    from m2h_runtime.cli.stack import find_stack

    console = _console()
    facts: dict[str, Any] = {**find_stack(), "backends": backends(), "engine": None, "verify": None}
    print_stack(console, facts)
    print_backends(console, "backends on this machine", facts["backends"])
    if args.engine is not None:
        facts["engine"] = engine_facts(args.engine)
        print_engine(console, facts["engine"])
    try:
        if args.verify is not None:
            facts["verify"] = verify(args.verify, args.backend)
            print_verify(console, facts["verify"])
    finally:  # the facts are most wanted when something fails
        if args.json is not None:
            write_json(args.json, facts)
    return 1 if facts["verify"] is not None and facts["verify"]["verdict"] != "pass" else 0


def run_ros(args: argparse.Namespace, ros_args: Sequence[str]) -> int:
    """Look at a running ROS graph; returns the exit code.

    Raises:
        InputError: no such profile, or ROS is missing.
    """
    from m2h_runtime.cli.doctor_ros import check_ros, facts
    from m2h_runtime.pipeline.health import Level

    profile = args.profile or "default"
    findings = check_ros(_console(), profile, args.seconds or 5.0, ros_args)
    if args.json is not None:
        write_json(args.json, facts(profile, findings))
    return int(any(finding.level == Level.FAILED for finding in findings))


def check_options(args: argparse.Namespace) -> None:
    """Refuse options that would be ignored, and a place for the JSON that cannot be one.

    Raises:
        InputError: names the option and what to do.
    """
    if args.backend is not None and args.verify is None:
        raise InputError("--backend goes with --verify only")
    if args.ros and (args.engine is not None or args.verify is not None):
        raise InputError("--ros looks at a running graph; run --engine and --verify by themselves")
    if not args.ros and (args.profile is not None or args.seconds is not None):
        raise InputError("--profile and --seconds go with --ros only")
    if args.json is not None and args.json.exists() and not args.json.is_file():
        raise InputError(f"{args.json}: is a folder or a device; name a file")
    if args.json is not None and not args.json.parent.is_dir():
        raise InputError(f"{args.json}: cannot be written (no folder {args.json.parent}); make it first")


def read_engine(folder: Path) -> Manifest:
    """The manifest of an engine folder.

    Raises:
        EngineError: it is no engine, or the libraries that read one do not load.
    """
    try:
        import numpy as np  # noqa: F401  (first: without it OpenCV prints advice of its own)

        from m2h_runtime.engine.manifest import read_manifest
    except Exception as error:
        from m2h_runtime.cli.stack import told

        raise EngineError(
            f"{folder}: cannot be read, as a library that we need does not load ({told(error)}); "
            "m2h-doctor alone shows which"
        ) from error
    return read_manifest(folder)


# Backends


def backends() -> dict[str, dict[str, str]]:
    """For every backend whether it runs on this machine, and if not why and what would add it."""
    try:
        from m2h_runtime.engine.select import BACKENDS, backend_class
    except Exception as error:  # numpy or PyYAML is broken: then nothing of ours runs
        from m2h_runtime.cli.stack import told

        return {"all": {"state": "broken", "detail": told(error)}}
    return {name: _state(lambda name=name: backend_class(name).unavailable()) for name in BACKENDS}  # type: ignore[misc]


def fitting(folder: Path, manifest: Manifest) -> dict[str, dict[str, str]]:
    """For every backend whether it can run this engine here. One that is broken leaves the others as they are."""
    from m2h_runtime.engine import select

    return {
        name: _state(lambda name=name: select._unfit(name, folder, manifest))  # type: ignore[misc]
        for name in select.BACKENDS
    }


def _state(why_not: Callable[[], str | None]) -> dict[str, str]:
    from m2h_runtime.cli.stack import told

    try:
        why = why_not()
    except (Exception, SystemExit) as error:  # a backend's library can raise anything as it loads
        return {"state": "broken", "detail": told(error)}
    return {"state": "found" if why is None else "missing", "detail": why or ""}


# Engines


def engine_facts(folder: Path) -> dict[str, Any]:
    """What an engine is, whether its files are intact, and which backends can run it.

    Raises:
        EngineError: the folder is no engine.
    """
    from m2h_runtime.engine.manifest import check_files

    manifest = read_engine(folder)
    try:
        check_files(folder, manifest)
        files = "intact"
    except EngineError as error:
        files = str(error)
    target, checkpoint = manifest.target, manifest.checkpoint
    return {
        "folder": str(folder),
        "name": manifest.name,
        "engine_id": manifest.engine_id(),
        "size": list(manifest.size),
        "precision": manifest.precision,
        "stored_weights": manifest.weights,
        "random_weights": checkpoint.random_weights,
        "checkpoint": checkpoint.file,
        "verdict": manifest.parity.verdict,
        "runs": [
            {"backend": one.backend, "verdict": one.verdict, "images": one.images}
            for one in manifest.parity.runs
        ],
        "target": {
            "kind": target.kind,
            "tensorrt": target.tensorrt,
            "compute_capability": target.compute_capability,
            "gpu": target.gpu,
        },
        "files": files,
        "backends": fitting(folder, manifest),
    }


def verify(folder: Path, backend: str | None = None) -> dict[str, Any]:
    """Run the golden frame on this device and write the verdict into the manifest.

    As `open_engine` with `allow_unverified`, save that an earlier failure on the golden frame is no obstacle:
    whoever has mended a driver verifies again.

    Args:
        folder: an engine folder.
        backend: one of `BACKENDS`; None or "auto" is the one that the engine is made for.

    Raises:
        M2HError: the engine cannot be run here at all; the manifest stays as it was.
    """
    from m2h_runtime.engine.manifest import ParityRun, check_files
    from m2h_runtime.engine.parity import summary
    from m2h_runtime.engine.select import backend_class
    from m2h_runtime.engine.selftest import read_golden, run_self_test

    manifest = read_engine(folder)
    name = _backend_for(manifest, backend)
    check_files(folder, manifest)
    golden = read_golden(folder, manifest)
    fit = fitting(folder, _without_golden_failures(manifest))[name]
    if fit["state"] != "found":
        raise BackendUnavailableError(f"{name}: {fit['detail']}")
    with backend_class(name).open(folder, manifest, None) as engine:
        test = run_self_test(engine, golden)
    mean, worst = summary([test.figures])
    verdict: Literal["pass", "fail"] = "fail" if test.problems else "pass"
    made = ParityRun(name, verdict, 1, mean, worst)
    runs = tuple(one for one in manifest.parity.runs if one.backend != name)
    replace(manifest, parity=replace(manifest.parity, verdict=verdict, runs=(*runs, made))).write(folder)
    return {
        "folder": str(folder),
        "backend": name,
        "verdict": verdict,
        "verdict_before": manifest.parity.verdict,
        "problems": list(test.problems),
        "figures": mean,
    }


def _backend_for(manifest: Manifest, named: str | None) -> str:
    from m2h_runtime.engine.select import BACKENDS

    name = OWN_BACKEND.get(manifest.target.kind) if named in (None, "auto") else named
    if name is None:
        raise InputError(f"the engine's target {manifest.target.kind!r} is not known here; name a --backend")
    if name not in BACKENDS:
        raise InputError(f"no backend {name!r}; there are {', '.join(BACKENDS)}")
    return name


def _without_golden_failures(manifest: Manifest) -> Manifest:
    """One image can be run again here; a failure over many images, at export, is not undone by one."""
    kept = tuple(one for one in manifest.parity.runs if one.verdict != "fail" or one.images > 1)
    return replace(manifest, parity=replace(manifest.parity, runs=kept))


def write_json(path: Path, facts: dict[str, Any]) -> None:
    """Write `facts`, whole or not at all; NaN and infinity, which JSON lacks, as null.

    Raises:
        InputError: it cannot be written.
    """
    from m2h_runtime.files import write_atomically

    write_atomically(path, (json.dumps(_finite(facts), indent=2, allow_nan=False) + "\n").encode())


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float) and value - value != 0:
        return None
    return value


# Tables


def _console() -> Console:
    from rich.console import Console

    logging.getLogger("m2h").addHandler(logging.NullHandler())  # what goes wrong is in our own tables
    # In a log file whole lines are worth more than a terminal's 80 columns.
    return Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)


def _print_rows(
    console: Console, title: str, headings: tuple[str, ...], rows: Iterator[tuple[str, ...]]
) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", title_style="bold", show_header=any(headings))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        # Text, as rich would take the brackets of "pip install 'x[y]'" for markup.
        table.add_row(*(Text(cell, style="red" if cell == MARKS["broken"] else "") for cell in row))
    console.print(table)


def print_stack(console: Console, facts: dict[str, Any]) -> None:
    """Print machine, libraries and cameras."""
    _print_rows(console, "machine", ("", ""), _machine_rows(facts))
    libraries = (
        (name, MARKS[one["state"]], one["version"], one["detail"]) for name, one in facts["libraries"].items()
    )
    _print_rows(console, "libraries", ("library", "there", "version", "more"), libraries)
    if not facts["cameras"]:
        console.print("cameras: not found (no /dev/video*)\n")
        return
    cameras = (
        (one["device"], one["name"], "yes" if one["readable"] else "no", one["hint"])
        for one in facts["cameras"]
    )
    _print_rows(console, "cameras", ("device", "name", "readable", "what helps"), cameras)


def _machine_rows(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    machine, gpu, board = facts["machine"], facts["gpu"], facts["board"]
    yield "system", f"{machine['os']}, Linux {machine['kernel']}, {machine['architecture']}"
    yield "m2h-runtime", f"{machine['m2h_runtime']}, Python {machine['python']} ({machine['executable']})"
    features = machine["cpu"]["features"]
    yield "CPU", machine["cpu"]["model"]
    yield (
        "instructions",
        ", ".join(f"{name} {'yes' if on else 'no'}" for name, on in features.items()) or "unknown",
    )
    yield "cores", _cores(machine["cores"])
    yield "RAM", _ram(machine["ram_bytes"])
    if gpu["state"] == "found":
        for device in gpu["devices"]:
            yield "GPU", f"{device['name']}, {device['memory']}"
        yield "NVIDIA driver", f"{gpu['driver']}, CUDA up to {gpu['cuda'] or 'unknown'}"
    else:
        yield "GPU", f"{'not found' if gpu['state'] == 'missing' else 'BROKEN'} ({gpu['detail']})"
    yield "board", board["model"] if board else "not found (no device tree: a PC or a virtual machine)"
    yield "Jetson L4T", board["l4t"] if board and board["l4t"] else "not found"
    yield "ROS", _ros(facts["ros"])


def _cores(cores: dict[str, Any]) -> str:
    limit = "" if cores["quota"] is None else f"; a quota allows {cores['quota']:g} at a time"
    return f"{cores['usable']} usable of {cores['machine']}{limit}"


def _ram(ram: dict[str, int | None]) -> str:
    parts = [f"{size / 2**30:.1f} GiB {name}" for name, size in ram.items() if size is not None]
    return ", ".join(parts) or "unknown"


def _ros(ros: dict[str, Any]) -> str:
    rclpy = ros["rclpy"]
    if not ros["distro"] and rclpy["state"] == "missing":
        return f"not found{' here: ' + ros['hint'] if ros['hint'] else ''}"
    state = {"found": "importable", "missing": "not found", "broken": f"BROKEN ({rclpy['detail']})"}
    said = f"{ros['distro'] or 'ROS_DISTRO not set'}, rclpy {state[rclpy['state']]}"
    return f"{said}; {ros['hint']}" if ros["hint"] else said


def print_backends(console: Console, title: str, states: dict[str, dict[str, str]]) -> None:
    """Print which backends run and what the others lack."""
    rows = ((name, MARKS[one["state"]], one["detail"]) for name, one in states.items())
    _print_rows(console, title, ("backend", "can run", "why not, and what helps"), rows)


def print_engine(console: Console, facts: dict[str, Any]) -> None:
    """Print an engine's summary and which backends can run it."""
    _print_rows(console, f"engine {facts['folder']}", ("", ""), _engine_rows(facts))
    print_backends(console, f"backends for {facts['name']}", facts["backends"])


def _engine_rows(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    height, width = facts["size"]
    yield "name", f"{facts['name']} ({facts['engine_id']})"
    yield "size", f"{height} high, {width} wide"
    yield "precision", f"{facts['precision']}, weights stored in {facts['stored_weights']}"
    random = "RANDOM, not trained: the outputs show speed, not the scene"
    yield "weights", random if facts["random_weights"] else facts["checkpoint"]
    target = facts["target"]
    more = [
        f"{label} {target[key]}"
        for key, label in (
            ("tensorrt", "version"),
            ("compute_capability", "compute capability"),
            ("gpu", "on"),
        )
        if target[key]
    ]
    yield "target", ", ".join([target["kind"], *more])
    yield "verdict", facts["verdict"]
    for one in facts["runs"]:
        yield "", f"{one['backend']}: {one['verdict']} on {one['images']} image{'s'[: one['images'] != 1]}"
    yield "files", facts["files"]


def print_verify(console: Console, facts: dict[str, Any]) -> None:
    """Print the figures of the golden frame and the verdict."""
    rows = ((name, f"{value:.6g}") for name, value in facts["figures"].items())
    title = f"golden frame of {facts['folder']} on {facts['backend']}"
    _print_rows(console, title, ("figure", "value"), rows)
    problems = f" ({'; '.join(facts['problems'])})" if facts["problems"] else ""
    console.print(
        f"{facts['verdict']}{problems}; written into the manifest (before: {facts['verdict_before']})",
        soft_wrap=True,
        markup=False,
    )


if __name__ == "__main__":
    sys.exit(main())
