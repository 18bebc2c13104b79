"""`m2h-sim`: walks through simulated apartments, as a training set or as ROS 2 bags."""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from m2h_runtime.cli.arguments import OneLineParser, camera_size, count
from m2h_runtime.errors import InputError, M2HError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType
    from typing import NoReturn

    from m2h_runtime.simulation.rendering import Job

FRAMES, FPS = 40, 30.0
OPTIONS_OF = {"training": ("frames", "survey", "burst"), "bag": ("fps",)}
"""Options that go with one format only."""
LIBRARIES = {"training": ("scipy", "embreex"), "bag": ("scipy", "embreex", "rosbags")}


def build_parser() -> argparse.ArgumentParser:
    """The options. Nothing heavy is imported for them."""
    parser = OneLineParser(
        prog="m2h-sim",
        description="Render walks through simulated apartments with exact depth, labels, normals, poses and IMU.",
        epilog="example: m2h-sim --split train --apartments 200 --frames 40 --size 256x192 --out data/apartments. "
        "Episodes that are already there are kept, so a stopped run goes on where it was.",
    )
    parser.add_argument("--out", metavar="FOLDER", type=Path, required=True, help="where the episodes go")
    parser.add_argument("--format", choices=("training", "bag"), default="training", help="default: training")
    apartments = parser.add_argument_group("apartments")
    apartments.add_argument(
        "--split",
        choices=("train", "val", "test"),
        default="train",
        help="test and val are reserved apartments (default train)",
    )
    apartments.add_argument(
        "--apartments", metavar="N", type=count, help="how many (default: 1, or all reserved)"
    )
    apartments.add_argument("--first-seed", metavar="N", type=_whole, help="of --split train (default 0)")
    walk = parser.add_argument_group("walk")
    walk.add_argument(
        "--style",
        choices=("handheld", "wheeled", "drone", "mixed"),
        default="mixed",
        help="of the walk (default mixed)",
    )
    walk.add_argument(
        "--duration", metavar="S", type=float, default=90.0, help="of a walk, seconds (default 90)"
    )
    walk.add_argument(
        "--frames", metavar="N", type=count, help=f"training: frames spread over a walk (default {FRAMES})"
    )
    walk.add_argument(
        "--survey", metavar="N", type=_whole, help="training: also N stills of single things (default 0)"
    )
    walk.add_argument(
        "--burst",
        metavar="N",
        type=count,
        help="training: each frame is the first of N of the same view, for training with several views (default 1)",
    )
    walk.add_argument(
        "--fps", metavar="N", type=float, help=f"bag: frames a second of the whole walk (default {FPS:g})"
    )
    camera = parser.add_argument_group("camera")
    camera.add_argument("--size", metavar="WxH", type=camera_size, default=(240, 320), help="default 320x240")
    camera.add_argument(
        "--view", metavar="DEG", type=float, default=70.0, help="horizontal view (default 70)"
    )
    camera.add_argument(
        "--distortion", metavar="K1,K2,P1,P2", type=_four, default=(0.0, 0.0, 0.0, 0.0), help="plumb_bob lens"
    )
    parser.add_argument("--mesh", action="store_true", help="also write each apartment's mesh.ply")
    parser.add_argument("--workers", metavar="N", type=count, help="processes (default: all cores)")
    return parser


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 up, got {text!r}")
    return int(text)


