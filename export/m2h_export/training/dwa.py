"""Dynamic weight averaging (arXiv 1803.10704), which M2H balances its tasks with (section III-C, eq. 18)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class DynamicWeightAverage:
    """Weights by how fast each task's loss falls: w_i = N·softmax_i(r / T), r_i = L_i(t-1) / L_i(t-2).

    L_i(t) is the mean loss of task i over period t (an epoch, or a number of steps). The first two periods have no
    r yet, so their weights are 1.
    """

    def __init__(self, tasks: Sequence[str], temperature: float = 2.0) -> None:
        self.tasks, self.temperature = tuple(tasks), temperature
        self.weights = dict.fromkeys(self.tasks, 1.0)
        self._history: list[dict[str, float]] = []  # the last two periods' means
        self._sums = dict.fromkeys(self.tasks, 0.0)
        self._count = 0

    def add(self, losses: Mapping[str, float]) -> None:
        """Count one step's losses, equal on all processes, into the running period."""
        for task in self.tasks:
            self._sums[task] += losses[task]
        self._count += 1

    def end_period(self) -> None:
        """Close the running period and set the weights of the next one."""
        means = {task: total / self._count for task, total in self._sums.items()}
        self._history = [*self._history[-1:], means]
        self._sums, self._count = dict.fromkeys(self.tasks, 0.0), 0
        if len(self._history) == 2:
            before, last = self._history
            # A task that was already at 0 falls no further: ratio 1.
            ratios = {task: last[task] / before[task] if before[task] > 0 else 1.0 for task in self.tasks}
            self.weights = softmax_weights(ratios, self.temperature)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next weights depend on."""
        return {
            "weights": dict(self.weights),
            "history": [dict(means) for means in self._history],
            "sums": dict(self._sums),
            "count": self._count,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict()`."""
        self.weights = dict(state["weights"])
        self._history = [dict(means) for means in state["history"]]
        self._sums, self._count = dict(state["sums"]), state["count"]


def softmax_weights(ratios: Mapping[str, float], temperature: float) -> dict[str, float]:
    """N·softmax(r / T) (eq. 18); the weights sum to the number of tasks."""
    top = max(ratios.values())
    powers = {task: math.exp((ratio - top) / temperature) for task, ratio in ratios.items()}
    total = sum(powers.values())
    return {task: len(ratios) * power / total for task, power in powers.items()}
