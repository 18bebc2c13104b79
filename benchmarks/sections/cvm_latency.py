"""A frame of a cross-view stream against the papers' two-view scheme."""

from __future__ import annotations

from typing import Any

from sections.common import at_most, command, load, machine, table

GOAL = 0.62


def section() -> list[str]:
    """The lines."""
    result = load("cvm_latency")
    if result is None:
        return []
    papers = result["papers"]
    rows = [
        row(model, name, told)
        for model, found in result["models"].items()
        for name, told in found["rows"].items()
    ]
    titles = [
        "network",
        "who",
        "stream",
        "two views",
        "ratio",
        "from – to",
        "goal",
        "encoder",
        "CvM",
        "heads",
    ]
    return [
        "## Cross-view stream",
        "",
        f"{machine(result)} {result['threads']} threads, batch 1. Milliseconds. `stream` is one frame with its neighbour's"
        " features handed in; `two views` is the papers' scheme, both pictures through everything, with the same rewrites;"
        " the ratio is the median over the rounds. Encoder, CvM and heads are those of the stream, each run alone:"
        " one view through encoder, CNN and heads, two through the multi-view transformer.",
        *command(result),
        *table(titles, rows),
        "",
        f"The papers give {papers['encoder_ms']} ms for the encoder and {papers['cvm_ms']} ms for CvM, `cvm-vitl` at"
        f" {papers['size'][0]} × {papers['size'][1]}, for **two** views and on **their GPU**; the rows above are one frame"
        " of a stream on this CPU. So only the shares compare: "
        f"CvM is {100 * papers['cvm_ms'] / papers['encoder_ms']:.0f} % of their encoder{shares(result)}.",
        "",
        *arithmetic(result),
    ]


def row(model: str, name: str, told: dict[str, Any]) -> list[str]:
    """A line of the table."""
    ms = {what: f"{value:.1f}" for what, value in told["median_ms"].items()}
    return [
        model,
        name,
        ms["stream"],
        ms["two-views"],
        f"{told['ratio']:.2f}",
        f"{told['ratio_min']:.2f} – {told['ratio_max']:.2f}",
        f"≤ {GOAL}: {at_most(told['ratio'], GOAL)}",
        ms["encoder"],
        ms["cvm"],
        ms["heads"],
    ]


def shares(result: dict[str, Any]) -> str:
    """What CvM is of our encoder, of the papers' network."""
    found = result["models"].get(result["papers"]["network"])
    if found is None:
        return ""
    told = [
        f"{100 * row['median_ms']['cvm'] / row['median_ms']['encoder']:.0f} % ({name})"
        for name, row in found["rows"].items()
    ]
    return f", of ours, one frame against one picture, {', '.join(told)}"


def arithmetic(result: dict[str, Any]) -> list[str]:
    """A line per network: GFLOP of the graphs, which no machine's noise moves."""
    return [
        *(
            f"- `{model}`: {found['gflop']['stream']:.1f} GFLOP a frame, {found['gflop']['two-views']:.1f} for two views,"
            f" ratio {found['gflop']['stream'] / found['gflop']['two-views']:.3f}; encoder {found['gflop']['encoder']:.1f},"
            f" CvM {found['gflop']['cvm']:.1f}, heads {found['gflop']['heads']:.1f}."
            for model, found in result["models"].items()
        ),
        "",
    ]
