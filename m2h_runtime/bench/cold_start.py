"""How long after switching on the first perception comes: fresh processes, with empty and with filled caches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from m2h_runtime.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from m2h_runtime.bench.stopping import Stop

LIMIT_S = 600.0
PACKAGE_ROOT = Path(__file__).resolve().parents[2]


def cold_start(
    folder: Path,
    backend: str,
    threads: int | None,
    stop: Stop,
    repeats: int,
    progress: Callable[[float], None] = lambda _: None,
) -> dict[str, Any]:
    """Steps of the start in seconds, by state of the cache: "cold" (an empty folder) and "warm" (it has been filled).

    The kernel's own cache of the files is as it is: only root could empty it.

    Raises:
        EngineError: the process failed, or hung.
    """
    runs: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
    for number in range(repeats):
        with tempfile.TemporaryDirectory(prefix="m2h-bench.") as cache:
            for state, found in runs.items():
                if not stop.requested and (steps := _start(folder, backend, threads, cache, stop)):
                    found.append(steps)
                progress((number + (state == "warm")) / repeats)
    return {state: _told(found) for state, found in runs.items()}


def _start(
    folder: Path, backend: str, threads: int | None, cache: str, stop: Stop
) -> dict[str, float] | None:
    """One start; None if it was stopped."""
    path = os.pathsep.join(filter(None, (str(PACKAGE_ROOT), os.environ.get("PYTHONPATH"))))
    module = "m2h_runtime.bench.first_perception"
    command = [sys.executable, "-m", module, str(folder), backend, str(threads or 0)]
    try:
        done = subprocess.run(
            [*command, str(time.monotonic_ns())],
            env={**os.environ, "M2H_CACHE": cache, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"cold start: no perception within {LIMIT_S:g} s") from error
    if done.returncode != 0:
        if stop.requested:  # Ctrl-C goes to the whole group
            return None
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise EngineError(f"cold start: the process ended with {done.returncode}: {last}")
    steps: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return steps


def _told(runs: list[dict[str, float]]) -> dict[str, Any] | None:
    """Every run, and by step the median and the worst."""
    if not runs:
        return None
    by_step = {step: sorted(run[step] for run in runs) for step in runs[0]}
    return {
        "runs": runs,
        "median_s": {step: round(median(values), 4) for step, values in by_step.items()},
        "max_s": {step: values[-1] for step, values in by_step.items()},
    }
