"""The whole loop through m2h-run."""

from __future__ import annotations

from typing import Any

from sections.common import at_most, command, load, machine, table

FIRST_PERCEPTION_S = {"m2h-small auto": 1.5}


def section() -> list[str]:
    """The lines."""
    loop = load("loop_speed")
    if loop is None:
        return []
    titles = ["network, backend", "FPS", "in each turn", "engine, p50 ms", "engine's share"]
    return [
        "## Through m2h-run",
        "",
        f"{machine(loop)} A {loop['clip']} clip, decoded, resized and inferred, every frame, nothing recorded."
        " First perception: from the start of the command, with a cached choice and a cached model; it holds the"
        " self-test and the first frame.",
        *command(loop),
        *table(
            [*titles, "first perception, s (worst)", "goal"],
            (row(name, entry) for name, entry in loop["runs"].items()),
        ),
        "",
    ]


def row(name: str, entry: dict[str, Any]) -> list[str]:
    """A line of the table."""
    goal = FIRST_PERCEPTION_S.get(name)
    return [
        name,
        f"{entry['fps']:.1f}",
        ", ".join(f"{fps:.0f}" for fps in entry["fps_turns"]),
        f"{entry['engine_p50_ms']:.1f}",
        f"{100 * entry['engine_share']:.0f} %",
        f"{entry['first_perception_s']:.2f} ({entry['first_perception_s_max']:.2f})",
        "" if goal is None else f"≤ {goal:g} s: {at_most(entry['first_perception_s'], goal)}",
    ]
