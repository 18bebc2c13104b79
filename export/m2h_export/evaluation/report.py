"""Results as tables and files, and the gain over another results file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from m2h_export.evaluation.gain import delta_mtl
from m2h_runtime.errors import InputError
from m2h_runtime.files import reason, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.table import Table

RESULTS = "results.json"
_PERCENT = {
    *("mIoU", "pixel_accuracy", "mean_class_accuracy", "delta1", "delta2", "delta3"),
    *("odsF", "oisF", "AP", "maxF"),
}
_DEGREES = {("normals", name) for name in ("mean", "median", "RMSE")}
_METRES = {("depth", "RMSE"), ("depth", "SqRel")}


def table(result: dict[str, Any]) -> Table:
    """A rich table of an evaluator's result: fractions in percent, with units."""
    from rich.table import Table

    made = Table("task", "metric", "value", "unit", title=f"{result['images']} pictures")
    made.columns[2].justify = "right"
    for task, metric, value, unit in _rows(result):
        made.add_row(task, metric, value, unit)
    return made


def _rows(result: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    for task, metrics in result["tasks"].items():
        for metric, value in metrics.items():
            yield (task, metric, *_told(task, metric, value))
    for metric, value in result.get("consistency", {}).items():
        yield ("depth and normals", f"{metric} angle", *_told("normals", metric, value))
    if "gain" in result:
        gain = result["gain"]
        yield ("all", f"gain over {gain['baseline']}", f"{gain['delta_mtl']:+.2f}", "%")


def _told(task: str, metric: str, value: float | None) -> tuple[str, str]:
    if value is None:
        return "-", ""
    if metric in _PERCENT or metric.startswith("within_"):
        return f"{100 * value:.2f}", "%"
    unit = "deg" if (task, metric) in _DEGREES else "m" if (task, metric) in _METRES else ""
    return f"{value:.4f}" if task == "depth" else f"{value:.2f}", unit


def write_results(folder: Path, result: dict[str, Any]) -> Path:
    """Write `results.json` into an existing folder and return its path.

    Raises:
        InputError: it cannot be written.
    """
    path = folder / RESULTS
    write_atomically(path, (json.dumps(result, indent=2, allow_nan=False) + "\n").encode())
    return path


def read_headlines(path: Path) -> dict[str, float]:
    """The headline metric per task of a results file.

    Raises:
        InputError: it cannot be read, or is no results file.
    """
    try:
        headlines = json.loads(path.read_text(encoding="utf-8"))["headlines"]
        return {str(task): float(value) for task, value in headlines.items() if value is not None}
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({reason(error)}); give a {RESULTS} of m2h-eval") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a results file; give a {RESULTS} that m2h-eval wrote") from error


def gain_over(result: dict[str, Any], path: Path, baseline: dict[str, float]) -> dict[str, Any]:
    """Multi-task gain of a result over a baseline, on the tasks that both have.

    Raises:
        InputError: they share no task.
    """
    scores = {t: v for t, v in result["headlines"].items() if v is not None and t in baseline}
    if not scores:
        raise InputError(f"{path}: shares no evaluated task with this run; give a baseline of the same data")
    return {"baseline": str(path), "tasks": list(scores), "delta_mtl": delta_mtl(scores, baseline)}
