"""`m2h-run`: a camera, a recording, a topic or a simulation through an engine, live."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from m2h_runtime.cli.arguments import split_ros_args
from m2h_runtime.cli.leaving import leave
from m2h_runtime.cli.over_time import make_alignment, make_visual_odometry
from m2h_runtime.cli.run_options import (
    build_parser,
    check_options,
    source_spec,
)
from m2h_runtime.errors import InputError, M2HError
from m2h_runtime.shipped import shipped_engine

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

    from m2h_runtime.calibration.calibration import Calibration
    from m2h_runtime.engine import Engine
    from m2h_runtime.pipeline import Health, Pipeline, Transition
    from m2h_runtime.ros.session import RosSession
    from m2h_runtime.sinks import Sink
    from m2h_runtime.sources import Source
    from m2h_runtime.web import Dashboard

NODE = "m2h"
MAX_AGE_S = 1.0


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0, 2 for foreseen failures, 128 + signal number when stopped."""
    started_ns = time.monotonic_ns()
    ours, ros_args = split_ros_args(sys.argv[1:] if argv is None else argv)
    try:
        return run(build_parser().parse_args(ours), ros_args, started_ns)
    except M2HError as error:
        _say(str(error))
        return 2
    except KeyboardInterrupt:
        _say("interrupted before the first frame")
        return 128 + signal.SIGINT


def run(args: argparse.Namespace, ros_args: Sequence[str], started_ns: int) -> int:
    """Check what can be checked, open everything, stream, and tell how it went.

    Raises:
        M2HError: anything foreseen; the report, if asked for, is written before it if the engine had opened.
    """
    check_options(args, ros_args)
    folder = args.engine or shipped_engine()
    _quiet_opencv()
    import cv2

    from m2h_runtime.memory import keep_freed_memory

    cv2.setNumThreads(1)  # the engine has all the cores; our own resizing is short
    keep_freed_memory()
    check_outputs(args)
    with ExitStack() as stack:
        return Run(args, folder, started_ns).open(stack, ros_args).stream()


