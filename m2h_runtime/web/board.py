"""All figures of a run as plain JSON types, and as OpenMetrics text."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from m2h_runtime.pipeline.health import Level
from m2h_runtime.web.facts import color_maps, engine_card, label_card, source_card
from m2h_runtime.web.recent import STAGES, Recent

if TYPE_CHECKING:
    from collections.abc import Callable

    from m2h_runtime.engine.base import Engine
    from m2h_runtime.pipeline.health import Transition
    from m2h_runtime.pipeline.loop import Pipeline
    from m2h_runtime.sources.base import Source
    from m2h_runtime.web.recent import Figures

TRANSITIONS = 40
"""So many of the latest changes of health are sent."""
REPLACED = "a newer frame came before the engine was free"
TOO_SLOW = "the sink was too slow, its queue was full"


@dataclass(frozen=True)
class Run:
    """What the dashboard is about."""

    pipeline: Pipeline
    source: Source
    engine: Engine


class Board:
    """Reads a run's figures; every method may be called from any thread.

    Args:
        clock: monotonic, integer nanoseconds: the pipeline's.

    Attributes:
        run: None until everything is open.
        recent: the last minute.
    """

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.run: Run | None = None
        self.recent = Recent(clock)
        self._clock = clock

    def hello(self) -> dict[str, Any]:
        """What a viewer is told once. Without a run it has to ask again."""
        run = self.run
        if run is None:
            return {"kind": "hello", "ready": False}
        return {
            "kind": "hello",
            "ready": True,
            **self.cards(),
            "labels": label_card(run.engine.manifest.label_space),
            "color_maps": color_maps(),
            "chart": [{"before_s": round(age, 3), **_told(figures)} for age, figures in self.recent.chart()],
        }

    def cards(self) -> dict[str, Any]:
        """Which engine and which source; nothing without a run."""
        if self.run is None:
            return {}
        engine = self.run.pipeline.engine or self.run.engine
        return {"engine": engine_card(engine), "source": source_card(self.run.source)}

    def status(self) -> dict[str, Any]:
        """What changes all the time."""
        run = self.run
        if run is None:
            return {"phase": "starting"}
        pipeline = run.pipeline
        counts = pipeline.counts
        return {
            "phase": "running" if pipeline.running else "ended" if counts.perceived else "starting",
            **_told(self.recent.now()),
            "frames": {"captured": counts.captured, "perceived": counts.perceived},
            "drops": drops(run),
            "health": self._health(pipeline),
        }

    def _health(self, pipeline: Pipeline) -> dict[str, Any]:
        parts = pipeline.health.parts()
        return {
            "level": pipeline.health.worst().level.name.lower(),
            "parts": [
                {"part": part, "level": condition.level.name.lower(), "text": condition.text}
                for part, condition in sorted(parts.items(), key=lambda item: -item[1].level)
            ],
            "transitions": [self._change(t) for t in list(pipeline.health.transitions)[-TRANSITIONS:]],
        }

    def _change(self, transition: Transition) -> dict[str, Any]:
        return {
            "before_s": round((self._clock() - transition.at_ns) / 1e9, 1),
            "part": transition.part,
            "level": transition.condition.level.name.lower(),
            "text": transition.condition.text,
        }

    def metrics(self) -> str:
        """The same as OpenMetrics text, for Prometheus and its like."""
        lines: list[str] = []
        if self.run is not None:
            lines = _metrics(self.run, self.recent.now())
        return "\n".join([*lines, "# EOF", ""])


def drops(run: Run) -> list[dict[str, Any]]:
    """Frames that did not go all the way, by stage and reason, where any were lost. What only shows is no loss."""
    pipeline = run.pipeline
    counts = pipeline.counts
    known = [("source", why, count) for why, count in list(run.source.skipped.items())]
    known += [("slot", REPLACED, counts.replaced)]
    known += [("engine", why, count) for why, count in counts.lost.items()]
    known += [(f"sink {name}", TOO_SLOW, n) for name, n in counts.dropped.items()]
    return [{"stage": stage, "reason": why, "frames": count} for stage, why, count in known if count]


def _told(figures: Figures) -> dict[str, Any]:
    age = figures.age_ms
    stages = figures.stages_ms
    return {
        "fps": round(figures.fps, 2),
        "age_ms": None if age is None else {"p50": round(age[0], 2), "p99": round(age[1], 2)},
        "stages_ms": None if stages is None else {name: round(ms, 3) for name, ms in stages.items()},
    }


def _metrics(run: Run, figures: Figures) -> list[str]:
    counts, health = run.pipeline.counts, run.pipeline.health
    latencies = run.pipeline.latencies
    lines = ["# TYPE m2h_fps gauge", f"m2h_fps {figures.fps:.3f}"]
    if figures.age_ms is not None:
        lines += ["# TYPE m2h_age_seconds summary", "# UNIT m2h_age_seconds seconds"]
        quantiles = zip((0.5, 0.99), figures.age_ms, strict=True)
        lines += [f'm2h_age_seconds{{quantile="{q}"}} {age_ms / 1e3:.6f}' for q, age_ms in quantiles]
    lines += ["# TYPE m2h_stage_seconds counter", "# UNIT m2h_stage_seconds seconds"]
    lines += [f'm2h_stage_seconds_total{{stage="{s}"}} {latencies.total_ns(s) / 1e9:.6f}' for s in STAGES]
    lines += ["# TYPE m2h_frames_captured counter", f"m2h_frames_captured_total {counts.captured}"]
    lines += ["# TYPE m2h_frames_perceived counter", f"m2h_frames_perceived_total {counts.perceived}"]
    lines += ["# TYPE m2h_frames_dropped counter"]
    lines += [
        f'm2h_frames_dropped_total{{stage="{_label(drop["stage"])}",reason="{_label(drop["reason"])}"}} '
        f"{drop['frames']}"
        for drop in drops(run)
    ]
    lines += ["# TYPE m2h_health_level gauge", "# HELP m2h_health_level 0 ok, 1 degraded, 2 failed"]
    worst = {"worst": health.worst().level, **{name: c.level for name, c in health.parts().items()}}
    return [*lines, *(f'm2h_health_level{{part="{_label(p)}"}} {Level(n).value}' for p, n in worst.items())]


def _label(text: str) -> str:
    """A label's value, escaped as OpenMetrics has it."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
