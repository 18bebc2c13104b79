"""What measuring and watching cost: m2h-bench's honesty, and the dashboard."""

from __future__ import annotations

from typing import Any

from sections.common import at_most, command, load, machine, table

METHODS = {"compare": "two runs, `--compare`", "against": "in turn, `--against`"}
LOST_PERCENT = {"nobody": 0.5, "one viewer": 5.0}


def section() -> list[str]:
    """The lines."""
    return [*honesty(), *dashboard()]


def honesty() -> list[str]:
    """How often m2h-bench gave the right verdict."""
    result = load("honesty")
    if result is None:
        return []
    cases = {"same": "with itself", "slowed": f"with itself made {100 * result['share']:g} % slower"}
    rows = []
    for key, found in result["summary"].items():
        method, case = key.split(", ")
        seen = ", ".join(f"{count} × {kind}" for kind, count in found["kinds"].items())
        verdict = "met" if found["met"] else "missed"
        rows.append([METHODS[method], cases[case], found["wanted"], seen, f"19 of 20: {verdict}"])
    return [
        "## Verdicts of m2h-bench",
        "",
        f"{machine(result)} {result['engine']} on {result['backend']}, {result['seconds']:g} s for each side of a"
        f" comparison, {next(iter(result['summary'].values()))['of']} repeats.",
        *command(result),
        *table(["comparison", "of the engine", "right", "verdicts", "goal"], rows),
        "",
    ]


def dashboard() -> list[str]:
    """What `--web` takes from m2h-run."""
    result = load("web_cost")
    if result is None:
        return []
    viewer = f"{result['viewer_updates_per_s']:g} updates and {result['viewer_kB_per_s']:g} kB a second"
    rows = [lost_row(way, fps, result) for way, fps in result["fps"].items()]
    return [
        "## What the dashboard costs",
        "",
        f"{machine(result)} `m2h-run` with {result['engine']} ({result['backend']}), as fast as it goes. The viewer shows"
        f" all panes and got {viewer}; it came and went within one run, in phases of {result['seconds_per_phase']:g} s, and"
        f" is compared with the phase beside. Without and with a dashboard that nobody watches: runs of"
        f" {result['frames_per_run']} frames in turn; their FPS are as noisy as the machine, so the goal is judged by the CPU"
        " time of the dashboard's own threads.",
        *command(result),
        *table(
            ["dashboard", "FPS", "lost, median", "95 % interval", "CPU time of its threads", "goal"], rows
        ),
        "",
    ]


def lost_row(way: str, fps: float, result: dict[str, Any]) -> list[str]:
    """A way of running, and the share of the frames that it loses."""
    lost = result.get(f"lost_percent, {way}")
    if lost is None:
        return [way, f"{fps:.1f}", "", "", "", ""]
    low, high = lost["interval"]
    cpu = result.get(f"cpu_percent, {way}")
    goal = LOST_PERCENT[way]
    return [
        way,
        f"{fps:.1f}",
        f"{lost['median']:.2f} %",
        "too few rounds" if low is None else f"{low:.2f} – {high:.2f} %",
        "" if cpu is None else f"{cpu:.2f} % of all cores",
        f"≤ {goal:g} %: {at_most(lost['median'] if cpu is None else cpu, goal)}",
    ]
