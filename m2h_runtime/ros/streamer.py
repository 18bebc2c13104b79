"""What a configured node holds: engine, calibration, publishers; and the run while it is active."""

from __future__ import annotations

import logging
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from m2h_runtime.calibration.calibration import load_calibration
from m2h_runtime.engine import open_engine
from m2h_runtime.odometry import VisualOdometry
from m2h_runtime.pipeline import Pipeline
from m2h_runtime.pipeline.figures import figures
from m2h_runtime.ros.odometry import OdometryPublisher
from m2h_runtime.ros.opening import source_spec
from m2h_runtime.ros.outputs import RosSink
from m2h_runtime.ros.profiles import load_profile
from m2h_runtime.shipped import shipped_engine
from m2h_runtime.sinks.base import Sink
from m2h_runtime.sources.opening import open_source, teller
from m2h_runtime.temporal import Alignment, AlignmentSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from m2h_runtime.calibration.calibration import Calibration
    from m2h_runtime.engine import Engine
    from m2h_runtime.pipeline.health import Health
    from m2h_runtime.ros.settings import Settings
    from m2h_runtime.sinks.base import Observation
    from m2h_runtime.sources import Source

STOP_S = 5.0
"""A run that has not ended so long after it was told to is left behind."""
RECTIFY = {"auto": None, "always": True, "never": False}

log = logging.getLogger("m2h")


class Streamer:
    """Everything that takes time is opened here, all or nothing; `start` and `stop` as often as you like.

    Args:
        node: publishes and subscribes; served by somebody.
        settings: the node's.
        health: told what is wrong.
        on_end: called in the run's thread when a run ends by itself: None at the end of a recording, else the error.

    Raises:
        M2HError: engine, profile, calibration or a name is wrong; nothing is left open.
    """

    def __init__(
        self, node: Any, settings: Settings, health: Health, on_end: Callable[[Exception | None], None]
    ) -> None:
        self._node = node
        self._settings = settings
        self._health = health
        self._on_end = on_end
        self._run: _Run | None = None
        self._lent: _Lent | None = None
        self._engine: Engine | None = None
        self._profile = settings.tailored(load_profile(settings.profile))
        self._calibration = _calibration(settings)
        self._spec = source_spec(settings, self._profile)
        placed = settings.visual_odometry or self._spec.posed
        with ExitStack() as undo:
            undo.callback(self._close_engine)
            self._engine = self._open_engine()
            labels = self._profile.labels(self._engine.manifest.label_space)
            self._sink = RosSink(
                node,
                self._profile,
                publish_clock=settings.publish_clock,
                health=teller(health, "outputs"),
                odometry=OdometryPublisher(node) if placed else None,
            )
            undo.callback(self._sink.close)
            self._release = undo.pop_all()
        manifest = self._engine.manifest
        log.info("engine: %s, %dx%d; labels: %s", manifest.name, *manifest.size[::-1], labels.space.name)

    def _open_engine(self) -> Engine:
        settings = self._settings
        return open_engine(
            _engine_folder(settings.engine),
            settings.backend,
            allow_unverified=settings.allow_unverified,
            threads=settings.threads or None,
        )

    def _close_engine(self) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def start(self) -> None:
        """Open the source and stream.

        Raises:
            M2HError: the source or the recording cannot be opened; nothing is left open.
        """
        settings = self._settings
        if self._engine is None:  # it was away, or hung, when the last run ended
            self._engine = self._open_engine()
        with ExitStack() as undo:
            source = open_source(self._spec, self._health, self._calibration, self._node)
            undo.callback(source.close)
            self._run = _Run(source, self._pipeline(source, self._engine), self._on_end)
            undo.pop_all()
        self.change(settings)
        log.info("streaming: %s, profile %s", source.describe(), self._profile.name)
        self._run.start()

    def _pipeline(self, source: Source, engine: Engine) -> Pipeline:
        settings = self._settings
        self._lent = _Lent(self._sink)
        sinks: list[Sink] = [self._lent]
        if settings.record:
            from m2h_runtime.sinks.mcap_file import McapSink

            sinks.append(McapSink(Path(settings.record), self._profile))
        masked = AlignmentSettings(masked=settings.mask_depth_edges)
        return Pipeline(
            source,
            engine,
            sinks,
            health=self._health,
            fit=settings.policy,
            calibration=self._calibration,
            rectify=RECTIFY[settings.rectify],
            frame_id=None if self._spec.named else self._profile.camera_frame,
            reopen_engine=self._open_engine,
            alignment=Alignment(masked, self._health) if settings.align else None,
            visual_odometry=VisualOdometry(self._health) if settings.visual_odometry else None,
        )

    def change(self, settings: Settings) -> None:
        """Take over the live settings.

        Raises:
            InputError: they contradict each other; nothing has changed.
        """
        self._profile = settings.tailored(load_profile(settings.profile))
        self._settings = settings
        self._sink.profile = self._profile
        if self._run is not None:
            pipeline = self._run.pipeline
            pipeline.max_age_s = settings.max_age_s or None
            scale = self._calibration.depth_scale if self._calibration else 1.0
            pipeline.preparation.depth_scale = scale * settings.depth_scale

    def stop(self) -> None:
        """End the run and close the source; the engine and the publishers stay."""
        run, self._run = self._run, None
        if run is None or self._lent is None:
            return
        self._lent.take_back()
        self._engine = run.pipeline.engine if run.stop() else None  # a thread that hangs is still in it
        for part in self._health.parts():  # what was wrong with a run is over with it
            self._health.ok(part)

    def close(self) -> None:
        """End everything."""
        self.stop()
        self._release.close()

    def figures(self) -> dict[str, str]:
        """For /diagnostics: rate, age, drops by reason, engine and backend, as text."""
        if self._run is not None:
            return figures(self._run.pipeline)
        engine = self._engine
        return {"engine": engine.manifest.name, "backend": engine.backend} if engine else {}


