"""A result as tables of text, for the terminal, Markdown and HTML alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from m2h_runtime.bench.statistics import PERCENTILES

if TYPE_CHECKING:
    from collections.abc import Iterator

COLUMNS = (*PERCENTILES, "max")


@dataclass(frozen=True)
class Table:
    """A title, column names, rows of as many cells, and sentences that belong to it."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    notes: tuple[str, ...] = ()


def tables(result: dict[str, Any]) -> list[Table]:
    """Every part that was measured."""
    made = [_engine(result), *_latencies(result), *_loops(result)]
    if result.get("soak"):
        made.append(_soak(result["soak"]))
    if result.get("cold_start"):
        made.append(_cold_start(result["cold_start"]))
    if result.get("against"):
        made.append(_against(result["against"]))
    return [table for table in made if table.rows]


def headline(result: dict[str, Any]) -> str:
    """What ran where, in a line."""
    engine, machine = result["engine"], result["machine"]
    height, width = engine["size"]
    return (
        f"{engine['name']} {width}x{height} {engine['precision']} on {engine['backend']}, {engine['threads']} threads, "
        f"engine {engine['engine_id']}; {machine['cores']} cores of {machine['cpu']}, {machine['date']}"
    )


def _engine(result: dict[str, Any]) -> Table:
    machine = result["machine"]
    facts = {
        "power mode": machine["power_mode"],
        "governor": machine["governor"],
        "GPU": ", ".join(machine["gpu"]) if machine["gpu"] else None,
        "load at the start": machine["load_average"],
        "versions": ", ".join(f"{name} {version}" for name, version in machine["versions"].items()),
    }
    return Table("Machine", ("", ""), [(name, _told(value)) for name, value in facts.items()])


def _latencies(result: dict[str, Any]) -> Iterator[Table]:
    """Every distribution in milliseconds."""
    rows: list[tuple[str, ...]] = []
    notes: list[str] = []
    if latency := result.get("latency"):
        rows.append(("engine alone", *_summary(latency["ms"])))
        if latency["device_ms"]:
            rows.append(("engine alone, GPU events", *_summary(latency["device_ms"])))
        notes.append(f"First inference {_told(result['warm_up']['first_ms'])} ms; warm-up is not counted.")
    for run in _runs(result):
        name = _name(run)
        if "age_ms" in run:
            rows.append((f"{name}: age at publish", *_summary(run["age_ms"])))
        rows.append((f"{name}: jitter of the period", *_summary(run["jitter_ms"])))
        rows += [(f"{name}: {stage}", *_summary(told)) for stage, told in run["stages_ms"].items()]
    if any("–" in row for row in rows):
        notes.append("–: too few samples for this percentile.")
    yield Table("Milliseconds", ("", *COLUMNS), rows, tuple(notes))


def _loops(result: dict[str, Any]) -> Iterator[Table]:
    rows: list[tuple[str, ...]] = []
    notes: list[str] = []
    for run in _runs(result):
        lost = sum(drop["frames"] for drop in run["drops"])
        rows.append(
            (
                _name(run),
                _told(run["fps"]),
                str(run["captured"]),
                str(run["perceived"]),
                str(lost),
                _cores(run),
            )
        )
        reasons = [f"{drop['frames']} {drop['reason']}" for drop in run["drops"] if drop["frames"]]
        if reasons:
            notes.append(f"{_name(run)}: not perceived: {'; '.join(reasons)}.")
    header = ("", "FPS", "captured", "perceived", "dropped", "cores by thread")
    yield Table("The loop", header, rows, tuple(notes))


def _soak(soak: dict[str, Any]) -> Table:
    memory = soak["memory"]
    growth = "unknown"
    if memory is not None:
        growth = (
            f"{memory['grew_mb']:+.1f} MB ({memory['mb_per_hour']:+.0f} MB/h) to {memory['last_mb']:.0f} MB: "
            f"{'LEAKS' if memory['leaks'] else 'no leak seen'}"
        )
    slower = soak["engine_slower_at_the_end"]
    throttled = {None: "unknown", True: "YES", False: "no"}[soak["throttling"]]
    rows: list[tuple[str, ...]] = [
        ("length", f"{soak['seconds']:.0f} s"),
        ("memory", growth),
        ("throttling", throttled),
        ("engine at the end", "unknown" if slower is None else f"{100 * slower:+.1f} % of its time at first"),
    ]
    for kind in ("temperature_c", "clock_mhz", "power_w"):
        for name, values in soak["sensors"].get(kind, {}).items():
            known = [value for value in values if value is not None]
            rows.append((f"{kind.replace('_', ' ')} {name}", f"{min(known):.1f} to {max(known):.1f}"))
    silent = [kind.replace("_", " ") for kind in soak["unknown"]]
    notes = (f"This machine does not tell: {', '.join(silent)}.",) if silent else ()
    return Table("Soak", ("", ""), rows, notes)


def _cold_start(told: dict[str, Any]) -> Table:
    there = {state: found for state, found in told.items() if found}
    steps = next(iter(there.values()))["median_s"] if there else {}
    rows = [
        (f"{state} cache", *(f"{found['median_s'][step]:.2f} ({found['max_s'][step]:.2f})" for step in steps))
        for state, found in there.items()
    ]
    header = ("", *(step.replace("_", " ") for step in steps))
    notes = ("Median and (worst). The kernel's cache of the files is as it was.",)
    return Table("Seconds to the first perception", header, rows, notes)


def _against(against: dict[str, Any]) -> Table:
    engine = against["engine"]
    rows = [
        ("B", f"{engine['name']} {engine['precision']} on {engine['backend']}, engine {engine['engine_id']}"),
        ("verdict", against["verdict"]["text"]),
        ("turns", str(len(against["turns"]))),
        ("A, p50 ms", _told(against["a_ms"]["p50"])),
        ("B, p50 ms", _told(against["b_ms"]["p50"])),
    ]
    spread = against["spread"]
    if spread:
        rows.insert(2, ("B/A of single turns, middle half", f"{spread[0]:.3f} to {spread[1]:.3f}"))
    return Table("In turn with B", ("", ""), [tuple(row) for row in rows])


def _runs(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [*result.get("loop", []), *filter(None, [result.get("peak"), result.get("soak")])]


def _name(run: dict[str, Any]) -> str:
    if "sensors" in run:
        return f"soak at {run['input_hz']:g} Hz"
    return "peak" if run["input_hz"] is None else f"{run['input_hz']:g} Hz"


def _cores(run: dict[str, Any]) -> str:
    shares = run["cores_by_thread"]
    if shares is None:
        return "unknown"
    return ", ".join(f"{name} {share:.2f}" for name, share in shares.items() if share >= 0.005)


def _summary(told: dict[str, Any]) -> tuple[str, ...]:
    return tuple("–" if told[name] is None else f"{told[name]:.2f}" for name in COLUMNS)


def _told(value: object) -> str:
    if value is None:
        return "unknown"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