def _four(text: str) -> tuple[float, float, float, float]:
    try:
        k1, k2, p1, p2 = (float(part) for part in text.split(","))
    except ValueError:
        k1 = k2 = p1 = p2 = math.nan
    if not all(map(math.isfinite, (k1, k2, p1, p2))):
        raise argparse.ArgumentTypeError(f"expected four numbers K1,K2,P1,P2, got {text!r}")
    return k1, k2, p1, p2


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code: 0, 2 for foreseen failures, 128 + signal number when stopped."""
    received = signal.SIGINT

    def end(number: int, _frame: FrameType | None) -> NoReturn:
        nonlocal received
        received = signal.Signals(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        return run(build_parser().parse_args(argv))
    except M2HError as error:
        sys.stderr.write(f"m2h-sim: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("m2h-sim: stopped; the same command goes on where it was\n")
        return 128 + received
    finally:
        signal.signal(signal.SIGTERM, before)


def run(args: argparse.Namespace) -> int:
    """Render what is missing.

    Raises:
        M2HError: anything foreseen.
    """
    check_options(args)
    check_libraries(args.format)
    from m2h_runtime.simulation.rendering import render_all

    jobs = list(plan_jobs(args))
    missing = [job for job in jobs if not _is_there(job)]
    if len(missing) < len(jobs):
        sys.stderr.write(f"m2h-sim: {len(jobs) - len(missing)} of {len(jobs)} episodes are there already\n")
    if missing:
        failures = render_all(missing, min(args.workers or os.cpu_count() or 1, len(missing)))
        if failures:
            raise InputError(
                f"{len(failures)} of {len(jobs)} apartments have no walk, the others are done: "
                + "; ".join(failures)
            )
    sys.stdout.write(f"{len(jobs)} episodes in {args.out}\n")
    return 0


def check_options(args: argparse.Namespace) -> None:
    """Refuse values out of range, and options that would be ignored.

    Raises:
        InputError: names the option.
    """
    from m2h_runtime.simulation.rendering import BURST_STEP_S

    if not 2 < args.duration <= 3600:
        raise InputError(f"--duration {args.duration:g}: give more than 2 and up to 3600 seconds")
    if not 10 <= args.view <= 150:
        raise InputError(f"--view {args.view:g}: give 10 to 150 degrees")
    if args.fps is not None and not 0 < args.fps <= 200:
        raise InputError(f"--fps {args.fps:g}: give a rate above 0 and up to 200")
    if (args.burst or 1) > 1 and args.duration < BURST_STEP_S * args.burst:
        raise InputError(f"--burst {args.burst}: does not fit into a walk of {args.duration:g} s; give fewer")
    if args.first_seed is not None and args.split != "train":
        raise InputError("--first-seed goes with --split train only; the others are reserved apartments")
    for kind, options in OPTIONS_OF.items():
        for name in options:
            if getattr(args, name) is not None and args.format != kind:
                raise InputError(f"--{name} goes with --format {kind} only")


def check_libraries(kind: str) -> None:
    """Find out now, not in every worker, whether the extra `simulation` is installed.

    Raises:
        InputError: names the library.
    """
    from m2h_runtime.simulation.libraries import require

    for library in LIBRARIES[kind]:
        require(library)


def plan_jobs(args: argparse.Namespace) -> Iterator[Job]:
    """One job per apartment."""
    from m2h_runtime.simulation.episode import seeds_of, style_of
    from m2h_runtime.simulation.pinhole import Pinhole
    from m2h_runtime.simulation.rendering import Job

    height, width = args.size
    camera = Pinhole.of_view(width, height, args.view, args.distortion)
    fps = args.fps or FPS
    for seed in seeds_of(args.split, args.apartments, args.first_seed or 0):
        style = style_of(seed) if args.style == "mixed" else args.style
        yield Job(
            seed,
            style,
            args.format,
            args.out / args.split / f"{seed:05d}-{style}",
            camera,
            args.duration,
            (args.frames or FRAMES) if args.format == "training" else max(1, int(args.duration * fps + 1e-6)),
            args.survey or 0,
            args.burst or 1,
            fps,
            args.mesh,
        )


def _is_there(job: Job) -> bool:
    """Nothing is left to do for it.

    Raises:
        InputError: its folder holds an episode of the other format.
    """
    from m2h_runtime.simulation.mesh import MESH
    from m2h_runtime.simulation.recording import BAG

    if not job.folder.exists():
        return False
    if (job.folder / BAG).exists() != (job.kind == "bag"):
        raise InputError(f"{job.folder}: is an episode of the other --format; choose another --out")
    return not job.mesh or (job.folder / MESH).exists()


if __name__ == "__main__":
    raise SystemExit(main())
