"""Our engines against PyTorch and against the graph as published."""

from __future__ import annotations

from statistics import median
from typing import Any

from sections.common import at_least, command, load, machine, table

BF16 = "openvino-bf16"
TIMES_EAGER = {  # goals that this project set itself
    ("m2h-small", "onnxruntime-cpu"): 5.0,
    ("m2h-small", "openvino"): 8.0,
    ("m2h-small", BF16): 18.0,
    ("m2h-small", f"int8-{BF16}"): 18.0,
    ("m2h", "onnxruntime-cpu"): 1.8,
    ("m2h", BF16): 5.5,
    ("m2h", f"int8-{BF16}"): 5.5,
}
TIMES_PUBLISHED = {"m2h-small": 1.7}
FPS = {"m2h-nano": 60.0}
MEANINGS = """\
Names: `eager` is the network as published, fp32, as PyTorch has it; `compile` is `torch.compile`; `rewritten` our own
torch module of the same weights; `bf16` means bf16 weights, `autocast` fp32 weights under `torch.autocast`;
`published-…` is the graph exported without our rewrites, in the same runtime as our engine of that name; `int8-…` our
engine with `--precision int8`: its large layers in int8, the others as that backend computes; its share is of the bf16
peak, which int8 may exceed."""


def section() -> list[str]:
    """The lines."""
    speed = load("cpu_speed")
    if speed is None:
        return []
    rows = [
        row(model, name, entry, speed)
        for model, entries in speed["models"].items()
        for name, entry in entries.items()
    ]
    titles = ["network", "who", "ms", "× eager", "from – to", "GFLOP/s", "of the peak", "differs", "goal"]
    return [
        "## Engines against PyTorch",
        "",
        f"{machine(speed)} {speed['threads']} threads, {speed['size'][0]} × {speed['size'][1]}, batch 1. Each contestant's"
        " five outputs were compared with PyTorch fp32 first. Then they took turns, each in its own process; × eager is"
        " the median over the rounds of the ratio within a round, with the smallest and largest.",
        *command(speed),
        *MEANINGS.splitlines(),
        "",
        *table(titles, rows),
        "",
        *others(speed),
        *missing(speed),
    ]


def row(model: str, name: str, entry: dict[str, Any], speed: dict[str, Any]) -> list[str]:
    """A line of the table."""
    goal = TIMES_EAGER.get((model, name))
    rate, share = rate_of(model, name, entry, speed)
    return [
        model,
        name,
        f"{entry['median_ms']:.1f}",
        f"{entry['ratio']:.1f}",
        f"{entry['ratio_min']:.1f} – {entry['ratio_max']:.1f}",
        f"{rate:.0f}",
        f"{100 * share:.0f} %",
        differs(entry.get("proof")),
        "" if goal is None else f"≥ {goal:g}: {at_least(entry['ratio'], goal)}",
    ]


def differs(proof: dict[str, Any] | None) -> str:
    """Within the limits of its precision, or what breaks them."""
    if proof is None:
        return ""
    return "; ".join(proof["problems"]) or f"within the limits of {proof['numerics']}"


def rate_of(model: str, name: str, entry: dict[str, Any], speed: dict[str, Any]) -> tuple[float, float]:
    """GFLOP/s of the graph that ran, and its share of what a plain matrix product reached between the rounds."""
    gflop = entry.get("gflop")
    if gflop is None:
        graph = (load("parity") or {})["models"][f"{model} fp32"]
        gflop = graph["gflop_as_published" if name == "eager" else "gflop"]
    kind = "bf16" if name.endswith(("bf16", "autocast")) else "fp32"
    peak = speed.get("peaks", {}).get(model, {}).get(kind) or (load("peak") or {})[f"{kind}_gflops"]
    rate = gflop / entry["median_ms"] * 1e3
    return rate, rate / peak


def times(entries: dict[str, Any], slow: str, fast: str) -> float:
    """How many times as fast, the median of the ratios within the rounds."""
    pairs = zip(entries[slow]["turns_ms"], entries[fast]["turns_ms"], strict=True)
    return median(before / after for before, after in pairs)


def others(speed: dict[str, Any]) -> list[str]:
    """The goals that are no ratio to eager, and the peak."""
    lines = []
    for model, entries in speed["models"].items():
        if BF16 in entries and f"published-{BF16}" in entries:
            ratio, goal = times(entries, f"published-{BF16}", BF16), TIMES_PUBLISHED.get(model)
            told = f" (≥ {goal:g}: {at_least(ratio, goal)})" if goal else ""
            lines.append(
                f"- `{model}`: {ratio:.2f} times as fast as the published graph in the same {BF16}{told}."
            )
        if model in FPS:
            best = min(entries, key=lambda name: float(entries[name]["median_ms"]))
            fps = 1e3 / entries[best]["median_ms"]
            lines.append(
                f"- `{model}`: {fps:.1f} frames a second, the engine alone, on {best}"
                f" (≥ {FPS[model]:g}: {at_least(fps, FPS[model])})."
            )
    for model, peak in speed.get("peaks", {}).items():
        lines.append(f"- Peak while `{model}` ran: {peak['fp32']} GFLOP/s in fp32, {peak['bf16']} in bf16.")
    if not speed.get("peaks") and (peak := load("peak")) is not None:
        lines.append(
            f"- Peak: {peak['fp32_gflops']} GFLOP/s in fp32, {peak['bf16_gflops']} in bf16 (`{peak['command']}`)."
        )
    return [*lines, ""]


def missing(speed: dict[str, Any]) -> list[str]:
    """Who could not take part, and why."""
    lines = [
        f"- `{model}` without {name}: {why}"
        for model, reasons in speed.get("missing", {}).items()
        for name, why in reasons.items()
    ]
    ready = [
        f"{entry['proof']['ready_s']:.0f} s for `{model}` ({name})"
        for model, entries in speed["models"].items()
        for name, entry in entries.items()
        if "compile" in name
    ]
    if ready:
        lines.append(f"- `torch.compile` before its first frame, cache empty: {', '.join(ready)}.")
    return [*lines, ""] if lines else []
