"""Many short blocks instead of one long measurement: each knows how disturbed it was."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from m2h_runtime.bench.probe import Others, Probe

if TYPE_CHECKING:
    from collections.abc import Callable

    from m2h_runtime.bench.stopping import Stop
    from m2h_runtime.bench.subject import Subject

BLOCK_S, BESIDE_S = 0.2, 0.1
"""Alone, and beside a reference: the shorter both turns, the more of what the machine does meanwhile they share."""


@dataclass(frozen=True)
class Block:
    """A few inferences without a pause.

    Attributes:
        at_s: when it began, since the first block.
        times_ms: of each inference.
        probe_ms: of the probe just before; see `Probe`.
        others: cores that other programs took meanwhile on average; None: unknown.
        device_ms: of each inference, on the GPU by its own events; empty where the backend cannot tell.
        reference_ms: of a reference engine's turn, just before or after; empty without one.
    """

    at_s: float
    times_ms: list[float]
    probe_ms: float
    others: float | None
    device_ms: list[float]
    reference_ms: list[float] = field(default_factory=list)


def measure_blocks(
    subject: Subject,
    seconds: float,
    stop: Stop,
    *,
    reference: Subject | None = None,
    progress: Callable[[float], None] = lambda _: None,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> list[Block]:
    """Blocks of the engine on one image, for `seconds`.

    Args:
        subject: warm.
        seconds: of the whole, the reference's turns included; the last block is finished.
        stop: ends it early.
        reference: a warm engine that takes a turn beside every block; before or after is drawn, so that nothing
            periodic prefers one.
        progress: told the share that is done.
        clock: monotonic, integer nanoseconds.
    """
    probe, others = Probe(clock), Others(clock=clock)
    began_ns = clock()
    blocks: list[Block] = []
    while not stop.requested and (at_s := (clock() - began_ns) / 1e9) < seconds:
        probe_ms = probe.run() / 1e6
        if reference is None:
            blocks.append(_block(subject, at_s, probe_ms, others, clock))
        else:
            blocks.append(_beside(reference, subject, at_s, probe_ms, others, clock))
        progress(at_s / seconds)
    return blocks


def _beside(
    reference: Subject,
    subject: Subject,
    at_s: float,
    probe_ms: float,
    others: Others,
    clock: Callable[[], int],
) -> Block:
    reference_first = random.random() < 0.5  # noqa: S311 (no secret)
    reference_ms = reference.turn(clock, BESIDE_S) if reference_first else []
    subject.engine.infer(subject.image)  # not counted: caches and threads are still the reference's
    block = _block(subject, at_s, probe_ms, others, clock, BESIDE_S)
    return replace(block, reference_ms=reference_ms or reference.turn(clock, BESIDE_S))


def _block(
    subject: Subject,
    at_s: float,
    probe_ms: float,
    others: Others,
    clock: Callable[[], int],
    seconds: float = BLOCK_S,
) -> Block:
    times: list[float] = []
    device: list[float] = []
    others.cores()
    while sum(times) < 1e3 * seconds:
        times.append(subject.infer_ms(clock))
        if subject.engine.device_ns is not None:
            device.append(subject.engine.device_ns / 1e6)
    return Block(at_s, times, probe_ms, others.cores(), device)
