"""A result as one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
from html import escape
from typing import TYPE_CHECKING, Any

from m2h_runtime.bench.report_figures import png
from m2h_runtime.bench.tables import Table, headline, tables

if TYPE_CHECKING:
    from collections.abc import Iterable

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:.5em 0 1.5em}td,th{padding:.2em .8em;border-bottom:1px solid #ddd;"
    "text-align:right}td:first-child,th:first-child{text-align:left}img{max-width:100%}"
)


def html(result: dict[str, Any]) -> str:
    """The whole page.

    Raises:
        InputError: matplotlib is missing.
    """
    title = escape(f"m2h-bench: {result['engine']['name']}")
    picture = base64.b64encode(png(result)).decode()
    body = [f"<h1>{title}</h1>", f"<p>{escape(headline(result))}</p>"]
    if result["outcome"] != "finished":
        body.append(f"<p><b>{escape(result['outcome'])}</b>: what is below was measured before.</p>")
    body += [_table(table) for table in tables(result)]
    body.append(f'<img alt="histograms and curves" src="data:image/png;base64,{picture}">')
    head = f'<meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n'
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _table(table: Table) -> str:
    rows = [_row("th", table.header), *(_row("td", row) for row in table.rows)]
    notes = "".join(f"<p>{escape(note)}</p>" for note in table.notes)
    return f"<h2>{escape(table.title)}</h2>\n<table>{''.join(rows)}</table>{notes}"


def _row(tag: str, cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"
