"""The loop. A frame's journey: capture thread -> slot -> judged -> prepared -> engine -> the sinks' queues."""

from __future__ import annotations

import time
from collections import Counter, deque
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from m2h_runtime.errors import CalibrationError, M2HError
from m2h_runtime.pipeline.capture import CaptureThread
from m2h_runtime.pipeline.guard import EngineGuard, FrameLost
from m2h_runtime.pipeline.health import Fault, Health, Level
from m2h_runtime.pipeline.latency import Latencies
from m2h_runtime.pipeline.outlet import Outlet
from m2h_runtime.pipeline.prepare import Preparation
from m2h_runtime.pipeline.watchdog import Watchdog
from m2h_runtime.sinks.base import Observation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from m2h_runtime.calibration.calibration import Calibration
    from m2h_runtime.calibration.fit import Policy
    from m2h_runtime.engine.base import Engine
    from m2h_runtime.engine.contract import Neighbours
    from m2h_runtime.frame import Frame
    from m2h_runtime.odometry import VisualOdometry
    from m2h_runtime.odometry.estimate import Estimate
    from m2h_runtime.perception import Perception
    from m2h_runtime.pipeline.capture import Captured
    from m2h_runtime.pipeline.latency import Summary
    from m2h_runtime.pipeline.prepare import Prepared
    from m2h_runtime.sinks.base import Sink
    from m2h_runtime.sources.base import Source
    from m2h_runtime.temporal import Alignment
    from m2h_runtime.views import ViewKeeper

POLL_S = 0.1
"""How soon a stop or a failed sink is noticed while no frame comes."""
RATE_WINDOW_S = 1.0
JUMP_S = 0.5
"""A stamp that is so much earlier than the one before is no late frame: the recording behind it has started over."""
SILENCE_S, START_S = 2.0, 10.0
"""A live source that delivers nothing for so long is reported; before the first frame it has longer."""
HANG_S, QUICK_HANG_S, HANG_TIMES = 5.0, 2.0, 3.0
"""A sink, or an engine at its first frame, that works for `HANG_S` on one frame is reported; an engine whose usual time
is known when it takes `QUICK_HANG_S` and `HANG_TIMES` as long as usual."""

LATE = "older than its deadline"
STALE = "older than its deadline when the engine was done"
MISFIT = "its size does not fit the calibration"
OUT_OF_ORDER = "its stamp is not after the frame before"


@dataclass(frozen=True)
class Counts:
    """How many frames went where.

    Attributes:
        captured: frames that the source delivered.
        perceived: frames that the engine answered.
        replaced: frames that a newer one replaced before the engine was free (live sources only).
        lost: by reason, frames that the engine got no chance at, or no sense out of.
        written: by sink, observations written.
        dropped: by sink, observations that its full queue lost (live sources only, and no sink that only shows).
    """

    captured: int
    perceived: int
    replaced: int
    lost: dict[str, int]
    written: dict[str, int]
    dropped: dict[str, int]


