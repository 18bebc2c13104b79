"""Multi-task gain over a baseline (Delta_MTL)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m2h_runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

HEADLINES = {
    "semantics": ("mIoU", 1),
    "human_parts": ("mIoU", 1),
    "saliency": ("maxF", 1),
    "depth": ("RMSE", -1),
    "normals": ("mean", -1),
    "edges": ("odsF", 1),
}
"""The one metric of each task that counts, and +1 where higher is better."""


def delta_mtl(scores: Mapping[str, float], baseline: Mapping[str, float]) -> float:
    """100/T · Σ s_i (M_i - B_i) / B_i in percent, over the tasks of `scores`.

    Args:
        scores: the headline metric (see `HEADLINES`) by task name.
        baseline: the same of the baseline, in the same units; more tasks than `scores` has do no harm.

    Raises:
        InputError: no task, one without a baseline, or a baseline of 0.
    """
    if not scores:
        raise InputError("multi-task gain: no task has a score; evaluate at least one")
    total = 0.0
    for task, score in scores.items():
        if task not in HEADLINES:
            raise InputError(f"multi-task gain: no task {task!r}; there are {', '.join(HEADLINES)}")
        if not (base := baseline.get(task)):
            raise InputError(
                f"multi-task gain: the baseline has no usable {task} ({base}); give one that has"
            )
        total += HEADLINES[task][1] * (score - base) / base
    return 100 * total / len(scores)
