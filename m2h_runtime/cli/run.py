"""`m2h-run`: a camera, a video, images or a simulation through an engine, live."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from m2h_runtime.cli.arguments import OneLineParser, camera_size, count
from m2h_runtime.errors import InputError, M2HError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from types import FrameType

    from m2h_runtime.engine import Engine
    from m2h_runtime.pipeline import Pipeline
    from m2h_runtime.sinks import Sink
    from m2h_runtime.sources import Source

DEMO_ENGINE = Path("engines") / "m2h-nano-apartments"
CAMERA_OPTIONS = ("camera_size", "camera_fps")
WALK_S, WALK_FPS, WALK_SIZE = 60.0, 30.0, (240, 320)  # of --simulate


def build_parser() -> argparse.ArgumentParser:
    """The options. Nothing heavy is imported for them."""
    parser = OneLineParser(
        prog="m2h-run",
        description="Depth, semantics, normals and edges of a camera, a video, images or a simulation.",
        epilog="A camera's newest frame wins and drops are counted; of recordings every frame is processed.",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--camera", metavar="DEV", help="V4L2 device or its index: /dev/video0 or 0")
    source.add_argument("--video", metavar="FILE", type=Path, help="video file")
    source.add_argument("--images", metavar="GLOB", help="image files, quoted: 'photos/*.jpg'")
    source.add_argument(
        "--simulate",
        metavar="NAME",
        nargs="?",
        const="apartment",
        help="walk through a simulated apartment: its seed and style, as in 9001-drone (default: apartment)",
    )
    engine = parser.add_argument_group("engine")
    engine.add_argument(
        "--engine", metavar="FOLDER", type=Path, help=f"engine folder (default: the shipped {DEMO_ENGINE})"
    )
    engine.add_argument("--backend", metavar="B", default="auto", help="auto (default) or a backend's name")
    engine.add_argument(
        "--threads", metavar="N", type=count, help="CPU threads of the engine (default: all cores)"
    )
    engine.add_argument(
        "--allow-unverified", action="store_true", help="also open an engine without a passing verdict"
    )
    output = parser.add_argument_group("output")
    output.add_argument("--record", metavar="FILE.mp4", type=Path, help="annotated video of the run")
    output.add_argument("--sheet", metavar="FILE.png", type=Path, help="contact sheet of a handful of frames")
    output.add_argument(
        "--report", metavar="FILE.json", type=Path, help="figures of the run, as in the final table"
    )
    pace = parser.add_argument_group("pace")
    pace.add_argument("--frames", metavar="N", type=count, help="stop after N perceptions")
    pace.add_argument(
        "--realtime", action="store_true", help="play a recording at its own pace, like a camera"
    )
    pace.add_argument(
        "--camera-size",
        metavar="WxH",
        type=camera_size,
        help="size to ask the camera for, e.g. 1280x720, or of the simulated one",
    )
    pace.add_argument(
        "--camera-fps", metavar="N", type=count, help="rate to ask the camera for, or of the simulated one"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code: 0, 2 for foreseen failures, 128 + signal number when stopped."""
    started_ns = time.monotonic_ns()
    try:
        return run(build_parser().parse_args(argv), started_ns)
    except M2HError as error:
        sys.stderr.write(f"m2h-run: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("m2h-run: interrupted before the first frame\n")
        return 128 + signal.SIGINT


def run(args: argparse.Namespace, started_ns: int) -> int:
    """Check what can be checked, open everything, stream, and tell how it went.

    Raises:
        M2HError: anything foreseen; the report, if asked for, is written before it if the engine had opened.
    """
    check_options(args)
    folder = engine_folder(args.engine)
    _quiet_opencv()
    import cv2

    from m2h_runtime.engine import open_engine

    cv2.setNumThreads(1)  # the engine has all the cores; our own resizing is short
    check_outputs(args)
    with ExitStack() as stack:
        source = stack.enter_context(open_source(args))
        engine = stack.enter_context(
            open_engine(folder, args.backend, allow_unverified=args.allow_unverified, threads=args.threads)
        )
        _announce(source, engine)
        return stream(args, source, engine, started_ns)


def stream(args: argparse.Namespace, source: Source, engine: Engine, started_ns: int) -> int:
    """Run until the end, a signal or a failure; print the table and write the report in any case."""
    from m2h_runtime.cli.run_report import build_report, print_report, write_report
    from m2h_runtime.cli.status import StatusLine
    from m2h_runtime.pipeline import Pipeline

    sinks = open_sinks(args, engine, source)
    status = StatusLine(sys.stderr)
    pipeline = Pipeline(source, engine, sinks, frame_limit=args.frames, on_perception=status.update)
    failure: Exception | None = None
    with stopped_by_signals(pipeline) as received:
        try:
            pipeline.run()
        except M2HError as error:
            failure = error
        finally:
            status.end()
        report = build_report(pipeline, source, engine, started_ns, bool(received), failure)
        print_report(report)
        try:
            if args.report is not None:
                write_report(args.report, report)
        finally:
            if failure is not None:
                raise failure
    return 128 + received[0] if received else 0


@contextmanager
def stopped_by_signals(pipeline: Pipeline) -> Iterator[list[int]]:
    """SIGINT and SIGTERM end the run cleanly; yields the list of those that came."""
    received: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        pipeline.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_options(args: argparse.Namespace) -> None:
    """Refuse options that would be ignored.

    Raises:
        InputError: names the option and what it goes with.
    """
    if args.camera is None and args.simulate is None:
        for name in CAMERA_OPTIONS:
            if getattr(args, name) is not None:
                raise InputError(f"--{name.replace('_', '-')} goes with --camera and --simulate only")
    if args.camera is not None and args.realtime:
        raise InputError("--realtime goes with --video, --images or --simulate; a camera is always live")


def engine_folder(named: Path | None) -> Path:
    """The engine folder that was named, else the shipped demo engine, below here or in the checkout.

    Raises:
        InputError: none was named and the demo engine is not there.
    """
    if named is not None:
        return named
    for root in (Path.cwd(), Path(__file__).resolve().parents[2]):
        if (root / DEMO_ENGINE).is_dir():
            return root / DEMO_ENGINE
    raise InputError(f"no --engine given and no {DEMO_ENGINE} here; name an engine folder made by m2h-export")


def check_outputs(args: argparse.Namespace) -> None:
    """Find out now, not after the run, whether its outputs can be written.

    Raises:
        InputError, SinkError: one cannot, or would take the place of the input video.
    """
    from m2h_runtime.sinks.base import check_writable
    from m2h_runtime.sinks.contact_sheet import check_sheet_path
    from m2h_runtime.sinks.video_file import check_video_path

    for path, check in (
        (args.record, check_video_path),
        (args.sheet, check_sheet_path),
        (args.report, check_writable),
    ):
        if path is not None:
            check(path)
            if args.video is not None and path.resolve() == args.video.resolve():
                raise InputError(f"{path}: is the input video; choose another name for the output")


def open_source(args: argparse.Namespace) -> Source:
    """The source that the options name.

    Raises:
        SourceError: it cannot be opened.
    """
    from m2h_runtime.sources import CameraSource, ImagesSource, PacedSource, SimulationSource, VideoSource

    if args.camera is not None:
        return CameraSource(args.camera, args.camera_size, args.camera_fps)
    recording: Source
    if args.simulate is not None:
        fps = args.camera_fps or WALK_FPS
        duration_s = max(WALK_S, (args.frames or 0) / fps)
        size = args.camera_size or WALK_SIZE
        recording = SimulationSource(args.simulate, size, fps, duration_s, keep_pace=args.realtime)
    else:
        recording = VideoSource(args.video) if args.video is not None else ImagesSource(args.images)
    return PacedSource(recording) if args.realtime else recording


def open_sinks(args: argparse.Namespace, engine: Engine, source: Source) -> list[Sink]:
    """The sinks that the options name."""
    from m2h_runtime.sinks import ContactSheetSink, VideoFileSink

    sinks: list[Sink] = []
    if args.record is not None:
        sinks.append(VideoFileSink(args.record, engine.manifest, engine.backend, source.fps))
    if args.sheet is not None:
        sinks.append(ContactSheetSink(args.sheet, engine.manifest, engine.backend))
    return sinks


def _announce(source: Source, engine: Engine) -> None:
    manifest = engine.manifest
    lines = [
        f"source: {source.describe()}",
        f"engine: {manifest.name} {manifest.size[1]}x{manifest.size[0]} {manifest.precision}",
        f"backend: {engine.choice}",
    ]
    if manifest.checkpoint.random_weights:
        lines.append("weights: RANDOM, not trained: the outputs show speed, not the scene")
    else:
        lines.append(f"weights: {manifest.checkpoint.file}")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _quiet_opencv() -> None:
    """Before cv2 is imported: it and FFmpeg would write their own pages about what we say in one line."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


if __name__ == "__main__":
    sys.exit(main())