class _Run:
    """A pipeline in a thread of its own."""

    def __init__(
        self, source: Source, pipeline: Pipeline, on_end: Callable[[Exception | None], None]
    ) -> None:
        self.pipeline = pipeline
        self._source = source
        self._on_end = on_end
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="pipeline", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _work(self) -> None:
        error: Exception | None = None
        try:
            self.pipeline.run()
        except Exception as raised:  # carried to the node's thread
            error = raised
        if error is not None and self._stopping:
            log.warning("at the end of the run: %s", error)
        if not self._stopping:
            self._on_end(error)

    def stop(self) -> bool:
        """False: the thread hangs and is left behind, with what it uses."""
        self._stopping = True
        self.pipeline.stop()
        self._thread.join(STOP_S)
        ended = not self._thread.is_alive()
        if ended and not self.pipeline.stuck:
            self._source.close()
        else:
            what = self._source.describe() if ended else "the engine or a recording"
            log.error("%s: does not end; it is left behind", what)
        return ended


class _Lent(Sink):
    """The node's publishers for the length of one run: they outlive it, and it may hang and outlive that length."""

    name = RosSink.name
    queue: ClassVar[int] = RosSink.queue
    disposable: ClassVar[bool] = RosSink.disposable

    def __init__(self, sink: RosSink) -> None:
        self._sink: RosSink | None = sink

    def take_back(self) -> None:
        """Nothing is published from now on: it would be old, or among the frames of the next run."""
        self._sink = None

    def write(self, observation: Observation) -> None:
        """Publish."""
        if (sink := self._sink) is not None:
            sink.write(observation)

    def close(self) -> None:
        """Nothing: others come."""

    def abort(self) -> None:
        """Nothing: others come."""


def _calibration(settings: Settings) -> Calibration | None:
    return load_calibration(settings.calibration) if settings.calibration else None


def _engine_folder(named: str) -> Path:
    if named:
        return Path(named).expanduser()
    folder = shipped_engine()
    log.warning("no parameter engine: %s is used, which knows simulated apartments only", folder)
    return folder
