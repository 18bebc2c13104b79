"""A result as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from m2h_runtime.bench.tables import Table, headline, tables

if TYPE_CHECKING:
    from collections.abc import Sequence


def markdown(result: dict[str, Any]) -> str:
    """The whole page."""
    parts = [f"# m2h-bench: {result['engine']['name']}", headline(result)]
    if result["outcome"] != "finished":
        parts.append(f"**{result['outcome']}**: what is below was measured before.")
    parts += [table_markdown(table) for table in tables(result)]
    return "\n\n".join(parts) + "\n"


def table_markdown(table: Table) -> str:
    """A table with its title and notes."""
    lines = [_row(table.header), _row(["---"] * len(table.header)), *map(_row, table.rows)]
    return "\n\n".join([f"## {table.title}", "\n".join(lines), *table.notes])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