class Pipeline:
    """One run of a source through an engine into sinks. `run` once; the figures stand during and after it.

    The pipeline ends the sinks; the source stays the caller's to close, unless `stuck`, and so does `engine`, which
    may be another one than at the start. A live run survives failures of the engine and of single sinks, reports them
    to `health` and goes on; a recording's run ends with the first, so that nothing is missing unnoticed.

    Args:
        source: live: the newest frame wins; recording: every frame counts, and full sinks slow the loop down.
        engine: an opened engine, used from the thread that calls `run`.
        sinks: each gets its own thread.
        frame_limit: stop after so many perceptions; None goes on until the source ends.
        on_perception: called after each one in the engine's thread; must be quick.
        clock: monotonic, integer nanoseconds; for live sources the clock of `Frame.taken_ns`.
        health: told what is wrong and when it is well again; None makes one.
        fit: how images are brought to the engine's size; None: as the engine's manifest says.
        calibration: of the camera; takes the place of what the source says about it.
        rectify: undistort the images; None: if there is a calibration.
        frame_id: name of the camera's optical frame, unless the calibration has one; None: as the source says.
        max_age_s: a live frame that is older when the engine could take it is dropped; None: never.
        reopen_engine: opens the engine anew after repeated failures; None: it is never reopened.
        alignment: averages each perception with those before it; None: sinks get what the engine said.
        visual_odometry: finds the camera's poses where the source has none; None: they stay unknown.

    Attributes:
        latencies: by stage: capture, queue, preprocess (with visual odometry), engine, align (with what odometry
            learns), hand-out; and age, of a live source's image when the
            sinks are handed its perception.
        first_ns: when the first perception was there, on `clock`; None before.
        health: as given or made.
        max_age_s: may be changed while running.
        preparation: its `depth_scale` too.
        running: `run` has begun and not ended.
    """

    def __init__(
        self,
        source: Source,
        engine: Engine,
        sinks: Sequence[Sink] = (),
        *,
        frame_limit: int | None = None,
        on_perception: Callable[[Pipeline], None] | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        health: Health | None = None,
        fit: Policy | None = None,
        calibration: Calibration | None = None,
        rectify: bool | None = None,
        frame_id: str | None = None,
        max_age_s: float | None = None,
        reopen_engine: Callable[[], Engine] | None = None,
        alignment: Alignment | None = None,
        visual_odometry: VisualOdometry | None = None,
    ) -> None:
        self.latencies = Latencies()
        self.first_ns: int | None = None
        self.health = health or Health(clock=clock)
        self.max_age_s = max_age_s
        self.preparation = Preparation(engine.manifest, fit, calibration, rectify, frame_id)
        self._source = source
        self._live = source.live
        self._guard = EngineGuard(engine, self.health, reopen_engine, forgiving=source.live, clock=clock)
        self._views = _view_keeper(engine, self.health, clock)
        self._alignment = alignment
        self._odometry = visual_odometry
        self._limit = frame_limit
        self._on_perception = on_perception
        self._clock = clock
        self._capture = CaptureThread(source, clock)
        self._outlets = [
            Outlet(sink, lossless=not (source.live or sink.lossy), clock=clock) for sink in sinks
        ]
        self._faults = {part: Fault(self.health, part, clock) for part in ("frames", "deadline")}
        self._lost: Counter[str] = Counter()
        self._perceived = 0
        self._stamp_ns: int | None = None  # of the last frame that was let through
        self._motion_from_ns: int | None = (
            None  # of the last perception: the IMU's samples since then are still owed
        )
        self._started_ns = 0
        self._last_ns = 0
        self._heard_ns = clock()
        self._recent_ns: deque[int] = deque()
        self._stopping = False
        self.running = False

    def run(self) -> None:
        """Run until the source ends, the frame limit is reached or `stop` is called; then finish the sinks.

        Raises:
            M2HError: the source failed, or a recording's engine or sink, or the last sink of a live run. All threads
                have ended then, and the other sinks hold whatever came before.
        """
        self._heard_ns = self._clock()
        self.running = True
        with ExitStack() as finish:
            finish.callback(setattr, self, "running", False)
            finish.callback(self._finish_sinks)
            for outlet in self._outlets:
                outlet.start()
            finish.callback(self._capture.stop)
            self._capture.start()
            watchdog = Watchdog(self.look)
            finish.callback(watchdog.stop)
            watchdog.start()
            while (captured := self._next()) is not None:
                self._perceive(captured)

    def stop(self) -> None:
        """End the run soon. Safe in a signal handler and from any thread: it takes no lock."""
        self._stopping = True

    def _next(self) -> Captured | None:
        """The frame to work on; None when the run is over."""
        while not self._stopping and self._perceived != self._limit:
            self._check_sinks()
            if (captured := self._capture.slot.take(POLL_S)) is not None:
                return captured
            if self._capture.slot.drained:
                if self._capture.error is not None:
                    raise self._capture.error
                return None
        return None

    def _check_sinks(self) -> None:
        """A live run goes on while one sink works, others end with the first that breaks; what only shows ends none."""
        broken = [outlet for outlet in self._outlets if outlet.error is not None]
        grave = [outlet for outlet in broken if not outlet.forgivable]
        if grave:
            needed = sum(not outlet.sink.lossy for outlet in self._outlets)
            foreseen = all(isinstance(outlet.error, M2HError) for outlet in grave)
            if not self._live or len(grave) >= needed or not foreseen:
                grave[0].check()
        for outlet in broken:
            text = f"{outlet.error}; the others go on"
            self.health.report(f"sink {outlet.sink.name}", Level.FAILED, text)

    def _perceive(self, captured: Captured) -> None:
        taken_ns = self._heard_ns = self._clock()
        try:
            self._judge(captured.frame, taken_ns)
            ready = self._prepare(captured.frame)
            ready, located = self._locate(ready)
            neighbours = self._neighbours(ready)
            prepared_ns = self._clock()
            raw = self._guard.infer(ready.image, neighbours)
            perceived_ns = self._clock()
            self._judge_again(captured.frame, prepared_ns, perceived_ns)
        except FrameLost as lost:
            self._lost[str(lost)] += 1
            return
        perception = self._refined(raw, ready, located)
        refined_ns = self._clock()
        self._count(taken_ns, perceived_ns)
        stages = {
            "capture": captured.capture_ns,
            "queue": taken_ns - captured.ready_ns,
            "preprocess": prepared_ns - taken_ns,
            "engine": perceived_ns - prepared_ns,
        }
        if self._alignment is not None or self._odometry is not None:
            stages["align"] = refined_ns - perceived_ns
        observation = Observation(
            ready.frame,
            perception.stamped(ready.frame, stages),
            self.recent_fps,
            ready.fit,
            ready.depth_factor,
            ready.source,
            self._source.imu,
            located,
        )
        for outlet in self._outlets:
            outlet.offer(observation)
        self._motion_from_ns = captured.frame.stamp_ns
        self._last_ns = self._clock()
        stages["hand-out"] = self._last_ns - refined_ns
        if captured.frame.taken_ns is not None:
            stages["age"] = self._last_ns - captured.frame.taken_ns
        for stage, duration_ns in stages.items():
            self.latencies.add(stage, duration_ns)
        if self._views is not None and self._guard.engine is not None:
            self._views.remember(ready, raw, self._guard.engine.features)
        if self._on_perception is not None:
            self._on_perception(self)

    def _judge(self, frame: Frame, now_ns: int) -> None:
        """Let only frames through whose stamps rise and that are fresh.

        Raises:
            FrameLost: with the reason.
        """
        back_ns = 0 if self._stamp_ns is None else self._stamp_ns - frame.stamp_ns
        if back_ns > JUMP_S * 1e9:
            self._start_over(back_ns)
        elif self._stamp_ns is not None and back_ns >= 0:
            self._faults["frames"].bad(
                "frames come with stamps that are not after the one before; they are dropped"
            )
            raise FrameLost(OUT_OF_ORDER)
        else:
            self._faults["frames"].good()
        if self.max_age_s is not None and frame.taken_ns is not None:
            if now_ns - frame.taken_ns > 1e9 * self.max_age_s:
                self._faults["deadline"].bad(
                    f"frames are older than {self.max_age_s:g} s when they come and are dropped; is the source's clock "
                    "this machine's, and its connection fast enough?"
                )
                raise FrameLost(LATE)
            self._faults["deadline"].good()

    def _judge_again(self, frame: Frame, prepared_ns: int, perceived_ns: int) -> None:
        """The same after the engine, which may have stalled: its usual time is granted, three times.

        Raises:
            FrameLost: the frame has grown old meanwhile, or the run has been stopped.
        """
        if not self._live or frame.taken_ns is None:
            return
        if self._stopping:
            raise FrameLost(STALE)
        usual_ns = self._usual_ns()
        if self.max_age_s is None or usual_ns is None:
            return
        if perceived_ns - frame.taken_ns > 1e9 * self.max_age_s + HANG_TIMES * usual_ns:
            text = f"one frame took {(perceived_ns - prepared_ns) / 1e9:.1f} s, so it was too old to publish"
            self._faults["deadline"].bad(text)
            raise FrameLost(STALE)

    def _usual_ns(self) -> float | None:
        """The engine's mean time; None before the first perception."""
        count = self.latencies.count("engine")
        return self.latencies.total_ns("engine") / count if count else None

    def _prepare(self, frame: Frame) -> Prepared:
        try:
            return self.preparation(self._with_motion(frame))
        except CalibrationError as error:
            if not self._live:
                raise
            self._faults["frames"].bad(str(error), Level.FAILED)
            raise FrameLost(MISFIT) from error

    def _locate(self, ready: Prepared) -> tuple[Prepared, Estimate | None]:
        """The frame with the pose that visual odometry finds, if it is asked and does."""
        if self._odometry is None:
            return ready, None
        located = self._odometry.locate(ready.frame)
        if located is None or not located.tracking:
            return ready, located
        frame = replace(ready.frame, world_from_camera=located.world_from_camera)
        return replace(ready, frame=frame), located

    def _refined(self, raw: Perception, ready: Prepared, located: Estimate | None) -> Perception:
        """What the frames so far say together, if alignment is on; odometry learns from what this one says."""
        if self._odometry is not None:
            self._odometry.learn(raw, ready.engine_camera, ready.depth_factor)
        if self._alignment is None:
            return raw
        trust = 1.0 if located is None else located.quality
        return self._alignment.align(
            raw, ready.frame, ready.engine_camera, trust=trust, depth_factor=ready.depth_factor
        )

    def _neighbours(self, ready: Prepared) -> Neighbours | None:
        """Earlier frames for a cross-view engine."""
        if self._views is None:
            return None
        if self._guard.engine is None:  # the one that is opened next has made no features yet
            self._views.clear()
        return self._views.neighbours(ready)

    def _start_over(self, back_ns: int) -> None:
        self._faults["frames"].bad(
            f"stamps jumped back by {back_ns / 1e9:.1f} s: taken for a recording that starts over"
        )
        self._stamp_ns = self._motion_from_ns = None
        if self._views is not None:
            self._views.clear()
        for follower in (self._alignment, self._odometry):
            if follower is not None:
                follower.reset()
        if self._source.imu is not None:
            self._source.imu.reset()

    def _with_motion(self, frame: Frame) -> Frame:
        """The frame with the IMU's samples since the last perception, if there is an IMU."""
        self._stamp_ns = frame.stamp_ns
        if self._motion_from_ns is None:
            self._motion_from_ns = frame.stamp_ns
            return frame
        imu = self._source.imu
        return frame if imu is None else replace(frame, imu=imu.window(self._motion_from_ns, frame.stamp_ns))

    def _count(self, taken_ns: int, perceived_ns: int) -> None:
        if self.first_ns is None:
            self.first_ns = perceived_ns
            self._started_ns = taken_ns
        self._perceived += 1
        self._recent_ns.append(perceived_ns)
        while perceived_ns - self._recent_ns[0] > RATE_WINDOW_S * 1e9 and len(self._recent_ns) > 2:
            self._recent_ns.popleft()

    def look(self) -> None:
        """Report what hangs: the watchdog's round; quick, and safe in any thread."""
        if self._stopping:
            return
        now_ns = self._clock()
        patience_s = SILENCE_S if self._capture.frames else START_S
        if self.engine_hung:
            text = "one frame takes far longer than usual; if it stays like this, the device hangs"
            self.health.report("pace", Level.FAILED, text)
        elif self._live and self._guard.busy_since_ns is None and now_ns - self._heard_ns > patience_s * 1e9:
            self.health.report(
                "pace", Level.FAILED, f"no frame for {patience_s:g} s: {self._source.describe()}"
            )
        else:
            self.health.ok("pace")
        for outlet in self._outlets if self._live else ():
            self._look_at(outlet, now_ns)

    def _look_at(self, outlet: Outlet, now_ns: int) -> None:
        part, since_ns = f"sink {outlet.sink.name}", outlet.busy_since_ns
        if outlet.error is not None:
            return  # `_check_sinks` says it
        if since_ns is not None and now_ns - since_ns > HANG_S * 1e9:
            self.health.report(part, Level.DEGRADED, f"one write has taken longer than {HANG_S:g} s")
        else:
            self.health.ok(part)

    def _finish_sinks(self) -> None:
        """Let every sink finish, then raise the first error of theirs."""
        for outlet in self._outlets:
            outlet.end()
        for outlet in self._outlets:
            outlet.join()
        for outlet in self._outlets:
            if not outlet.forgivable:
                outlet.check()

    @property
    def engine(self) -> Engine | None:
        """The engine in use; None while it cannot be opened anew."""
        return self._guard.engine

    @property
    def engine_hung(self) -> bool:
        """The engine has been at one frame for far too long, see `HANG_S`."""
        since_ns, usual_ns = self._guard.busy_since_ns, self._usual_ns()
        if since_ns is None:
            return False
        busy_ns = self._clock() - since_ns
        if usual_ns is not None and busy_ns > max(QUICK_HANG_S * 1e9, HANG_TIMES * usual_ns):
            return True
        return busy_ns > HANG_S * 1e9 and (usual_ns is None or busy_ns > HANG_TIMES * usual_ns)

    @property
    def stuck(self) -> bool:
        """After `run`: the source is still being read by a thread that cannot be ended, so it must not be closed."""
        return self._capture.stuck

    @property
    def counts(self) -> Counts:
        """How many frames went where, so far."""
        return Counts(
            captured=self._capture.frames,
            perceived=self._perceived,
            replaced=self._capture.slot.replaced,
            lost=dict(self._lost),
            written={outlet.sink.name: outlet.written for outlet in self._outlets},
            dropped={outlet.sink.name: outlet.dropped for outlet in self._outlets if not outlet.sink.lossy},
        )

    def summaries(self) -> dict[str, Summary]:
        """Every stage's latencies, and by sink how long it takes and how old live images are when it is done."""
        made = self.latencies.summaries()
        for outlet in self._outlets:
            for name, samples in (("sink", outlet.durations), ("age at", outlet.ages)):
                if (summary := samples.summary()) is not None:
                    made[f"{name} {outlet.sink.name}"] = summary
        return made

    def views(self) -> dict[str, Any] | None:
        """From how many views a cross-view engine perceived, see `ViewKeeper.report`; None of a single-view engine."""
        return None if self._views is None else self._views.report()

    def alignment(self) -> dict[str, Any] | None:
        """How many frames were aligned by what, see `Alignment.report`; None without alignment."""
        return None if self._alignment is None else self._alignment.report()

    @property
    def recent_fps(self) -> float:
        """Perceptions per second over the last second; 0 before the second perception."""
        span_ns = self._recent_ns[-1] - self._recent_ns[0] if self._recent_ns else 0
        return 1e9 * (len(self._recent_ns) - 1) / span_ns if span_ns else 0.0

    @property
    def busy_s(self) -> float:
        """Seconds from taking the first frame until the last perception was handed out."""
        return max(0, self._last_ns - self._started_ns) / 1e9

    @property
    def fps(self) -> float:
        """Perceptions per second over `busy_s`; 0 before the first."""
        return self.latencies.count("engine") / self.busy_s if self.busy_s else 0.0

    @property
    def engine_share(self) -> float:
        """How much of `busy_s` the engine was at work, 0..1."""
        return self.latencies.total_ns("engine") / 1e9 / self.busy_s if self.busy_s else 0.0


def _view_keeper(engine: Engine, health: Health, clock: Callable[[], int]) -> ViewKeeper | None:
    if engine.manifest.views is None:
        return None
    from m2h_runtime.views import ViewKeeper  # other engines need none of it

    return ViewKeeper(engine.manifest.views, health, clock)
