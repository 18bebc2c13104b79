"""Latency against the input's size and against threads."""

from __future__ import annotations

from sections.common import command, load, machine, table


def section() -> list[str]:
    """The lines."""
    return [*against_size(), *against_threads()]


def against_size() -> list[str]:
    """One row per network and backend, a column per size, and the line through them."""
    result = load("input_size")
    if result is None:
        return []
    lines = [
        "## Against input size",
        "",
        f"{machine(result)} {result['threads']} threads. Milliseconds, and a line through them: a fixed part and what"
        " a megapixel costs. Attention grows faster than that, which shows in r² and at the largest size.",
        *command(result),
    ]
    for model, backends in result["models"].items():
        sizes = list(next(iter(backends.values()))["sizes"])
        rows = [
            [
                f"{model} {name}",
                *(f"{found['sizes'][size]['median_ms']:.1f}" for size in sizes),
                f"{found['line']['fixed_ms']:.1f}",
                f"{found['line']['ms_per_megapixel']:.0f}",
                f"{found['line']['r2']:.3f}",
            ]
            for name, found in backends.items()
        ]
        lines += [*table(["ms", *sizes, "fixed", "per megapixel", "r²"], rows), ""]
    return lines


def against_threads() -> list[str]:
    """One row per network, backend and thread count."""
    result = load("threads")
    if result is None:
        return []
    rows = [
        [
            f"{model} {name}",
            count,
            f"{row['median_ms']:.1f}",
            f"{row['ratio']:.2f}",
            f"{row['ratio_min']:.2f} – {row['ratio_max']:.2f}",
        ]
        for model, backends in result["models"].items()
        for name, counts in backends.items()
        for count, row in counts.items()
    ]
    return [
        "## Against threads",
        "",
        machine(result),
        *command(result),
        *table(["network, backend", "threads", "ms", "× one thread", "from – to"], rows),
        "",
    ]
