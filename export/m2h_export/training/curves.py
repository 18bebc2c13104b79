"""The curves of a training as a picture, from its metrics.jsonl."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SMOOTHING = 0.9


def draw_curves(metrics: Path, picture: Path) -> bool:
    """One panel per loss over the steps, as logged (pale) and smoothed, and the learning rate.

    Returns:
        Whether it was drawn: matplotlib is optional, and a short run may have logged nothing.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        return False
    if not metrics.is_file():
        return False
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    if not lines:
        return False
    names = list(dict.fromkeys(name for line in lines for name in line["losses"]))
    series = {
        name: [(line["step"], line["losses"][name]) for line in lines if name in line["losses"]]
        for name in names
    }
    series["learning rate"] = [(line["step"], line["lr"]) for line in lines]
    with mpl.rc_context({"font.size": 8}):
        figure = Figure(figsize=(2.6 * len(series), 2.2), layout="constrained")
        for axes, (name, points) in zip(
            figure.subplots(1, len(series), squeeze=False)[0], series.items(), strict=True
        ):
            steps, values = zip(*points, strict=True)
            axes.plot(steps, values, color="#9bb7d4")
            if name != "learning rate":
                axes.plot(steps, _smoothed(values), color="#1f4e79")
            axes.set_title(name.replace("_", " "))
            axes.set_xlabel("step")
            axes.set_ylim(0, 1.1 * max(values))
            axes.grid(alpha=0.3)
        figure.savefig(picture, dpi=110)
    return True


def _smoothed(values: tuple[float, ...]) -> list[float]:
    """Exponential mean without the bias of its start."""
    total = weight = 0.0
    out = []
    for value in values:
        total = SMOOTHING * total + (1 - SMOOTHING) * value
        weight = SMOOTHING * weight + (1 - SMOOTHING)
        out.append(total / weight)
    return out
