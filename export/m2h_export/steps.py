"""What a person sees while an engine is made: phases with a spinner or a bar, notes, and the parity table."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console

    from m2h_runtime.engine.manifest import ParityRun


class Steps:
    """Reports on a console; a terminal gets moving bars, a log one line per phase."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar = console.is_terminal

    def say(self, note: str) -> None:
        """One line that stays."""
        self.console.print(note, highlight=False, soft_wrap=True, markup=False)

    @contextmanager
    def phase(self, name: str, total: int | None = None) -> Iterator[Callable[[], None]]:
        """A long step; the block is handed a function to call as each of `total` parts is done."""
        started = time.monotonic()
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.console, transient=True, disable=not self.bar) as progress:
            task = progress.add_task(name, total=total)
            yield lambda: progress.advance(task)
        self.say(f"{name}: {time.monotonic() - started:.1f} s")

    def table(self, runs: Sequence[ParityRun]) -> None:
        """Parity figures, mean and worst, one line per backend."""
        if not runs:
            return
        table = Table(title=f"against PyTorch fp32 on {runs[0].images} photographs: mean (worst)")
        for column in (
            "backend",
            "verdict",
            "depth error",
            "depth scale",
            "labels equal",
            "normals",
            "edges",
            "NaN/Inf",
        ):
            table.add_column(column, justify="left" if column in ("backend", "verdict") else "right")
        for run in runs:
            table.add_row(run.backend, run.verdict, *_cells(run))
        self.console.print(table)


def _cells(run: ParityRun) -> list[str]:
    mean, worst = run.mean, run.worst
    if not mean:
        return ["-"] * 6
    return [
        f"{100 * mean['depth_rel']:.4f} ({100 * worst['depth_rel']:.4f}) %",
        f"{mean['depth_scale']:.5f} ({worst['depth_scale']:.5f})",
        f"{100 * mean['label_agreement']:.3f} ({100 * worst['label_agreement']:.3f}) %",
        f"{mean['normal_deg']:.4f} ({worst['normal_deg']:.4f})°",
        f"{mean['edge_mae']:.5f} ({worst['edge_mae']:.5f})",
        f"{worst['nonfinite']:.0f}",
    ]
