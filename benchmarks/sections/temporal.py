"""What temporal alignment does to flicker and accuracy, and what it costs."""

from __future__ import annotations

from typing import Any

from sections.common import at_least, at_most, command, load, machine, table

LEAST_CUT, MOST_MS = 0.4, 6.0
CONTROL = "(control)"
TITLES = [
    "poses",
    "depth flicker, mm",
    "cut",
    "label flips, %",
    "cut",
    "depth RMSE, m",
    "mIoU, %",
    "pixels, %",
    "goal",
]


def section() -> list[str]:
    """The lines."""
    result = load("temporal")
    if result is None:
        return []
    noise = result["odometry"]
    return [
        "## Temporal alignment",
        "",
        f"{machine(result)} {result['frames']} frames at {result['fps']:g} a second of each of the simulated walks"
        f" {', '.join(result['walks'])}, perceived by `{result['engine']['folder']}` and then aligned; before → after, over the"
        " same pixels. Flicker: median |change of the depth's error| from frame to frame at corresponding points, which the true"
        " geometry gives; flips: share of these points whose label changed. Odometry: each step is off by"
        f" {noise['rotation_deg']:g}°, {1000 * noise['position_m']:g} mm and {100 * noise['scale']:g} % of its length"
        " (standard deviations), and the errors add up.",
        *command(result),
        *table(TITLES, (row(name, pair) for name, pair in result["variants"].items())),
        "",
        *table(
            ["size", "ms a frame, one core", "worst frame", "goal"],
            (timing(size, entry) for size, entry in result["thread_time"].items()),
        ),
        "",
    ]


def row(name: str, pair: dict[str, Any]) -> list[str]:
    """A line of the first table."""
    before, after = pair["engine"], pair["aligned"]
    cuts = [1 - after[key] / before[key] for key in ("flicker_mm", "flips")]
    kept = after["rmse_m"] <= before["rmse_m"]
    goal = f"{100 * LEAST_CUT:.0f} % each: {at_least(min(cuts), LEAST_CUT)}; RMSE no higher: {'met' if kept else 'missed'}"
    return [
        name,
        f"{before['flicker_mm']:.1f} → {after['flicker_mm']:.1f}",
        f"{100 * cuts[0]:.0f} %",
        f"{100 * before['flips']:.2f} → {100 * after['flips']:.2f}",
        f"{100 * cuts[1]:.0f} %",
        f"{before['rmse_m']:.3f} → {after['rmse_m']:.3f}",
        f"{100 * before['miou']:.1f} → {100 * after['miou']:.1f}",
        f"{100 * after['pixels']:.1f}",
        "" if name.endswith(CONTROL) else goal,
    ]


def timing(size: str, entry: dict[str, float]) -> list[str]:
    """A line of the second table."""
    goal = f"≤ {MOST_MS:g} ms: {at_most(entry['median_ms'], MOST_MS)}" if size == "320x240" else ""
    return [size, f"{entry['median_ms']:.2f}", f"{entry['worst_ms']:.2f}", goal]
