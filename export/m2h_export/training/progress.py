"""What a training says while it runs: a live bar on a terminal, plain lines elsewhere, TensorBoard if installed."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class TrainingProgress:
    """Speaks for rank 0; with `quiet` it says nothing."""

    def __init__(self, total_steps: int, out: Path, *, quiet: bool = False) -> None:
        self.total, self.out, self.quiet = total_steps, out, quiet
        live = sys.stdout.isatty()
        self.console = Console(width=None if live else 160, highlight=False, quiet=quiet)
        self._bar = (
            Progress(
                TextColumn("step"),
                MofNCompleteColumn(),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[facts]}"),
                TimeRemainingColumn(),
                console=self.console,
            )
            if live and not quiet
            else None
        )
        self._board: Any = None
        self._started = time.monotonic()
        self._first = 0

    def start(self, step: int) -> None:
        """Show the bar and open TensorBoard; `step` steps are done already."""
        self._started, self._first = time.monotonic(), step
        if self.quiet:
            return
        if self._bar is not None:
            self._bar.start()
            self._row = self._bar.add_task("training", total=self.total, completed=step, facts="")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.say(
                "no TensorBoard log: the package tensorboard is not installed (metrics.jsonl has everything)"
            )
        else:
            self._board = SummaryWriter(str(self.out / "tensorboard"), purge_step=step + 1)

    def say(self, text: str) -> None:
        """One line above the bar."""
        self.console.print(text, markup=False, soft_wrap=True)

    def advance(self, step: int) -> None:
        """`step` steps are done."""
        if self._bar is not None:
            self._bar.update(self._row, completed=step)

    def log(self, values: Mapping[str, Any]) -> None:
        """Show one line of metrics.jsonl."""
        if self.quiet:
            return
        step, losses = values["step"], values["losses"]
        facts = " ".join(f"{name} {loss:.3f}" for name, loss in losses.items())
        facts = f"{facts} | {values['samples_per_s']:.1f} samples/s"
        if self._bar is not None:
            self._bar.update(self._row, completed=step, facts=facts)
        else:
            self.say(f"step {step}/{self.total} {facts}, {self._remaining(step)} to go")
        if self._board is not None:
            for group in ("losses", "weights"):
                for name, value in values[group].items():
                    self._board.add_scalar(f"{group}/{name}", value, step)
            self._board.add_scalar("lr", values["lr"], step)
            self._board.add_scalar("samples_per_s", values["samples_per_s"], step)

    def stop(self) -> None:
        """Close bar and log."""
        if self._bar is not None:
            self._bar.stop()
        if self._board is not None:
            self._board.close()

    def _remaining(self, step: int) -> str:
        per_step = (time.monotonic() - self._started) / max(1, step - self._first)
        seconds = round(per_step * (self.total - step))
        return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
