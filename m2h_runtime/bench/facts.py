"""What a result says about the machine and the engine that made it."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from m2h_runtime.bench.sensors import governors, load_average, power_mode
from m2h_runtime.cli import run_report, stack
from m2h_runtime.engine.ort import usable_cores

if TYPE_CHECKING:
    from pathlib import Path

    from m2h_runtime.bench.sensors import Sensors
    from m2h_runtime.engine import Engine

BUSY = 0.3
"""A load average above this share of the cores is worth a line."""
SAME_MACHINE = ("cpu", "cores", "governor", "power_mode", "gpu", "driver")
SAME_ENGINE = ("backend", "threads", "size")


def machine(sensors: Sensors) -> dict[str, Any]:
    """CPU, cores, clocks, memory, GPU, power mode, versions and load; None where the machine does not tell."""
    told, gpu, board = stack.machine(), stack.gpu(), stack.board()
    values = sensors.read()
    return {
        **run_report.machine_facts(),
        "cpu": told["cpu"]["model"],
        "features": [name for name, there in told["cpu"]["features"].items() if there],
        "quota": told["cores"]["quota"],
        "memory_bytes": told["ram_bytes"]["total"],
        "board": board,
        "power_mode": power_mode(),
        "governor": ", ".join(governors()) or None,
        "clock_mhz": values.get("clock_mhz"),
        "temperature_c": values.get("temperature_c"),
        "gpu": [device["name"] for device in gpu["devices"]] or None,
        "driver": gpu["driver"] or None,
        "load_average": load_average(),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def engine(opened: Engine, folder: Path, threads: int | None) -> dict[str, Any]:
    """Name, size, precision, backend, hash; and how many CPU threads it was given."""
    return {**run_report.engine_facts(opened), "folder": folder.name, "threads": threads or usable_cores()}


def busy(facts: dict[str, Any]) -> str | None:
    """One line if the machine has other work; None if it is quiet, or does not tell."""
    load = facts["load_average"]
    if load is None or load <= BUSY * facts["cores"]:
        return None
    return f"the machine is busy (load average {load:g} on {facts['cores']} cores): figures will be worse than they are"


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """What differs between two results and makes their times differ: machine, threads, backend, size."""
    pairs = [(key, a["machine"].get(key), b["machine"].get(key)) for key in SAME_MACHINE]
    pairs += [(key, a["engine"].get(key), b["engine"].get(key)) for key in SAME_ENGINE]
    return [f"{key} ({_short(one)} and {_short(other)})" for key, one, other in pairs if one != other]


def _short(value: Any) -> str:
    return "unknown" if value is None else str(value)
