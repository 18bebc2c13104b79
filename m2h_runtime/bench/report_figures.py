"""A result as pictures."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from m2h_runtime.libraries import require

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTH_IN, HEIGHT_IN, DPI = 11.0, 2.8, 110


def check_drawing() -> None:
    """Find out before measuring whether there will be pictures.

    Raises:
        InputError: matplotlib is missing.
    """
    require("matplotlib", "a report with pictures", "bench")


def png(result: dict[str, Any]) -> bytes:
    """Histograms, age over time, soak curves, as one PNG file.

    Raises:
        InputError: matplotlib is missing.
    """
    figure_module = require("matplotlib.figure", "a report with pictures", "bench")
    panels = _panels(result)
    figure = figure_module.Figure(figsize=(WIDTH_IN, HEIGHT_IN * max(1, len(panels))), layout="constrained")
    axes = figure.subplots(max(1, len(panels)), squeeze=False)
    for (title, x, y, draw), ax in zip(panels, axes[:, 0], strict=False):
        draw(ax)
        ax.set(title=title, xlabel=x, ylabel=y)
        ax.grid(alpha=0.3)
        if ax.get_legend_handles_labels()[0]:
            ax.legend(fontsize=7, ncols=2)
    if not panels:
        axes[0, 0].set(title="nothing was measured")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI)
    return stream.getvalue()


Panel = tuple[str, str, str, "Callable[[Any], None]"]


def _panels(result: dict[str, Any]) -> list[Panel]:
    made: list[Panel] = []
    if latency := result.get("latency"):
        made.append(_histograms("Engine alone", {"": latency["histogram"]}))
        made.append(_blocks(latency["blocks"]))
    live = {f"{run['input_hz']:g} Hz": run for run in result.get("loop", [])}
    if live:
        ages = {name: run["age_histogram"] for name, run in live.items()}
        made.append(_histograms("Age at publish", ages))
        made.append(_curves("Age at publish", "ms", {name: run["curve"] for name, run in live.items()}))
    if peak := result.get("peak"):
        made.append(_histograms("Period at peak throughput", {"": peak["period_histogram"]}))
    if soak := result.get("soak"):
        made.append(_curves("Age at publish, soak", "ms", {"": soak["curve"]}))
        made += [_sensors(kind, soak["sensors"]) for kind in soak["sensors"] if kind != "at_s"]
    if (cold := result.get("cold_start")) and any(cold.values()):
        made.append(_starts(cold))
    if against := result.get("against"):
        made.append(_turns(against))
    return made


def _histograms(title: str, found: dict[str, dict[str, list[float]]]) -> Panel:
    def draw(ax: Any) -> None:
        for name, histogram in found.items():
            if histogram["counts"]:
                ax.stairs(histogram["counts"], histogram["edges"], fill=len(found) == 1, label=name or None)

    return f"{title} (the last bin has whatever is longer)", "ms", "count", draw


def _blocks(blocks: list[dict[str, Any]]) -> Panel:
    def draw(ax: Any) -> None:
        at_s = [block["at_s"] for block in blocks]
        ax.plot(at_s, [min(block["times_ms"]) for block in blocks], ".-", label="fastest of the block")
        ax.plot(at_s, [max(block["times_ms"]) for block in blocks], ".", label="slowest of the block")

    return "Engine alone, block by block", "s", "ms", draw


def _curves(title: str, unit: str, found: dict[str, dict[str, list[float]]]) -> Panel:
    def draw(ax: Any) -> None:
        for name, curve in found.items():
            ax.plot(curve["at_s"], curve["ms"], lw=0.8, label=name or None)

    return title, "s", unit, draw


def _sensors(kind: str, sensors: dict[str, Any]) -> Panel:
    def draw(ax: Any) -> None:
        for name, values in sensors[kind].items():
            ax.plot(sensors["at_s"], [float("nan") if v is None else v for v in values], lw=1, label=name)

    name, _, unit = kind.rpartition("_")
    return f"Soak: {name}", "s", unit, draw


def _starts(cold: dict[str, Any]) -> Panel:
    def draw(ax: Any) -> None:
        for row, (state, found) in enumerate((s, f) for s, f in cold.items() if f):
            left = 0.0
            for index, (step, seconds) in enumerate(found["median_s"].items()):
                if step != "total":
                    label = step.replace("_", " ") if row == 0 else None
                    ax.barh(f"{state} cache", seconds, left=left, color=f"C{index}", label=label)
                    left += seconds

    return "Until the first perception", "s", "", draw


def _turns(against: dict[str, Any]) -> Panel:
    def draw(ax: Any) -> None:
        ax.plot(
            [turn["at_s"] for turn in against["turns"]], [turn["ratio"] for turn in against["turns"]], "."
        )
        ax.axhline(1.0, color="black", lw=0.8)

    return f"B/A turn by turn: {against['verdict']['text']}", "s", "B/A", draw
