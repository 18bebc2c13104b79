"""How near the engines are to PyTorch, and what the rewrites save."""

from __future__ import annotations

from typing import Any

from sections.common import command, load, table


def section() -> list[str]:
    """The lines."""
    parity = load("parity")
    if parity is None:
        return []
    rows = [
        row(graph, backend, run)
        for graph, entry in parity["models"].items()
        for backend, run in entry["runs"].items()
    ]
    rewrites = [
        [graph, e["nodes_as_published"], e["nodes"], e["gflop_as_published"], e["gflop"], e["model_mb"]]
        for graph, e in parity["models"].items()
    ]
    return [
        "## Parity with PyTorch fp32",
        "",
        "Mean over eight photographs (worst in brackets). The FP16 graph on a CPU shows what its types cost; on a GPU"
        " the parity check of `m2h-export` and the self-test measure it again.",
        *command(parity),
        *table(["graph", "backend", "depth error", "labels equal", "normals"], rows),
        "",
        "## Rewrites",
        "",
        *table(["graph", "nodes as published", "nodes", "GFLOP as published", "GFLOP", "file, MB"], rewrites),
        "",
    ]


def row(graph: str, backend: str, run: dict[str, Any]) -> list[str]:
    """A line of the table."""
    mean, worst = run["mean"], run["worst"]
    return [
        graph,
        backend,
        f"{100 * mean['depth_rel']:.4f} ({100 * worst['depth_rel']:.4f}) %",
        f"{100 * mean['label_agreement']:.3f} ({100 * worst['label_agreement']:.3f}) %",
        f"{mean['normal_deg']:.4f} ({worst['normal_deg']:.4f})°",
    ]
