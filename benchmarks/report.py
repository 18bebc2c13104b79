"""docs/performance.md from the result files, so that no number there is typed by hand.

python benchmarks/report.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"

TARGETS = {  # ratios to PyTorch eager that this project set itself
    ("m2h-small", "onnxruntime-cpu"): 5.0,
    ("m2h-small", "openvino"): 8.0,
    ("m2h-small", "openvino-bf16"): 14.0,
    ("m2h", "onnxruntime-cpu"): 1.8,
    ("m2h", "openvino-bf16"): 4.5,
}


def page() -> str:
    """The whole page."""
    speed, loop, parity, stream = (load(name) for name in ("cpu_speed", "loop_speed", "parity", "stream_ros"))
    return "\n".join(
        [
            "# Performance",
            "",
            "Made by `python benchmarks/report.py` from `benchmarks/results/*.json`. Machines are noisy and this one is"
            " shared: it has been seen to change speed by a factor of 1.6 within seconds. So ratios within one run mean"
            " something, milliseconds less. All weights are random (seed 0): speed and parity, no accuracy.",
            "",
            "## Engines against plain PyTorch",
            "",
            f"{machine(speed)} {speed['threads']} threads, 224 × 224, batch 1, fp32 weights. Eager is the network as"
            " published. Contestants take turns, each in its own process; the ratio is the median over the turns, with"
            " the smallest and largest.",
            "",
            f"`{speed['command']}`",
            "",
            "| network | engine | ms | × eager | from – to | goal |",
            "| --- | --- | --- | --- | --- | --- |",
            *(
                speed_row(model, name, row)
                for model, rows in speed["models"].items()
                for name, row in rows.items()
            ),
            "",
            roofline(speed, parity, load("peak")),
            "",
            "## Through m2h-run",
            "",
            f"{machine(loop)} A {loop['clip']} clip, decoded, resized and inferred, every frame, nothing recorded."
            " First perception: from the start of the command, with a cached choice and a cached model; it holds the"
            " self-test and the first frame, so for `m2h`, whose frame is 2.2 s here, it is 5.5 s.",
            "",
            f"`{loop['command']}`",
            "",
            "| network, backend | FPS | in each turn | engine, p50 ms | engine's share | first perception, s (worst) |",
            "| --- | --- | --- | --- | --- | --- |",
            *(loop_row(name, row) for name, row in loop["runs"].items()),
            "",
            *streaming(stream),
            "## Parity with PyTorch fp32",
            "",
            "Mean over eight photographs (worst in brackets). The FP16 graph on a CPU shows what its types cost; on a GPU"
            " the parity check of `m2h-export` and the self-test measure it again.",
            "",
            f"`{parity['command']}`",
            "",
            "| graph | backend | depth error | labels equal | normals |",
            "| --- | --- | --- | --- | --- |",
            *(
                parity_row(graph, backend, run)
                for graph, entry in parity["models"].items()
                for backend, run in entry["runs"].items()
            ),
            "",
            "## Rewrites",
            "",
            "| graph | nodes as published | nodes | GFLOP as published | GFLOP | file, MB |",
            "| --- | --- | --- | --- | --- | --- |",
            *(
                f"| {graph} | {e['nodes_as_published']} | {e['nodes']} | {e['gflop_as_published']} | {e['gflop']} "
                f"| {e['model_mb']} |"
                for graph, e in parity["models"].items()
            ),
            "",
        ]
    )


STREAM_GOALS = {"all outputs": (5.0, 15.0), "depth and labels": (2.0, None)}
"""p50 and p99 of the overhead, ms."""


def streaming(stream: dict[str, Any]) -> list[str]:
    """The section on ROS 2."""
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
        parts = [f"p50 ≤ {p50:g}: {verdict(row['p50_ms'], p50)}"]
        parts += [f"p99 ≤ {p99:g}: {verdict(row['p99_ms'], p99)}"] if p99 else []
        goal = ", ".join(parts)
    return (
        f"| {title} | {row['p50_ms']} | {row['p99_ms']} | {row['bare_p50_ms']} | {100 * row['accepted_share']:.1f} % "
        f"| {goal} |"
    )


def verdict(value: float, goal: float) -> str:
    """Met or missed."""
    return "met" if value <= goal else "missed"


def load(name: str) -> dict[str, Any]:
    """One result file."""
    loaded: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return loaded


def machine(result: dict[str, Any]) -> str:
    """The machine in a sentence."""
    facts = result["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in facts["packages"].items())
    return f"{facts['cores']} cores of {facts['cpu']} ({', '.join(facts['features'])}), {facts['date']}; {versions}."


def roofline(speed: dict[str, Any], parity: dict[str, Any], peak: dict[str, Any]) -> str:
    """How near m2h is to the arithmetic peak: what is left can only come from fewer operations."""
    rows, work = speed["models"]["m2h"], parity["models"]["m2h fp32"]["gflop"]
    rates = {
        name: work / rows[name]["median_ms"] * 1e3
        for name in ("onnxruntime-cpu", "openvino", "openvino-bf16")
    }
    return (
        f"`m2h` is bound by arithmetic: {work:.0f} GFLOP run at {rates['onnxruntime-cpu']:.0f} (ONNX Runtime), "
        f"{rates['openvino']:.0f} (OpenVINO) and {rates['openvino-bf16']:.0f} GFLOP/s (bf16), where a plain matrix product "
        f"reaches {peak['fp32_gflops']:.0f} in fp32 and {peak['bf16_gflops']:.0f} in bf16 (`{peak['command']}`). Its goals were "
        "set on a CPU where the same rewrites ran at 390 GFLOP/s in fp32 and 850 in bf16."
    )


def speed_row(model: str, name: str, row: dict[str, Any]) -> str:
    """A line of the first table."""
    goal = TARGETS.get((model, name))
    verdict = "" if goal is None else f"≥ {goal:g}: {'met' if row['ratio'] >= goal else 'missed'}"
    return (
        f"| {model} | {name} | {row['median_ms']:.1f} | {row['ratio']:.1f} "
        f"| {row['ratio_min']:.1f} – {row['ratio_max']:.1f} | {verdict} |"
    )


def loop_row(name: str, row: dict[str, Any]) -> str:
    """A line of the second table."""
    turns = ", ".join(f"{fps:.0f}" for fps in row["fps_turns"])
    return (
        f"| {name} | {row['fps']:.1f} | {turns} | {row['engine_p50_ms']:.1f} | {100 * row['engine_share']:.0f} % "
        f"| {row['first_perception_s']:.2f} ({row['first_perception_s_max']:.2f}) |"
    )


def parity_row(graph: str, backend: str, run: dict[str, Any]) -> str:
    """A line of the third table."""
    mean, worst = run["mean"], run["worst"]
    return (
        f"| {graph} | {backend} | {100 * mean['depth_rel']:.4f} ({100 * worst['depth_rel']:.4f}) % "
        f"| {100 * mean['label_agreement']:.3f} ({100 * worst['label_agreement']:.3f}) % "
        f"| {mean['normal_deg']:.4f} ({worst['normal_deg']:.4f})° |"
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
