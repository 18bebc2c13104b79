"""What the sections share: reading a result file, and how figures are written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

RESULTS = Path(__file__).resolve().parent.parent / "results"


def load(name: str) -> dict[str, Any] | None:
    """One result file; None if nobody has measured it."""
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        return None
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


def machine(result: dict[str, Any]) -> str:
    """The machine in a sentence."""
    facts = result["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in facts["packages"].items())
    features = f" ({', '.join(facts['features'])})" if facts["features"] else ""
    return f"{facts['cores']} cores of {facts['cpu']}{features}, {facts['date']}; {versions}."


def command(result: dict[str, Any]) -> list[str]:
    """The command of the result in a paragraph of its own, or those that made its parts."""
    commands = dict.fromkeys(result.get("commands", {}).values()) or [result["command"]]
    return ["", *(line for text in commands for line in (f"`{text}`", ""))]


def table(titles: list[str], rows: Iterable[Iterable[object]]) -> list[str]:
    """Markdown lines."""
    lines = [titles, ["---"] * len(titles), *rows]
    return [f"| {' | '.join(str(cell) for cell in row)} |" for row in lines]


def at_most(value: float, goal: float) -> str:
    """Met or missed."""
    return "met" if value <= goal else "missed"


def at_least(value: float, goal: float) -> str:
    """Met or missed."""
    return "met" if value >= goal else "missed"
