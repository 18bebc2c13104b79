"""What a run reports: the same figures as a table for people and as JSON for programs."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2h_runtime import __version__
from m2h_runtime.engine.ort import usable_cores
from m2h_runtime.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping

    from m2h_runtime.engine import Engine
    from m2h_runtime.pipeline import Counts, Pipeline
    from m2h_runtime.sources import Source

LIBRARIES = (
    "m2h-runtime",
    "numpy",
    "opencv-python-headless",
    "opencv-python",
    "onnxruntime",
    "openvino",
    "tensorrt",
)


def build_report(
    pipeline: Pipeline,
    source: Source,
    engine: Engine,
    started_ns: int,
    interrupted: bool,
    failure: Exception | None,
) -> dict[str, Any]:
    """All figures of a run that has ended, in plain JSON types; see docs/m2h-run.md for the fields.

    Args:
        pipeline: after its `run`.
        source: what it read.
        engine: what answered.
        started_ns: when the command began, on the pipeline's clock.
        interrupted: a signal ended the run.
        failure: what ended the run, if it failed.
    """
    counts = pipeline.counts
    first_ns = pipeline.first_ns
    return {
        "outcome": "failed" if failure else "interrupted" if interrupted else "finished",
        "error": str(failure) if failure else None,
        "source": {"description": source.describe(), "live": source.live, "fps": source.fps},
        "engine": engine_facts(engine),
        "fps": _rounded(pipeline.fps),
        "engine_share": _rounded(pipeline.engine_share),
        "busy_s": _rounded(pipeline.busy_s),
        "time_to_first_perception_s": None if first_ns is None else _rounded((first_ns - started_ns) / 1e9),
        "frames": {"captured": counts.captured, "perceived": counts.perceived, "written": counts.written},
        "drops": drops(counts, source.skipped),
        "views": pipeline.views(),
        "alignment": pipeline.alignment(),
        "health": [
            {
                "at_s": _rounded((change.at_ns - started_ns) / 1e9),
                "part": change.part,
                "level": change.condition.level.name.lower(),
                "text": change.condition.text,
            }
            for change in pipeline.health.transitions
        ],
        "latency_ms": {
            stage: {key.removesuffix("_ms"): _rounded(value) for key, value in asdict(summary).items()}
            for stage, summary in pipeline.summaries().items()
        },
        "machine": machine_facts(),
    }


def engine_facts(engine: Engine) -> dict[str, Any]:
    """Which engine it was and why this backend."""
    manifest = engine.manifest
    return {
        "name": manifest.name,
        "size": list(manifest.size),
        "precision": manifest.precision,
        "backend": engine.backend,
        "choice": engine.choice,
        "engine_id": manifest.engine_id(),
        "random_weights": manifest.checkpoint.random_weights,
    }


def drops(counts: Counts, skipped: Mapping[str, int]) -> list[dict[str, Any]]:
    """Every frame that did not go all the way, by stage and reason; 0 where none was lost.

    Args:
        counts: of the run.
        skipped: by reason, what the source could not decode; these were never captured.
    """
    unseen = counts.captured - counts.perceived - counts.replaced - sum(counts.lost.values())
    return [
        *({"stage": "source", "reason": reason, "frames": frames} for reason, frames in skipped.items()),
        {
            "stage": "slot",
            "reason": "a newer frame came before the engine was free",
            "frames": counts.replaced,
        },
        {"stage": "slot", "reason": "the run ended before its turn", "frames": unseen},
        *({"stage": "engine", "reason": reason, "frames": frames} for reason, frames in counts.lost.items()),
        *(
            {
                "stage": f"sink {name}",
                "reason": "the sink was too slow, its queue was full",
                "frames": dropped,
            }
            for name, dropped in counts.dropped.items()
        ),
    ]


def machine_facts() -> dict[str, Any]:
    """CPU, cores that this process may use, system, Python and library versions."""
    return {
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {
            "m2h-runtime": __version__,
            **{name: version for name in LIBRARIES if (version := _version(name)) is not None},
        },
    }


def cpu_model() -> str:
    """The CPU's name as the kernel gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        return platform.machine()
    return platform.processor() or platform.machine()


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Write `report` as JSON, whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    write_atomically(path, (json.dumps(report, indent=2) + "\n").encode())


def print_report(report: dict[str, Any]) -> None:
    """Print the figures to stdout."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    first_s = report["time_to_first_perception_s"]
    console.print(
        f"{report['outcome']}: {report['frames']['perceived']} frames, {report['fps']:.1f} FPS, "
        f"engine {100 * report['engine_share']:.0f} % of the time"
        + (f", first perception after {first_s:.2f} s" if first_s is not None else ", no perception"),
        soft_wrap=True,
    )
    for drop in report["drops"]:
        if drop["frames"]:
            console.print(f"dropped {drop['frames']} at {drop['stage']}: {drop['reason']}", soft_wrap=True)
    if report["views"] is not None:
        console.print(_told(report["views"]), soft_wrap=True)
    if report["alignment"] is not None:
        counts = ", ".join(f"{count} {state}" for state, count in report["alignment"]["frames"].items())
        console.print(f"aligned by: {counts or 'nothing'}", soft_wrap=True)
    table = Table("stage", *(f"{name} ms" for name in ("p50", "p95", "p99", "max")))
    for column in table.columns[1:]:
        column.justify = "right"
    for stage, values in report["latency_ms"].items():
        table.add_row(stage, *(f"{values[name]:.2f}" for name in ("p50", "p95", "p99", "max")))
    if report["latency_ms"]:
        console.print(table)


def _told(views: dict[str, Any]) -> str:
    """From how many views it perceived, in one line."""
    counts = ", ".join(f"{count} {state}" for state, count in views["frames"].items())
    baseline_m = views["median_baseline_m"]
    return f"views: {counts or 'none'}" + (f"; median baseline {baseline_m:.2f} m" if baseline_m else "")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _rounded(value: float) -> float:
    return round(value, 4)
