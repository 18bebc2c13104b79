"""docs/images/performance.png: times eager per network and engine, latency over pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sections.common import load

if TYPE_CHECKING:
    from pathlib import Path

SHOWN = {
    "compile": "#b8b8b8",
    "compile-bf16": "#8c8c8c",
    "published-openvino-bf16": "#c9b458",
    "onnxruntime-cpu": "#7fb3d5",
    "openvino": "#2e86c1",
    "openvino-bf16": "#1b4f72",
}
"""In the order of the bars; the rest is in the table."""


def draw(path: Path) -> list[str]:
    """Draw what has been measured; the line that shows the picture, none if nothing has been.

    Raises:
        SystemExit: matplotlib is missing.
    """
    speed, sizes = load("cpu_speed"), load("input_size")
    if speed is None:
        return []
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SystemExit("matplotlib is missing: pip install 'm2h-runtime[train]'") from error
    figure = Figure(figsize=(11, 4) if sizes else (6, 4), layout="constrained")
    axes = figure.subplots(1, 2 if sizes else 1, squeeze=False)[0]
    bars(axes[0], speed)
    if sizes:
        curves(axes[1], sizes)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return [f"![Times as fast as PyTorch eager, and latency over pixels](images/{path.name})", ""]


def bars(axes: Any, speed: dict[str, Any]) -> None:
    """How many times as fast as eager, from the slowest to the fastest round."""
    models = list(speed["models"])
    shown = [name for name in SHOWN if any(name in speed["models"][model] for model in models)]
    width = 0.8 / len(shown)
    for place, name in enumerate(shown):
        there = [(i, speed["models"][m][name]) for i, m in enumerate(models) if name in speed["models"][m]]
        ratios = [row["ratio"] for _, row in there]
        spread = [
            [row["ratio"] - row["ratio_min"] for _, row in there],
            [row["ratio_max"] - row["ratio"] for _, row in there],
        ]
        at = [i - 0.4 + (place + 0.5) * width for i, _ in there]
        axes.bar(at, ratios, width, yerr=spread, label=name, color=SHOWN[name], error_kw={"elinewidth": 0.8})
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_xticks(range(len(models)), models)
    axes.set_ylabel("× PyTorch eager")
    axes.set_title(f"{speed['size'][0]} × {speed['size'][1]}, {speed['threads']} threads")
    axes.set_ylim(top=1.3 * axes.get_ylim()[1])  # room for the names
    axes.legend(fontsize=7, frameon=False, loc="upper left", ncols=2)
    axes.spines[["top", "right"]].set_visible(False)


def curves(axes: Any, sizes: dict[str, Any]) -> None:
    """Milliseconds over megapixels on logarithmic axes, a line per network and backend."""
    for dash, (model, backends) in zip(("-", "--", ":"), sizes["models"].items(), strict=False):
        for name, found in backends.items():
            rows = sorted(found["sizes"].values(), key=lambda row: int(row["pixels"]))
            axes.plot(
                [row["pixels"] / 1e6 for row in rows],
                [row["median_ms"] for row in rows],
                dash,
                marker="o",
                markersize=3,
                color=SHOWN[name],
                label=f"{model} {name}",
            )
    axes.set(xscale="log", yscale="log", xlabel="megapixels", ylabel="ms", title="latency over input size")
    shown = sorted(
        {row["pixels"] for b in sizes["models"].values() for f in b.values() for row in f["sizes"].values()}
    )
    axes.set_xticks([pixels / 1e6 for pixels in shown], [f"{pixels / 1e6:.3f}" for pixels in shown])
    axes.minorticks_off()
    axes.set_yticks(ticks := [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000], [str(ms) for ms in ticks])
    times = [ms for line in axes.get_lines() for ms in line.get_ydata()]
    axes.set_ylim(min(times) / 1.5, 2.5 * max(times))
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=7, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
