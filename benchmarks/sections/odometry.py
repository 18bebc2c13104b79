"""How far visual odometry is off on simulated walks, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sections.common import at_most, command, load, machine, table

if TYPE_CHECKING:
    from collections.abc import Iterator

GOAL_MS = 5.0
TITLES = (
    "walk",
    "depth",
    "IMU",
    "error per metre",
    "per 10 frames",
    "ATE",
    "drift",
    "within 2 sd",
    "lost",
    "CPU ms (p95)",
)


def section() -> list[str]:
    """The lines."""
    result = load("odometry")
    return [] if result is None else lines_of(result)


def lines_of(result: dict[str, Any]) -> list[str]:
    """Of a result file that is loaded."""
    height, width = result["size"]
    small = [row for row in result["rows"] if row["depth"] == "engine" and row["imu"] and not row["large"]]
    slowest = max(row["cpu_ms"] for row in small)
    large = [row["cpu_ms"] for row in result["rows"] if row["large"]]
    return [
        "## Visual odometry",
        "",
        f"Reserved simulated apartments, {width}x{height} at {result['fps']:g} FPS with blur and noise; depth of the demo engine"
        f" (`{result['engine']}`) beside the true one. Errors are medians over all stretches of a metre, or of ten frames; ATE is after an"
        " alignment without scale; drift is the distance at the end after joining place and heading at the start, by the"
        ' length of the way; "within 2 sd" is the share of frames whose distance to the truth is at most twice what the'
        " covariance states.",
        *command(result),
        machine(result),
        "",
        *table(list(TITLES), cells(result["rows"])),
        "",
        f"The median frame takes {slowest:.1f} ms of one core at {width}x{height} (goal {GOAL_MS:g} ms:"
        f" {at_most(slowest, GOAL_MS)}), {max(large):.1f} ms with pictures of 640x480.",
        "",
        f"With the engine's depth and the IMU, steps to frames whose quality is 0.5 or more are {_parts(small)}.",
        "",
    ]


def cells(rows: list[dict[str, Any]]) -> Iterator[list[str]]:
    """A line per walk and contestant; enlarged pictures are for the cost alone."""
    for row in rows:
        if not row["large"]:
            yield [
                f"{row['walk']}, {row['path_m']:.1f} m",
                row["depth"],
                "yes" if row["imu"] else "no",
                f"{row['per_metre_percent']:.1f} %, {row['per_metre_deg']:.2f}°",
                f"{row['per_10_frames_mm']:.1f} mm, {row['per_10_frames_deg']:.2f}°",
                f"{row['ate_m']:.3f} m",
                f"{row['drift_percent']:.1f} %",
                f"{100 * row['within_2_sd']:.0f} %",
                f"{100 * row['lost']:.1f} %",
                f"{row['cpu_ms']:.1f} ({row['cpu_p95_ms']:.1f})",
            ]


def _parts(rows: list[dict[str, Any]]) -> str:
    """How far good and doubtful frames are off."""
    good = ", ".join(_mm(row["good_frames_mm"]) for row in rows)
    doubtful = ", ".join(_mm(row["doubtful_frames_mm"]) for row in rows)
    return f"off by {good}, others by {doubtful} (walk by walk)"


def _mm(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} mm"
