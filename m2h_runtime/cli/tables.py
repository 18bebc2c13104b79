"""Tables of benchmarks on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from m2h_runtime.bench.tables import Table


def print_table(console: Console, told: Table) -> None:
    """Print a table with its title and notes."""
    from rich.table import Table as Grid

    grid = Grid(*told.header, title=told.title, title_justify="left", show_header=any(told.header))
    for column in grid.columns[1:]:
        column.justify = "right" if told.header[1] else "left"
    for row in told.rows:
        grid.add_row(*row)
    console.print(grid)
    for note in told.notes:
        console.print(note, soft_wrap=True)
