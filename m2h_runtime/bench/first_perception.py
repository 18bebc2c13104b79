"""A process of its own until its first perception: what `m2h-bench` starts to measure a cold start.

    python -m m2h_runtime.bench.first_perception FOLDER BACKEND THREADS STARTED_NS

Prints the seconds of each step as JSON. STARTED_NS is the parent's monotonic clock, which is the machine's.
"""

from __future__ import annotations

import time

BEGAN_NS = time.monotonic_ns()  # before the imports, which are measured

import json  # noqa: E402
import logging  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    """Open the engine, run one picture through the loop, and tell how long each step took."""
    folder, backend, threads, started_ns = sys.argv[1:]
    logging.disable()
    from m2h_runtime.bench.camera import ArrivalSink, PictureRecording, pictures
    from m2h_runtime.engine import select
    from m2h_runtime.engine.selftest import read_golden
    from m2h_runtime.pipeline import Pipeline

    imported_ns = time.monotonic_ns()
    test_ns: list[int] = []
    timed = _timed(vars(select)["run_self_test"], test_ns)
    vars(select)["run_self_test"] = timed  # it is inside `open_engine`, and nobody else is in this process
    with select.open_engine(
        Path(folder), backend, threads=int(threads) or None, allow_unverified=True
    ) as engine:
        opened_ns = time.monotonic_ns()
        source = PictureRecording(pictures(read_golden(Path(folder), engine.manifest).image), 1.0, frames=1)
        pipeline = Pipeline(source, engine, [ArrivalSink()])
        pipeline.run()
    first_ns = pipeline.first_ns
    if first_ns is None:
        raise SystemExit("the engine gave no perception of its golden frame")
    steps = {
        "process": BEGAN_NS - int(started_ns),
        "imports": imported_ns - BEGAN_NS,
        "open": opened_ns - imported_ns - sum(test_ns),
        "self_test": sum(test_ns),
        "first_perception": first_ns - opened_ns,
        "total": first_ns - int(started_ns),
    }
    sys.stdout.write(json.dumps({name: round(value / 1e9, 4) for name, value in steps.items()}) + "\n")


def _timed(function: Callable[..., Any], spent_ns: list[int]) -> Callable[..., Any]:
    """`function`, noting how long it takes."""

    def wrapped(*arguments: Any) -> Any:
        began_ns = time.monotonic_ns()
        try:
            return function(*arguments)
        finally:
            spent_ns.append(time.monotonic_ns() - began_ns)

    return wrapped


if __name__ == "__main__":
    main()