class Run:
    """Everything that one run holds.

    Args:
        args: the options.
        folder: of the engine.
        started_ns: when the command began, monotonic.
    """

    source: Source
    engine: Engine
    pipeline: Pipeline
    dashboard: Dashboard | None = None

    def __init__(self, args: argparse.Namespace, folder: Path, started_ns: int) -> None:
        from m2h_runtime.cli.status import StatusLine
        from m2h_runtime.pipeline.health import Health

        self.args = args
        self.started_ns = started_ns
        self.health = Health(self._tell)
        self.status = StatusLine(sys.stderr)
        self.spec = source_spec(args)
        self.calibration = _calibration(args.calibration)
        self._open_engine = partial(_open_engine, args, folder)

    def _tell(self, change: Transition) -> None:
        level, text = change.condition.level.name.lower(), change.condition.text
        self.status.say(f"m2h-run: {change.part} {level}" + (f": {text}" if text else ""))

    def open(self, stack: ExitStack, ros_args: Sequence[str]) -> Run:
        """Open everything, all or nothing: what is open is closed by `stack`.

        Raises:
            M2HError: something cannot be opened.
        """
        from m2h_runtime.pipeline import Pipeline
        from m2h_runtime.ros.profiles import load_profile
        from m2h_runtime.sources.opening import open_source

        args = self.args
        profile = load_profile(args.profile or "default")
        self.dashboard = stack.enter_context(_dashboard(args.web)) if args.web else None
        session = stack.enter_context(_session(args, ros_args)) if args.ros or args.topic else None
        source = open_source(self.spec, self.health, self.calibration, session and session.node)
        self.source = source
        stack.callback(self._close_source)
        engine = self.engine = self._open_engine()
        stack.callback(self._close_engine)
        profile.labels(engine.manifest.label_space)  # a table that is missing is missed now
        sinks = open_sinks(args, engine, source, self.health)
        if session is not None and args.ros:
            from m2h_runtime.ros.odometry import OdometryPublisher
            from m2h_runtime.ros.outputs import RosSink
            from m2h_runtime.sources.opening import teller

            clock = self.spec.keeps_stamps and not args.no_clock
            placed = args.visual_odometry or self.spec.posed
            publisher = OdometryPublisher(session.node) if placed else None
            outputs = teller(self.health, "outputs")
            ros_sink = RosSink(session.node, profile, publish_clock=clock, health=outputs, odometry=publisher)
            sinks.insert(0, ros_sink)
        if self.dashboard is not None:
            sinks += self.dashboard.sinks
        self.pipeline = Pipeline(
            source,
            engine,
            sinks,
            frame_limit=args.frames,
            on_perception=self._perceived,
            health=self.health,
            fit=args.fit,
            calibration=self.calibration,
            rectify=args.rectify,
            frame_id=None if self.spec.named else profile.camera_frame,
            max_age_s=MAX_AGE_S if args.max_age is None else args.max_age or None,
            reopen_engine=self._open_engine,
            alignment=make_alignment(args.align, self.health, masked=args.mask_depth_edges),
            visual_odometry=make_visual_odometry(args.visual_odometry, self.health),
        )
        if session is not None and args.ros:
            self._diagnose(stack, session)
        if self.dashboard is not None:
            self.dashboard.attach(self.pipeline, source, engine, profile)
        _announce(source, engine, session, [*_viewers(self.dashboard, sinks)], args)
        return self

    def _perceived(self, pipeline: Pipeline) -> None:
        self.status.update(pipeline)
        if self.dashboard is not None:
            self.dashboard.perceived(pipeline)

    def _diagnose(self, stack: ExitStack, session: RosSession) -> None:
        from m2h_runtime.pipeline.figures import figures
        from m2h_runtime.ros.diagnostics import Diagnostics, status_of

        diagnostics = Diagnostics(
            session.node,
            lambda: status_of(self.health, figures(self.pipeline)),
            self.source.describe(),
        )
        stack.callback(diagnostics.close)
        self.health.listen(lambda _: diagnostics.changed())

    def _close_source(self) -> None:
        if not (hasattr(self, "pipeline") and self.pipeline.stuck):
            self.source.close()

    def _close_engine(self) -> None:
        engine = self.pipeline.engine if hasattr(self, "pipeline") else self.engine
        if engine is not None:
            engine.close()

    def stream(self) -> int:
        """Run until the end, a signal or a failure; print the table and write the report in any case.

        Returns:
            The exit code.
        """
        from m2h_runtime.cli.run_report import build_report, print_report, write_report

        args, pipeline = self.args, self.pipeline
        failure: Exception | None = None
        with stopped_by_signals(pipeline) as received:
            try:
                pipeline.run()
            except M2HError as error:
                failure = error
            finally:
                self.status.end()
            report = build_report(
                pipeline, self.source, self.engine, self.started_ns, bool(received), failure
            )
            print_report(report)
            try:
                if args.report is not None:
                    write_report(args.report, report)
            finally:
                # Whoever stops a run while its source hangs gets what was asked for.
                if failure is not None and not (received and pipeline.stuck):
                    raise failure
        return 128 + received[0] if received else 0


@contextmanager
def stopped_by_signals(pipeline: Pipeline) -> Iterator[list[int]]:
    """SIGINT and SIGTERM end the run cleanly; yields the list of those that came."""
    received: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        pipeline.stop()
        if len(received) == 1:
            threading.Thread(target=_leave_if_hung, args=(pipeline, number), daemon=True).start()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave_if_hung(pipeline: Pipeline, number: int) -> None:
    """A device that hangs cannot be interrupted; whoever wants the process to end shall not need SIGKILL."""
    while pipeline.running:
        if pipeline.engine_hung:
            _say("the engine hangs; left without a report")
            os._exit(128 + number)
        time.sleep(0.1)


