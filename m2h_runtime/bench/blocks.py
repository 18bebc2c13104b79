"""Many short blocks instead of one long measurement: each knows how disturbed it was."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from m2h_runtime.bench.probe import Others, Probe

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from m2h_runtime.bench.stopping import Stop
    from m2h_runtime.engine.base import Engine

BLOCK_S = 0.2
WARM_UP_S, WARM_UP_FRAMES = 1.0, 10
"""Both have to be over; the first frames allocate, and clocks need a moment to rise."""


@dataclass(frozen=True)
class Block:
    """A few inferences without a pause.

    Attributes:
        at_s: when it began, since the first block.
        times_ms: of each inference.
        probe_ms: of the probe just before; see `Probe`.
        others: cores that other programs took meanwhile on average; None: unknown.
        device_ms: of each inference, on the GPU by its own events; empty where the backend cannot tell.
    """

    at_s: float
    times_ms: list[float]
    probe_ms: float
    others: float | None
    device_ms: list[float]


@dataclass(frozen=True)
class WarmUp:
    """What comes before: how long the first inferences took."""

    times_ms: list[float]


def warm_up(engine: Engine, image: NDArray[np.uint8], stop: Stop) -> WarmUp:
    """Run until allocation is over and clocks are up: at least `WARM_UP_FRAMES` and `WARM_UP_S`."""
    times: list[float] = []
    while not stop.requested and (len(times) < WARM_UP_FRAMES or sum(times) < 1e3 * WARM_UP_S):
        times.append(_timed_ms(engine, image, time.perf_counter_ns))
    return WarmUp(times)


def measure_blocks(
    engine: Engine,
    image: NDArray[np.uint8],
    seconds: float,
    stop: Stop,
    *,
    progress: Callable[[float], None] = lambda _: None,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> list[Block]:
    """Blocks of `engine` on one image, for `seconds`.

    Args:
        engine: warm.
        image: uint8 (H, W, 3) RGB at the engine's size.
        seconds: of the whole; the last block is finished.
        stop: ends it early.
        progress: told the share that is done.
        clock: monotonic, integer nanoseconds.
    """
    probe, others = Probe(clock), Others(clock=clock)
    began_ns = clock()
    blocks: list[Block] = []
    while not stop.requested and (at_s := (clock() - began_ns) / 1e9) < seconds:
        probe_ms = probe.run() / 1e6
        blocks.append(_block(engine, image, at_s, probe_ms, others, clock))
        progress(at_s / seconds)
    return blocks


def _block(
    engine: Engine,
    image: NDArray[np.uint8],
    at_s: float,
    probe_ms: float,
    others: Others,
    clock: Callable[[], int],
) -> Block:
    times: list[float] = []
    device: list[float] = []
    others.cores()
    while sum(times) < 1e3 * BLOCK_S:
        times.append(_timed_ms(engine, image, clock))
        if engine.device_ns is not None:
            device.append(engine.device_ns / 1e6)
    return Block(at_s, times, probe_ms, others.cores(), device)


def _timed_ms(engine: Engine, image: NDArray[np.uint8], clock: Callable[[], int]) -> float:
    began_ns = clock()
    engine.infer(image)
    return (clock() - began_ns) / 1e6
