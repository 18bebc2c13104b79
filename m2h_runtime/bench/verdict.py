"""Is B slower than A? The answer knows its noise; docs/m2h-bench.md argues each number here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

import numpy as np

from m2h_runtime.bench.subject import QUANTILE as TURN_QUANTILE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from m2h_runtime.bench.blocks import Block

Kind = Literal["no difference", "slower", "faster", "cannot tell"]

QUANTILE, PROBE_QUANTILE = 2.0, 10.0
"""The speed of a run is this percentile of its inferences: disturbances only prolong. Of probes there are fewer."""
QUIET_CORES, QUIET_SHARE = 0.1, 0.5
"""Blocks during which others took more cores are left out of a comparison of separate runs; if less than this share of
them is left, what looks quiet is no better: its neighbours have emptied the caches."""
LEAST_BLOCKS, LEAST_INFERENCES = 8, 20
BETWEEN_RUNS = 0.012
"""Two runs of one engine differ by so much (standard deviation of one run's logarithm) beyond what each run shows."""
BETWEEN_REFERENCED = 0.006
"""The same where a reference engine ran beside: what is left is how a process happens to lie in memory."""
PROBE_MARGIN = 0.04
"""If the probes differ by more, it was the machine's clock that changed."""
EXCLUDED = math.log(1.1)
"""Where the interval reaches a difference of 10 %, nobody may say that there is none."""
APART_MARGIN, TURNS_MARGIN = 0.05, 0.03
"""Smaller differences are none: of separate runs, and of engines that take turns."""
CONFIDENCE, AMID_OTHERS = 0.95, 0.99
"""Of an interval; and of one from turns that other programs disturbed: their bursts last for several turns, which are
then no independent witnesses."""
RESAMPLES, WINDOW_S = 400, 1.0
Z95 = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Verdict:
    """How B compares with A.

    Attributes:
        kind: the answer.
        ratio: time of B over time of A; None if nothing can be said.
        low, high: its interval, of 95 % unless the text says otherwise.
        text: all of it in a line.
    """

    kind: Kind
    ratio: float | None
    low: float | None
    high: float | None
    text: str

    def slower_by(self, percent: float) -> bool:
        """B is slower, and by more than `percent`."""
        return self.kind == "slower" and self.ratio is not None and self.ratio > 1 + percent / 100


def cannot_tell(why: str) -> Verdict:
    """No answer, with the reason."""
    return Verdict("cannot tell", None, None, None, f"cannot tell: {why}")


def judge(
    log_ratio: float, low: float, high: float, margin: float, confidence: float = CONFIDENCE
) -> Verdict:
    """The verdict on an estimate and its interval, all as logarithms of B/A."""
    ratio, bottom, top = (round(math.exp(value), 4) for value in (log_ratio, low, high))
    told = f"B/A {ratio:.3f}, {100 * confidence:g} % interval {bottom:.2f} to {top:.2f}"
    if abs(log_ratio) > math.log1p(margin) and not low <= 0 <= high:
        kind: Kind = "slower" if log_ratio > 0 else "faster"
        shares = sorted(100 * abs(value - 1) for value in (bottom, top))
        text = f"B is {100 * abs(ratio - 1):.1f} % {kind} ({shares[0]:.1f} to {shares[1]:.1f})"
        return Verdict(kind, ratio, bottom, top, text)
    if max(high, -low) > EXCLUDED:
        text = f"cannot tell: too noisy ({told}); measure longer or on a quieter machine"
        return Verdict("cannot tell", ratio, bottom, top, text)
    return Verdict("no difference", ratio, bottom, top, f"no difference ({told})")


def compare_runs(a: Sequence[Block], b: Sequence[Block]) -> Verdict:
    """Two separate runs, maybe minutes or days apart on the same machine.

    Blocks in which other programs took the CPU are left out. What is left gives a low percentile of its inferences; its
    error comes from a moving-block bootstrap, plus what two runs differ by anyway.
    """
    quiet = [_quiet(blocks) for blocks in (a, b)]
    for name, blocks, kept in zip("AB", (a, b), quiet, strict=True):
        if (why := _too_little(name, blocks, kept)) is not None:
            return cannot_tell(why)
    probes = [
        math.log(float(np.percentile([block.probe_ms for block in kept], PROBE_QUANTILE))) for kept in quiet
    ]
    if abs(probes[1] - probes[0]) > PROBE_MARGIN:
        percent = 100 * math.expm1(abs(probes[1] - probes[0]))
        slower = "B" if probes[1] > probes[0] else "A"
        return cannot_tell(
            f"a fixed piece of work took {percent:.0f} % longer during {slower}: the machine's clock had changed"
        )
    (level_a, error_a), (level_b, error_b) = (level(kept) for kept in quiet)
    half = Z95 * math.sqrt(error_a**2 + error_b**2 + 2 * BETWEEN_RUNS**2)
    estimate = level_b - level_a
    return judge(estimate, estimate - half, estimate + half, APART_MARGIN)


def compare_by_reference(a: Sequence[Block], b: Sequence[Block]) -> Verdict:
    """Two separate runs, each of which had the same reference engine take turns with its own.

    A machine that changes its speed between the runs changes both alike: B/A is the ratio of the ratios. Each run's is
    the median over its blocks, with the median's standard error by bootstrap.
    """
    for name, blocks in zip("AB", (a, b), strict=True):
        if len(blocks) < LEAST_BLOCKS:
            return cannot_tell(f"{name} has {len(blocks)} blocks, too few; measure longer")
    (ratio_a, error_a), (ratio_b, error_b) = (_relative(blocks) for blocks in (a, b))
    half = Z95 * math.sqrt(error_a**2 + error_b**2 + 2 * BETWEEN_REFERENCED**2)
    return judge(ratio_b - ratio_a, ratio_b - ratio_a - half, ratio_b - ratio_a + half, APART_MARGIN)


def _relative(blocks: Sequence[Block]) -> tuple[float, float]:
    """Logarithm of the engine's time over the reference's, and its standard error."""
    logs = np.log(
        [
            np.percentile(block.times_ms, TURN_QUANTILE) / np.percentile(block.reference_ms, TURN_QUANTILE)
            for block in blocks
        ]
    )
    drawn = np.random.default_rng(0).choice(logs, (RESAMPLES, len(logs)))
    return float(np.median(logs)), float(np.std(np.median(drawn, axis=1)))


def compare_turns(ratios: NDArray[np.float64], confidence: float = CONFIDENCE) -> Verdict:
    """Engines that took turns: the median of the turns' ratios with its distribution-free interval.

    Args:
        ratios: float64 (N,), logarithm of B/A, one for each pair of neighbouring blocks.
        confidence: of the interval.
    """
    ranks = _median_ranks(len(ratios), confidence)
    if ranks is None:
        return cannot_tell(f"{len(ratios)} turns are too few; measure longer")
    ordered = np.sort(ratios)
    low, high = float(ordered[ranks[0]]), float(ordered[ranks[1]])
    return judge(float(np.median(ordered)), low, high, TURNS_MARGIN, confidence)


def level(blocks: Sequence[Block]) -> tuple[float, float]:
    """Logarithm of a run's speed in ms, and its standard error within the run."""
    logs = [np.log(block.times_ms) for block in blocks]
    whole = float(np.percentile(np.concatenate(logs), QUANTILE))
    spans_s = [sum(block.times_ms) / 1e3 for block in blocks]
    window = max(1, round(WINDOW_S / float(np.median(spans_s))))
    window = min(window, max(1, len(blocks) // 4))
    rng = np.random.default_rng(0)
    starts = rng.integers(0, len(blocks) - window + 1, (RESAMPLES, math.ceil(len(blocks) / window)))
    drawn = [
        np.percentile(np.concatenate([x for start in row for x in logs[start : start + window]]), QUANTILE)
        for row in starts
    ]
    return whole, float(np.std(drawn))


def _quiet(blocks: Sequence[Block]) -> list[Block]:
    return [block for block in blocks if block.others is None or block.others <= QUIET_CORES]


def _too_little(name: str, blocks: Sequence[Block], kept: Sequence[Block]) -> str | None:
    inferences = sum(len(block.times_ms) for block in kept)
    quiet = len(kept) >= QUIET_SHARE * len(blocks)
    if quiet and len(kept) >= LEAST_BLOCKS and inferences >= LEAST_INFERENCES:
        return None
    if not quiet:
        cores = float(np.mean([block.others for block in blocks if block.others is not None]))
        return (
            f"other programs took {cores:.1f} cores during {name} ({len(kept)} of {len(blocks)} blocks were quiet); "
            "stop them or use --against"
        )
    return f"{name} has {inferences} inferences in {len(kept)} blocks, too few; measure longer"


def _median_ranks(count: int, confidence: float) -> tuple[int, int] | None:
    """Which order statistics hold the median with so much confidence, from 0; None if there are too few."""
    tail, below = 0.0, -1
    for rank in range(count // 2):
        tail += math.comb(count, rank) / 2.0**count
        if tail > (1 - confidence) / 2:
            break
        below = rank
    return (below, count - 1 - below) if below >= 0 else None
