"""One run of benchmarks/gpu.py on a CUDA machine."""

from __future__ import annotations

from typing import Any

from sections.common import at_least, at_most, load, machine, table

ENGINE_MS = {"m2h-small": 2.0, "m2h": 5.0}
TIMES_EAGER = 8.0
BASELINE = "eager-fp32"


def section() -> list[str]:
    """The lines; where no GPU has run it, that is said."""
    result = load("gpu")
    if result is None:
        return [
            "## On a GPU",
            "",
            "Not measured: no GPU has run this yet. [gpu-benchmark.md](gpu-benchmark.md) says how to run it on yours.",
            "",
        ]
    if result["device"] != "cuda":
        raise SystemExit("benchmarks/results/gpu.json is a trial on a CPU: it does not belong there")
    gpu, before, after = result["gpu"], result["gpu_before"], result.get("gpu_after", {})
    ended = "" if result["finished"] else " The run did not come to its end."
    lines = [
        "## On a GPU",
        "",
        f"{gpu.get('name', 'a GPU')} (compute capability {gpu.get('compute_capability', '?')}, driver"
        f" {gpu.get('driver', '?')}, power limit {gpu.get('power_limit_w', '?')} W), {machine(result)}"
        f" {result['size'][0]} × {result['size'][1]}, batch 1, {result['iterations']} frames each.{ended}",
        "",
        f"Temperature {span(before, after, 'temperature_c')} °C, power {span(before, after, 'power_w')} W, clock"
        f" {span(before, after, 'sm_mhz')} MHz, before and after. Measured ceilings: {ceilings(result['peaks'])}.",
        "",
        f"`{result['command']}`",
        "",
        "Engine: CUDA events around one inference, data on the device. With copies: from host memory to host memory, by"
        " the wall clock. Roofline: the time that the arithmetic or the memory traffic of our rewritten graph takes at"
        " the measured ceilings, whichever is longer, over the engine time; an engine that fuses moves less than the"
        " graph says.",
        "",
    ]
    for model, entry in result["models"].items():
        lines += network(model, entry)
    return lines


def network(model: str, entry: dict[str, Any]) -> list[str]:
    """A table of one network, the goals, and who is missing."""
    found = {n: row for n, row in entry["contestants"].items() if "missing" not in row}
    baseline = found.get(BASELINE)
    titles = [
        model,
        "engine p50 ms",
        "p99",
        "with copies p50 ms",
        "× eager fp32",
        "of the roofline",
        "differs",
    ]
    lines = [*table(titles, (contestant(name, row, baseline) for name, row in found.items())), ""]
    lines += goals(model, found, baseline)
    gone = [(n, row["missing"]) for n, row in entry["contestants"].items() if "missing" in row]
    return [*lines, *(f"- without {name}: {why}" for name, why in gone), ""]


def contestant(name: str, row: dict[str, Any], baseline: dict[str, Any] | None) -> list[str]:
    """A line of the table; a backend that does not show its engine alone is compared with its copies."""
    engine = row.get("engine_ms")
    kind = "engine_ms" if engine else "with_copies_ms"
    ratio = baseline[kind]["p50"] / row[kind]["p50"] if baseline else None
    proof = row["proof"]
    return [
        name,
        f"{engine['p50']:.3f}" if engine else "",
        f"{engine['p99']:.3f}" if engine else "",
        f"{row['with_copies_ms']['p50']:.3f}",
        f"{ratio:.1f}" if ratio else "",
        f"{100 * row['roofline_share']:.0f} %" if "roofline_share" in row else "",
        "; ".join(proof["problems"]) or f"within the limits of {proof['numerics']}",
    ]


def goals(model: str, found: dict[str, Any], baseline: dict[str, Any] | None) -> list[str]:
    """The fastest equal fp16 engine that is not PyTorch, against the goals."""
    engines = {
        name: row["engine_ms"]["p50"]
        for name, row in found.items()
        if "engine_ms" in row
        and row["computes_in"] == "fp16"
        and not row["proof"]["problems"]
        and "eager" not in name
        and "compile" not in name
    }
    if not engines or model not in ENGINE_MS:
        return []
    best = min(engines, key=engines.__getitem__)
    told = f"{engines[best]:.3f} ms (≤ {ENGINE_MS[model]:g}: {at_most(engines[best], ENGINE_MS[model])})"
    if baseline:
        ratio = baseline["engine_ms"]["p50"] / engines[best]
        told += f", {ratio:.1f} × eager fp32 (≥ {TIMES_EAGER:g}: {at_least(ratio, TIMES_EAGER)})"
    return [f"- `{model}`, fastest engine: {best}, {told}."]


def span(before: dict[str, str], after: dict[str, str], key: str) -> str:
    """Before and after."""
    return f"{before.get(key, '?')} – {after.get(key, '?')}"


def ceilings(peaks: dict[str, Any]) -> str:
    """TFLOP/s and GB/s in words."""
    if "missing" in peaks:
        return f"none ({peaks['missing']})"
    rates = [f"{rate:g} TFLOP/s {key.removesuffix('_tflops')}" for key, rate in peaks.items() if "tfl" in key]
    return f"{', '.join(rates)}, {peaks['copy_gb_s']:g} GB/s"