def check_outputs(args: argparse.Namespace) -> None:
    """Find out now, not after the run, whether its outputs can be written.

    Raises:
        InputError, SinkError: one cannot, or would take the place of what is read.
    """
    from m2h_runtime.sinks.base import check_writable
    from m2h_runtime.sinks.contact_sheet import check_sheet_path

    checks: tuple[tuple[Path | None, Callable[[Path], None]], ...] = (
        (args.record, check_record_path),
        (args.sheet, check_sheet_path),
        (args.report, check_writable),
    )
    inputs = [Path(name).resolve() for name in (args.video, args.bag) if name is not None]
    for path, check in checks:
        if path is not None:
            check(path)
            if path.resolve() in inputs:
                raise InputError(f"{path}: is the input; choose another name for the output")
    if args.rerun is not None:
        from m2h_runtime.sinks.rerun_sink import check_rerun

        check_rerun(args.rerun)


def check_record_path(path: Path) -> None:
    """Refuse a --record that is neither video nor messages, or cannot be written.

    Raises:
        InputError, SinkError: why.
    """
    from m2h_runtime.sinks.mcap_file import check_mcap_path
    from m2h_runtime.sinks.video_file import check_video_path

    (check_mcap_path if path.suffix == ".mcap" else check_video_path)(path)


def open_sinks(args: argparse.Namespace, engine: Engine, source: Source, health: Health) -> list[Sink]:
    """The files that the options name, and a server for Rerun, which is open from now on."""
    from m2h_runtime.ros.profiles import load_profile
    from m2h_runtime.sinks import ContactSheetSink, VideoFileSink
    from m2h_runtime.sinks.mcap_file import McapSink

    sinks: list[Sink] = []
    if args.record is not None and args.record.suffix == ".mcap":
        sinks.append(McapSink(args.record, load_profile(args.profile or "default")))
    elif args.record is not None:
        sinks.append(VideoFileSink(args.record, engine.manifest, engine.backend, source.fps))
    if args.sheet is not None:
        sinks.append(ContactSheetSink(args.sheet, engine.manifest, engine.backend))
    if args.rerun is not None:
        from m2h_runtime.sinks.rerun_sink import RerunFileSink, RerunServerSink, rerun_target

        target = rerun_target(args.rerun)
        if isinstance(target, Path):
            sinks.append(RerunFileSink(target, engine.manifest, engine.backend, health))
        else:
            sinks.append(RerunServerSink(target, engine.manifest, engine.backend, health))
    return sinks


def _open_engine(args: argparse.Namespace, folder: Path) -> Engine:
    from m2h_runtime.engine import open_engine

    return open_engine(folder, args.backend, allow_unverified=args.allow_unverified, threads=args.threads)


def _calibration(path: str | None) -> Calibration | None:
    from m2h_runtime.calibration.calibration import load_calibration

    return None if path is None else load_calibration(path)


def _session(args: argparse.Namespace, ros_args: Sequence[str]) -> RosSession:
    from m2h_runtime.ros.session import RosSession

    return RosSession(NODE, namespace=args.namespace or "", args=ros_args)


def _dashboard(address: str) -> Dashboard:
    from m2h_runtime.web import Dashboard, parse_address

    host, port = parse_address(address)
    return Dashboard(host, port)


def _viewers(dashboard: Dashboard | None, sinks: Sequence[Sink]) -> Iterator[str]:
    """Where to look at the run, a line each."""
    from m2h_runtime.sinks.rerun_sink import DEFAULT_HOST, RerunServerSink

    if dashboard is not None:
        yield f"web: {dashboard.url}"
    for sink in sinks:
        if isinstance(sink, RerunServerSink):
            host = sink.address.host
            open_to_all = (
                "" if host == DEFAULT_HOST else "; no password: whoever reaches the port sees the camera"
            )
            yield f"rerun: rerun {sink.address.url}{open_to_all}"


def _announce(
    source: Source,
    engine: Engine,
    session: RosSession | None,
    viewers: Sequence[str],
    args: argparse.Namespace,
) -> None:
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
    if session is not None:
        name = session.node.get_fully_qualified_name()
        lines.append(f"ros: node {name}, profile {args.profile or 'default'}; {session.transport}")
    lines += viewers
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _say(text: str) -> None:
    sys.stderr.write(f"m2h-run: {text}\n")


def _quiet_opencv() -> None:
    """Before cv2 is imported: it and FFmpeg would write their own pages about what we say in one line."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


def command() -> NoReturn:
    """The console script."""
    leave(main())


if __name__ == "__main__":
    command()
