"""What the cross-view module brings, on simulated apartments."""

from __future__ import annotations

from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from sections.common import command, load, table

if TYPE_CHECKING:
    from collections.abc import Iterator

BASELINE = "baseline, video"
METRICS = {
    "semantics": ("mIoU ↑", 100, 2, 1),
    "depth": ("depth RMSE (m) ↓", 1, 4, -1),
    "normals": ("normals mErr (°) ↓", 1, 2, -1),
    "edges": ("odsF ↑", 100, 2, 1),
}
"""By task: title, factor, decimals, and +1 where more is better."""


def section() -> list[str]:
    """The lines."""
    result = load("cvm_simulation")
    if result is None:
        return []
    runs = result["runs"]
    images = next(iter(runs[0]["evaluations"].values()))["images"]
    titles = ["", "views", *(title for title, *_ in METRICS.values()), "angle (°) ↓", "Δ_MTL (%) ↑", "seeds"]
    return [
        "## The cross-view module on simulated apartments",
        "",
        f"`cvm-nano` from scratch, {result['steps']} steps of eight pictures of 96 × 128, evaluated on {images} frames of the"
        ' reserved apartments with 1, 2 or 3 views at inference; mean ± standard deviation over seeds. "Angle" is that between'
        " predicted normals and those of the predicted depth. Δ_MTL is the mean gain over the baseline with video of the same"
        " seed. All runs of a seed see the samples in the same order. These are figures of a training of minutes: who is ahead,"
        " not what the networks can do.",
        *command(result),
        *table(titles, rows(runs)),
        "",
        *matching(),
    ]


def matching() -> list[str]:
    """What there is to match, and what the trained cost volumes find of it."""
    result = load("cvm_matching")
    if result is None:
        return []
    titles = ["compared", "picture", "cells right", "by chance", "correlation"]
    percent = "{:.1f} %".format
    return [
        "How much of the depth two views can tell at such sizes: the best of 64 planes of the cost volume, cell by cell, against"
        f" the true depth, on {result['rows'][0]['pairs']} pairs {result['rows'][0]['median_baseline_m']:.2f} m apart (median)."
        ' "Right" is within 10 % of the inverse depth. Patches are of 17 × 17 pixels, normalised, no network.',
        *command(result),
        *table(
            titles,
            (
                [
                    row["features"],
                    " × ".join(map(str, row["size"])),
                    percent(100 * row["right"]),
                    percent(100 * row["right_by_chance"]),
                    f"{row['correlation']:.2f}",
                ]
                for row in result["rows"]
            ),
        ),
        "",
    ]


def rows(runs: list[dict[str, Any]]) -> Iterator[list[str]]:
    """A line per variant and number of views."""
    for name in dict.fromkeys(run["variant"] for run in runs):
        mine = [run for run in runs if run["variant"] == name]
        for views in mine[0]["evaluations"]:
            found = [run["evaluations"][views] for run in mine]
            cells = [
                spread([factor * e["headlines"][task] for e in found], decimals)
                for task, (_, factor, decimals, _) in METRICS.items()
            ]
            angle = spread([e["consistency"]["mean"] for e in found], 2)
            yield [name, views, *cells, angle, gain_cell(runs, mine, views), str(len(mine))]


def gain_cell(runs: list[dict[str, Any]], mine: list[dict[str, Any]], views: str) -> str:
    """Δ_MTL over the baseline of the same seed, where that is there."""
    bases = {run["seed"]: run for run in runs if run["variant"] == BASELINE}
    gains = [
        gain(run["evaluations"][views]["headlines"], bases[run["seed"]]["evaluations"]["1"]["headlines"])
        for run in mine
        if run["seed"] in bases
    ]
    if not gains:
        return "-"
    return "0" if mine[0]["variant"] == BASELINE else spread(gains, 2, sign="+")


def gain(scores: dict[str, float], base: dict[str, float]) -> float:
    """The mean relative improvement over the tasks, percent."""
    return 100 * mean(sign * (scores[task] - base[task]) / base[task] for task, (*_, sign) in METRICS.items())


def spread(values: list[float], decimals: int, sign: str = "") -> str:
    """Mean, and ± over seeds where there are several."""
    told = f"{mean(values):{sign}.{decimals}f}"
    return f"{told} ± {stdev(values):.{decimals}f}" if len(values) > 1 else told
