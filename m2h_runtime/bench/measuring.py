"""Everything that is measured on one engine, in order, and what is there when somebody stops it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from m2h_runtime.bench.blocks import measure_blocks
from m2h_runtime.bench.cold_start import cold_start
from m2h_runtime.bench.loop import LoopRun
from m2h_runtime.bench.soak import soak
from m2h_runtime.bench.statistics import histogram, summarize
from m2h_runtime.bench.subject import Subject
from m2h_runtime.engine.ort import usable_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from m2h_runtime.bench.blocks import Block
    from m2h_runtime.bench.sensors import Sensors
    from m2h_runtime.bench.stopping import Stop
    from m2h_runtime.engine import Engine

Part = Literal["latency", "loop", "peak", "soak", "cold-start"]
PARTS: tuple[Part, ...] = get_args(Part)
SCHEMA = "m2h-bench/1"


@dataclass(frozen=True)
class Plan:
    """What to measure and for how long.

    Attributes:
        parts: which of `PARTS`, in that order.
        rates_hz: of the camera, for "loop".
        seconds: of each measurement but the soak.
        soak_s: of the soak, at the first of the rates.
        starts: of the cold start, each with an empty and a filled cache.
    """

    parts: Sequence[Part]
    rates_hz: Sequence[float] = (10.0, 30.0, 60.0)
    seconds: float = 10.0
    soak_s: float = 60.0
    starts: int = 3


class Measuring:
    """One engine's measurements.

    Args:
        engine: opened.
        folder: its folder; the golden frame is what it is shown.
        threads: it was given; None: all cores.
        plan: what to measure.
        stop: ends it early.
        sensors: read during the soak.
        progress: makes, for a title, what is told the share that is done.
        reference: the engine that `--compare` divides by, on the same backend and threads; None: there is none here.

    Attributes:
        result: what is there so far, by part.
    """

    def __init__(
        self,
        engine: Engine,
        folder: Path,
        threads: int | None,
        plan: Plan,
        stop: Stop,
        sensors: Sensors,
        progress: Callable[[str], Callable[[float], None]],
        reference: Subject | None = None,
    ) -> None:
        self.result: dict[str, Any] = {}
        self._engine, self._folder, self._threads = engine, folder, threads
        self._plan, self._stop, self._sensors, self._progress = plan, stop, sensors, progress
        self._subject, self._reference = Subject.of(engine, folder), reference
        self._image = self._subject.image

    def run(self) -> dict[str, Any]:
        """Measure everything in the plan, or until a stop.

        Raises:
            M2HError: the engine failed; `result` has what was before.
        """
        steps: dict[Part, Callable[[], None]] = {
            "latency": self._latency,
            "loop": self._loop,
            "peak": self._peak,
            "soak": self._soak,
            "cold-start": self._cold_start,
        }
        warm_ms = self._subject.warm_up(self._stop)
        self.result["warm_up"] = {
            "first_ms": round(warm_ms[0], 4) if warm_ms else None,
            "frames": len(warm_ms),
        }
        for part in self._plan.parts:
            if not self._stop.requested:
                steps[part]()
        return self.result

    def _latency(self) -> None:
        if self._reference is not None:
            self._reference.warm_up(self._stop)
        blocks = measure_blocks(
            self._subject,
            self._plan.seconds,
            self._stop,
            reference=self._reference,
            progress=self._progress("latency"),
        )
        self.result["latency"] = {
            **latency_result(blocks),
            "reference": None if self._reference is None else reference_facts(self._reference, self._threads),
        }

    def _loop(self) -> None:
        runs = self.result["loop"] = []
        for rate in self._plan.rates_hz:
            if self._stop.requested:
                return
            run = LoopRun(self._engine, self._image, self._plan.seconds, rate)
            runs.append(run.run(self._stop, self._progress(f"loop at {rate:g} Hz")).result())

    def _peak(self) -> None:
        run = LoopRun(self._engine, self._image, self._plan.seconds, None)
        self.result["peak"] = run.run(self._stop, self._progress("peak")).result()

    def _soak(self) -> None:
        self.result["soak"] = soak(
            self._engine,
            self._image,
            self._plan.soak_s,
            self._plan.rates_hz[0],
            self._stop,
            self._sensors,
            self._progress("soak"),
        )

    def _cold_start(self) -> None:
        self.result["cold_start"] = cold_start(
            self._folder,
            self._engine.backend,
            self._threads,
            self._stop,
            self._plan.starts,
            self._progress("cold start"),
        )


def latency_result(blocks: Sequence[Block]) -> dict[str, Any]:
    """Figures of the engine alone, with the blocks that a comparison needs."""
    times = [ms for block in blocks for ms in block.times_ms]
    device = [ms for block in blocks for ms in block.device_ms]
    others = [block.others for block in blocks if block.others is not None]
    return {
        "ms": summarize(times),
        "histogram": histogram(times),
        "device_ms": summarize(device) if device else None,
        "probe_ms": summarize([block.probe_ms for block in blocks]),
        "others_cores": round(float(np.mean(others)), 3) if others else None,
        "blocks": [_plain(block) for block in blocks],
    }


def reference_facts(reference: Subject, threads: int | None) -> dict[str, Any]:
    """Which engine took turns: two results with the same can be compared by it."""
    manifest = reference.engine.manifest
    return {
        "name": manifest.name,
        "engine_id": manifest.engine_id(),
        "backend": reference.engine.backend,
        "threads": threads or usable_cores(),
    }


def _plain(block: Block) -> dict[str, Any]:
    return {
        "at_s": round(block.at_s, 4),
        "times_ms": [round(ms, 4) for ms in block.times_ms],
        "probe_ms": round(block.probe_ms, 4),
        "others": None if block.others is None else round(block.others, 3),
        "device_ms": [round(ms, 4) for ms in block.device_ms],
        "reference_ms": [round(ms, 4) for ms in block.reference_ms],
    }
