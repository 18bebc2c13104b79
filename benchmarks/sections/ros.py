"""The streaming loop through real ROS 2."""

from __future__ import annotations

from typing import Any

from sections.common import at_most, load, machine

STREAM_GOALS = {"all outputs": (5.0, 15.0), "depth and labels": (2.0, None)}
"""p50 and p99 of the overhead, ms."""


def section() -> list[str]:
    """The lines."""
    stream = load("stream_ros")
    if stream is None:
        return []
    overhead, overload = stream["overhead"], stream["overload"]
    quiet = stream["overhead_quiet"]
    minutes = ", ".join(str(age) for age in overload["age_p50_by_minute_ms"])
    return [
        "## Through ROS 2",
        "",
        f"{machine(overhead)} rclpy over Fast DDS, camera, node and reader in processes of their own on these two cores."
        f" Overhead: from the engine's thread taking a 640x480 frame until its last message is published, minus the"
        f" engine's time ({overhead['frames_per_set']} frames a row, 8 a second). Bare: rclpy publishing the same"
        " messages, made beforehand, in a loop that does nothing else. The reader is strict (tests/ros/receiver.py):"
        " reliable, a queue of one, equal stamps, sizes, encodings, values in range.",
        "",
        "`python benchmarks/stream_ros.py overhead --rounds 3 --frames 80 --out benchmarks/results/stream_ros.json`",
        "",
        "| subscribed | p50 ms | p99 ms | bare rclpy, p50 ms | accepted by the reader | goal |",
        "| --- | --- | --- | --- | --- | --- |",
        *(overhead_row(name, row) for name, row in overhead["sets"].items()),
        *(overhead_row(f"{name}, quiet engine", row, name) for name, row in quiet["sets"].items()),
        "",
        "A quiet engine is ONNX Runtime on one thread: OpenVINO's threads keep turning for a while after each inference"
        " and take the second core from whoever publishes. An engine on a GPU does not:"
        " `--backend onnxruntime-cpu --threads 1 --name overhead_quiet`.",
        "",
        "Most of what is left is copying: a frame of all outputs is 8.6 MB, and rclpy and Fast DDS copy it three times."
        " What helped: freed memory is kept (a fault for each new page was a third of the time), all"
        " messages are made before the first is published (each one wakes readers, who want the CPU too), messages are"
        " bytes made by us (no conversion of message objects), images are halved before the last resize.",
        "",
        "Five minutes of 60 images a second from a camera process with default settings, into an engine that manages 15:",
        "",
        "`python benchmarks/stream_ros.py overload --minutes 5 --out benchmarks/results/stream_ros.json`",
        "",
        "| figure | measured | goal |",
        "| --- | --- | --- |",
        f"| age when published, p50 in each minute | {minutes} ms | does not grow |",
        f"| age when published, p99 (worst) | {overload['age_p99_ms']} ms ({overload['age_max_ms']}) "
        f"| ≤ {overload['age_p99_bound_ms']}: two engine times + 20 |",
        f"| growth of memory | {overload['memory_growth_mb']} MB | ≤ 5 |",
        f"| accepted by the reader | {100 * overload['accepted_share']:.2f} % | 100 % |",
        f"| perceived, replaced by a newer one | {overload['perceived']}, {overload['replaced']} of "
        f"{overload['captured']} | |",
        "",
    ]


def overhead_row(title: str, row: dict[str, Any], name: str = "") -> str:
    """One set of subscribed outputs."""
    goal = ""
    if (name or title) in STREAM_GOALS:
        p50, p99 = STREAM_GOALS[name or title]
        parts = [f"p50 ≤ {p50:g}: {at_most(row['p50_ms'], p50)}"]
        parts += [f"p99 ≤ {p99:g}: {at_most(row['p99_ms'], p99)}"] if p99 else []
        goal = ", ".join(parts)
    return (
        f"| {title} | {row['p50_ms']} | {row['p99_ms']} | {row['bare_p50_ms']} | {100 * row['accepted_share']:.1f} % "
        f"| {goal} |"
    )
