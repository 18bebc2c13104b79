"""A run's figures so far, as text for whoever watches it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from m2h_runtime.pipeline.loop import Pipeline

PUBLISHED = "age at ros"


def figures(pipeline: Pipeline) -> dict[str, str]:
    """Rate, age at publication (or when the sinks got it), engine and backend, and the drops by reason.

    Args:
        pipeline: at any time; may be asked from any thread.
    """
    engine, counts = pipeline.engine, pipeline.counts
    said = {"engine": engine.manifest.name, "backend": engine.backend} if engine else {}
    said |= {"fps": f"{pipeline.recent_fps:.1f}", "perceived": str(counts.perceived)}
    summaries = pipeline.summaries()
    if (age := summaries.get(PUBLISHED) or summaries.get("age")) is not None:
        said |= {"age p50": f"{age.p50_ms:.1f} ms", "age p99": f"{age.p99_ms:.1f} ms"}
    drops = {"replaced by a newer frame": counts.replaced, **counts.lost}
    drops |= {f"not taken by {sink}": count for sink, count in counts.dropped.items()}
    return said | {f"dropped: {why}": str(count) for why, count in drops.items()}
