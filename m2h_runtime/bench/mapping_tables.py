"""Maps judged by `bench.mapping`, as a table; several walks together as one."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from m2h_runtime.bench.tables import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HEADER = ("depth and labels", "alignment", "ME m", "SD m", "complete", "FPS", "rooms P / R", "objects P / R")
AVERAGED = ("fps", "me_m", "sd_m", "completeness", "graph_s")
PAPER_NOTE = (
    "For a feeling of the size: the M2H paper (Table V) has ME 0.11 m and SD 0.14 m, in a real building, with another "
    "network and another truth."
)


def mapping_table(title: str, results: Iterable[dict[str, Any]]) -> Table:
    """One row for each of `MappingResult.as_dict`."""
    return Table(title, HEADER, [_row(result) for result in results], (PAPER_NOTE,))


def pooled(walks: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Several walks with the same rows as one: means; precision and recall over all nodes together."""
    return [_together(rows) for rows in zip(*walks, strict=True)]


def _row(result: dict[str, Any]) -> tuple[str, ...]:
    return (
        result["name"],
        "yes" if result["aligned"] else "no",
        *(f"{result[key]:.3f}" for key in ("me_m", "sd_m")),
        f"{result['completeness']:.2f}",
        f"{result['fps']:.1f}",
        *(
            f"{result[layer]['precision']:.2f} / {result[layer]['recall']:.2f}"
            for layer in ("rooms", "objects")
        ),
    )


def _together(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    made = {key: statistics.mean(row[key] for row in rows) for key in AVERAGED}
    layers = {layer: _score([row[layer] for row in rows]) for layer in ("rooms", "objects")}
    return {
        **rows[0],
        **made,
        **{key: sum(row[key] for row in rows) for key in ("frames", "mapped")},
        **layers,
    }


def _score(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    total = {key: sum(score[key] for score in scores) for key in ("matched", "found", "true")}
    return {
        **total,
        "precision": total["matched"] / max(total["found"], 1),
        "recall": total["matched"] / max(total["true"], 1),
    }
