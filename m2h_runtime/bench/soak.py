"""Hours, if need be: does memory grow, does the machine get hot and slow."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from m2h_runtime.bench.loop import LoopRun
from m2h_runtime.bench.sensors import KINDS, Sensors
from m2h_runtime.bench.statistics import trend

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from m2h_runtime.bench.sensors import Values
    from m2h_runtime.bench.stopping import Stop
    from m2h_runtime.engine.base import Engine

SAMPLES = 600
"""The machine is looked at so often over the whole soak, but not more often than `FASTEST_S`."""
FASTEST_S = 0.25
WARM_SHARE = 0.25
"""The first part of a soak fills caches and pools; growth is judged after it."""
LEAK_MB, LEAK_SHARE, EIGHTHS = 8.0, 0.75, 8
"""Memory leaks if it grew by so much after the first part, and in this share of its eighths over the one before."""


class Watch:
    """Reads the sensors every so often, in a thread of its own, in a `with` block.

    Attributes:
        at_s: when, since the beginning.
        values: what they told.
    """

    def __init__(self, sensors: Sensors, period_s: float) -> None:
        self.at_s: list[float] = []
        self.values: list[Values] = []
        self._sensors = sensors
        self._period_s = period_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="bench sensors", daemon=True)

    def __enter__(self) -> Watch:  # noqa: PYI034 (nobody inherits)
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._ended.set()
        self._thread.join()

    def _work(self) -> None:
        began = time.monotonic()
        while True:
            self.at_s.append(round(time.monotonic() - began, 3))
            self.values.append(self._sensors.read())
            if self._ended.wait(self._period_s):
                return

    def curves(self) -> dict[str, dict[str, list[float | None]]]:
        """By kind and sensor the value at each time; None where it told nothing."""
        found = {
            kind: sorted({name for value in self.values for name in value.get(kind, {})}) for kind in KINDS
        }
        return {
            kind: {name: [_rounded(value.get(kind, {}).get(name)) for value in self.values] for name in names}
            for kind, names in found.items()
            if names
        }


def soak(
    engine: Engine,
    image: NDArray[np.uint8],
    seconds: float,
    input_hz: float,
    stop: Stop,
    sensors: Sensors,
    progress: Callable[[float], None] = lambda _: None,
) -> dict[str, Any]:
    """The whole loop at `input_hz` for `seconds`, with the sensors read beside it.

    Returns:
        The loop's figures, and "sensors" (curves), "memory" (growth), "throttling", "unknown" (kinds nobody tells).
    """
    with Watch(sensors, max(FASTEST_S, seconds / SAMPLES)) as watch:
        run = LoopRun(engine, image, seconds, input_hz).run(stop, progress)
    curves = watch.curves()
    arrivals = run.arrivals
    engine_ms = np.array(arrivals.stages_ns.get("engine", ()), np.float64) / 1e6
    came = np.searchsorted(arrivals.at_ns - run.began_ns, 1e9 * np.array(watch.at_s))
    resident = [v.get("memory_mb", {}).get("resident") for v in watch.values]
    return {
        **run.result(),
        "sensors": {"at_s": watch.at_s, **curves},
        "unknown": [kind for kind in KINDS if kind not in curves],
        "memory": growth(watch.at_s, without_notes(resident, came * arrivals.row_bytes)),
        "throttling": throttling(curves.get("throttle_events", {})),
        "engine_slower_at_the_end": slowing(engine_ms),
    }


def without_notes(resident_mb: list[float | None], noted_bytes: NDArray[np.int64]) -> list[float | None]:
    """Memory less what this benchmark itself has noted by then."""
    pairs = zip(resident_mb, noted_bytes.tolist(), strict=True)
    return [None if mb is None else mb - noted / 2**20 for mb, noted in pairs]


def growth(at_s: list[float], resident_mb: list[float | None]) -> dict[str, Any] | None:
    """How this process's memory grew after its first quarter, and whether that is a leak; None if it is unknown."""
    points = [(t, mb) for t, mb in zip(at_s, resident_mb, strict=True) if mb is not None]
    settled = points[round(WARM_SHARE * len(points)) :]
    if len(settled) < EIGHTHS:
        return None
    times, values = np.array(settled).T
    parts = [float(np.median(part)) for part in np.array_split(values, EIGHTHS)]
    grew = parts[-1] - parts[0]
    steadily = np.mean(np.diff(parts) > 0) >= LEAK_SHARE
    return {
        "first_mb": round(points[0][1], 2),
        "last_mb": round(points[-1][1], 2),
        "grew_mb": round(grew, 2),
        "mb_per_hour": round(3600 * trend(times, values), 2),
        "leaks": bool(grew > LEAK_MB and steadily),
    }


def throttling(counters: dict[str, list[float | None]]) -> bool | None:
    """Did the machine hold itself back meanwhile; None if it does not tell."""
    if not counters:
        return None
    for name, values in counters.items():
        known = [value for value in values if value is not None]
        if known and (known[-1] > known[0] or (name.startswith("gpu") and max(known) > 0)):
            return True
    return False


def slowing(engine_ms: NDArray[np.float64]) -> float | None:
    """Median engine time of the last fifth over that of the first fifth after the warm-up, minus 1; None: too short."""
    fifth = len(engine_ms) // 5
    if fifth < 10:
        return None
    first, last = np.median(engine_ms[fifth // 2 : fifth // 2 + fifth]), np.median(engine_ms[-fifth:])
    return round(float(last / first) - 1, 4)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
