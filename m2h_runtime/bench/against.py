"""What two engines that took turns make of each other, in plain JSON types."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from m2h_runtime.bench.statistics import summarize
from m2h_runtime.bench.subject import Subject
from m2h_runtime.bench.turns import take_turns, verdict_on

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from m2h_runtime.bench.stopping import Stop
    from m2h_runtime.engine import Engine


def against_result(
    a: tuple[Engine, Path],
    b: tuple[Engine, Path],
    seconds: float,
    stop: Stop,
    progress: Callable[[float], None] = lambda _: None,
) -> dict[str, Any]:
    """Verdict, spread and turns.

    Args:
        a: an opened engine and its folder.
        b: the other one.
        seconds: both together, after the warm-up.
        stop: ends it early.
        progress: told the share that is done.
    """
    one, other = (Subject.of(*who) for who in (a, b))
    for who in (one, other):
        who.warm_up(stop)
    pairs = take_turns(one, other, seconds, stop, progress=progress)
    ratios = np.exp([pair.log_ratio for pair in pairs])
    return {
        "verdict": asdict(verdict_on(pairs)),
        "spread": [round(float(x), 4) for x in np.percentile(ratios, (25, 75))] if pairs else None,
        "a_ms": summarize([ms for pair in pairs for ms in pair.a_ms]),
        "b_ms": summarize([ms for pair in pairs for ms in pair.b_ms]),
        "turns": [
            {
                "at_s": round(pair.at_s, 3),
                "first": pair.first,
                "ratio": round(float(ratio), 5),
                "others": None if pair.others is None else round(pair.others, 3),
            }
            for pair, ratio in zip(pairs, ratios, strict=True)
        ],
    }
