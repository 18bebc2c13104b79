"""Contestants take turns, each in a process of its own.

So no thread pool spins beside another's, and a machine that slows down slows them all. The figure is the ratio within
a round.

    python benchmarks/turns.py ENGINE BACKEND THREADS SECONDS      # one turn of an engine, told as JSON
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

ROOT = Path(__file__).resolve().parent.parent
ONE_TURN_S = 900.0  # torch.compile of m2h takes minutes


class TurnError(Exception):
    """A contestant that did not come to its end; the message is the last line that it said."""


def timed(infer: Callable[[], object], seconds: float) -> dict[str, float]:
    """Median milliseconds of `infer` over `seconds` and two calls at least, after a first call that is told apart."""
    warm_until = time.perf_counter() + 0.2 * seconds
    first_s = _seconds(infer)
    while time.perf_counter() < warm_until:
        infer()
    times = [_seconds(infer), _seconds(infer)]
    while sum(times) < seconds:
        times.append(_seconds(infer))
    return {"ms": 1e3 * median(times), "calls": len(times), "first_s": first_s}


def _seconds(infer: Callable[[], object]) -> float:
    start = time.perf_counter()
    infer()
    return time.perf_counter() - start


def own_process(
    script: Path,
    arguments: Iterable[object],
    environment: Mapping[str, str] | None = None,
    timeout_s: float = ONE_TURN_S,
) -> dict[str, Any]:
    """Run `script` with `arguments` and return the JSON object that it prints as its last line.

    Raises:
        TurnError: it failed, hung, or said something else.
    """
    command = [sys.executable, str(script), *map(str, arguments)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired as error:
        raise TurnError(f"no end after {timeout_s:.0f} s") from error
    try:
        told: dict[str, Any] = json.loads(done.stdout.strip().rpartition("\n")[2])
    except ValueError as error:
        raise TurnError(last_words(done)) from error
    return told


def last_words(done: subprocess.CompletedProcess[str]) -> str:
    """Why a process failed, in one line."""
    if done.returncode < 0:
        return f"killed by signal {-done.returncode}"
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    errors = [line for line in said if re.match(r"[\w.]+(Error|Exception|Exit): ", line)]
    last = [f"exit code {done.returncode}", *said[-1:], *errors[-1:]][-1]
    return re.sub(r"\x1b\[\d*m", "", last)[:300]


def take_turns(
    names: Iterable[str], rounds: int, turn: Callable[[str], float], what: str
) -> dict[str, list[float]]:
    """`rounds` times everyone's milliseconds, with a line per round."""
    times: dict[str, list[float]] = {name: [] for name in names}
    for index in range(rounds):
        for name, own in times.items():
            own.append(turn(name))
        told = ", ".join(f"{name} {own[-1]:.1f}" for name, own in times.items())
        print(f"{what}: round {index + 1} of {rounds}, ms: {told}", flush=True)
    return times


def compared(times: Mapping[str, list[float]], baseline: str) -> dict[str, dict[str, Any]]:
    """A row per contestant: milliseconds, and how many times as fast as the baseline in the same round."""
    rows = {}
    for name, own in times.items():
        ratios = [base / mine for base, mine in zip(times[baseline], own, strict=True)]
        rows[name] = {
            "median_ms": round(median(own), 3),
            "turns_ms": [round(ms, 3) for ms in own],
            "ratio": round(median(ratios), 3),
            "ratio_min": round(min(ratios), 3),
            "ratio_max": round(max(ratios), 3),
        }
    return rows


def engine_turn(engine: Path, backend: str, threads: int, seconds: float) -> float:
    """Milliseconds per frame of an engine, measured in a process of its own."""
    told = own_process(Path(__file__), [engine, backend, threads, seconds])
    return float(told["ms"])


def possible_backends(engine: Path, wanted: Iterable[str]) -> list[str]:
    """Those of `wanted` that run this engine here; what is left out is said."""
    from m2h_runtime.engine.manifest import read_manifest
    from m2h_runtime.engine.select import fitting_backends

    reasons = fitting_backends(engine, read_manifest(engine))
    for name in wanted:
        if reasons[name] is not None:
            print(f"{engine.name}: without {name}: {reasons[name]}", flush=True)
    return [name for name in wanted if reasons[name] is None]


def exported(engine: Path, model: str, size: tuple[int, int], *options: str) -> Path:
    """The engine folder, made with random weights if it is not there: `m2h-export` proves its agreement."""
    if not (engine / "manifest.yaml").is_file():
        command = [sys.executable, "-m", "m2h_export.cli", "--model", model, "--random-weights"]
        command += ["--size", f"{size[0]}x{size[1]}", "--out", str(engine.resolve()), *options]
        subprocess.run(command, check=True, cwd=ROOT)
    return engine


def main(engine: str, backend: str, threads: str, seconds: str) -> None:
    """One turn: the golden photograph through an engine that has just passed its self-test."""
    from m2h_runtime import open_engine
    from m2h_runtime.engine.manifest import read_manifest
    from m2h_runtime.engine.selftest import read_golden

    folder = Path(engine)
    image = read_golden(folder, read_manifest(folder)).image
    with open_engine(folder, backend, threads=int(threads)) as opened:
        print(json.dumps(timed(lambda: opened.infer(image), float(seconds))))


if __name__ == "__main__":
    main(*sys.argv[1:])
