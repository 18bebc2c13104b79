"""Result files: written whole, read with care, and compared."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from m2h_runtime.bench.blocks import Block
from m2h_runtime.bench.facts import differences
from m2h_runtime.bench.measuring import SCHEMA
from m2h_runtime.bench.verdict import cannot_tell, compare_by_reference, compare_runs
from m2h_runtime.errors import InputError
from m2h_runtime.files import reason

if TYPE_CHECKING:
    from pathlib import Path

    from m2h_runtime.bench.verdict import Verdict


def read_result(path: Path) -> dict[str, Any]:
    """A result that m2h-bench wrote.

    Raises:
        InputError: it cannot be read, is no result, of another schema, or has no latency.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({reason(error)})") from error
    except ValueError as error:
        raise InputError(f"{path}: is no JSON ({error}); name what m2h-bench --json wrote") from error
    schema = result.get("schema") if isinstance(result, dict) else None
    if schema != SCHEMA:
        raise InputError(
            f"{path}: its schema is {schema!r}, expected {SCHEMA!r}; measure again with this version"
        )
    try:
        blocks_of(result)
        differences(result, result)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: has no latency of the engine to compare; measure again with --only latency"
        ) from error
    return dict(result)


def blocks_of(result: dict[str, Any]) -> list[Block]:
    """The blocks of a result's latency."""
    return [Block(**block) for block in result["latency"]["blocks"]]


def _compare_latency(a: dict[str, Any], b: dict[str, Any]) -> Verdict:
    references = [result["latency"].get("reference") for result in (a, b)]
    both = [blocks_of(result) for result in (a, b)]
    beside = all(block.reference_ms for blocks in both for block in blocks)
    if references[0] is not None and references[0] == references[1] and beside:
        return compare_by_reference(*both)
    return compare_runs(*both)


def compare(a: dict[str, Any], b: dict[str, Any]) -> tuple[Verdict, str]:
    """The verdict on two results, and a warning in one line about what else differs ("" if nothing).

    Engines on different machines are not compared: that would be a statement about machines.
    """
    found = differences(a, b)
    verdict = _compare_latency(a, b)
    machine = [text for text in found if not text.startswith(("backend", "threads", "size"))]
    if machine:
        return cannot_tell(f"the machines differ: {', '.join(machine)}"), ""
    return verdict, f"not only the engine differs: {', '.join(found)}" if found else ""
