"""Memory, temperature, clocks, power and throttling, where the machine tells. What it does not tell is missing."""

from __future__ import annotations

import importlib
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Values = dict[str, dict[str, float]]
"""By kind of figure, then by name of the sensor."""

KINDS = ("memory_mb", "temperature_c", "clock_mhz", "power_w", "throttle_events")
PLAUSIBLE_C = (-40.0, 150.0)


class Sensors:
    """Reads everything there is.

    Args:
        root: "/", or a folder like it.
        gpu: NVML, if there is one.
        clock: monotonic, integer nanoseconds; energy counters become power with it.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        gpu: Nvml | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._root = root
        self._gpu = gpu
        self._clock = clock
        self._energies: dict[str, tuple[int, int]] = {}

    def read(self) -> Values:
        """Every figure now; a kind that nobody tells is missing. Power from an energy counter comes with the second."""
        kinds = (
            self._memory(),
            self._temperatures(),
            self._clocks(),
            self._power(),
            self._throttling(),
        )
        values: Values = {kind: dict(found) for kind, found in zip(KINDS, kinds, strict=True)}
        for kind, found in (self._gpu.read() if self._gpu else {}).items():
            values.setdefault(kind, {}).update(found)
        return {kind: found for kind, found in values.items() if found}

    def _glob(self, pattern: str) -> list[Path]:
        return sorted(self._root.glob(pattern))

    def _memory(self) -> Iterator[tuple[str, float]]:
        if (kib := re.search(r"VmRSS:\s+(\d+)", _text(self._root / "proc/self/status"))) is not None:
            yield "resident", int(kib[1]) / 1024

    def _temperatures(self) -> Iterator[tuple[str, float]]:
        for zone in self._glob("sys/class/thermal/thermal_zone*"):
            value = _number(zone / "temp")
            if value is not None and PLAUSIBLE_C[0] < value / 1000 < PLAUSIBLE_C[1]:
                yield _text(zone / "type") or zone.name, value / 1000
        for chip in self._glob("sys/class/hwmon/hwmon*"):
            for path in sorted(chip.glob("temp*_input")):
                value = _number(path)
                if value is not None and PLAUSIBLE_C[0] < value / 1000 < PLAUSIBLE_C[1]:
                    yield f"{_text(chip / 'name')} {_label(path)}", value / 1000

    def _clocks(self) -> Iterator[tuple[str, float]]:
        for core in self._glob("sys/devices/system/cpu/cpu[0-9]*"):
            if (khz := _number(core / "cpufreq/scaling_cur_freq")) is not None:
                yield core.name, khz / 1000
        for device in self._glob("sys/class/devfreq/*"):  # the GPU of a Jetson: 17000000.gpu, 17000000.ga10b
            if re.search(r"gpu|\.g[avpb]\d+", device.name) and (hz := _number(device / "cur_freq")):
                yield f"gpu {device.name}", hz / 1e6

    def _power(self) -> Iterator[tuple[str, float]]:
        for chip in self._glob("sys/class/hwmon/hwmon*"):
            name = _text(chip / "name")
            for path in sorted(chip.glob("power*_input")):
                if (microwatts := _number(path)) is not None:
                    yield f"{name} {_label(path)}", microwatts / 1e6
            if name == "ina3221":  # Jetson: volts and amperes by rail
                yield from _rails(chip)
        for domain in self._glob("sys/class/powercap/*:*"):
            if (watts := self._from_energy(domain)) is not None:
                yield f"{_text(domain / 'name') or 'domain'} {domain.name}", watts

    def _from_energy(self, domain: Path) -> float | None:
        """Mean power since the last look, from a counter in microjoules that starts again at its range."""
        energy, now_ns = _number(domain / "energy_uj"), self._clock()
        if energy is None:
            return None
        before = self._energies.get(domain.name)
        self._energies[domain.name] = (int(energy), now_ns)
        if before is None or now_ns <= before[1]:
            return None
        spent = int(energy) - before[0]
        if spent < 0:
            spent += int(_number(domain / "max_energy_range_uj") or 0)
        return spent / 1e6 / ((now_ns - before[1]) / 1e9) if spent >= 0 else None

    def _throttling(self) -> Iterator[tuple[str, float]]:
        counts = [
            _number(core / "thermal_throttle/core_throttle_count")
            for core in self._glob("sys/devices/system/cpu/cpu[0-9]*")
        ]
        if any(count is not None for count in counts):
            yield "cpu", sum(count or 0 for count in counts)
        for path in self._glob("sys/class/hwmon/hwmon*/oc*_event_cnt"):  # Jetson: over-current
            if (events := _number(path)) is not None:
                yield f"over-current {path.name.partition('_')[0]}", events


class Nvml:
    """NVIDIA GPUs through NVML: all but Jetsons, whose figures are in sysfs.

    Args:
        library: the module `pynvml`, initialised.
    """

    def __init__(self, library: Any) -> None:
        self._nvml = library
        self._devices = [library.nvmlDeviceGetHandleByIndex(i) for i in range(library.nvmlDeviceGetCount())]

    def read(self) -> Values:
        """The same kinds as `Sensors.read`, and memory in use on the device; what a GPU does not tell is left out."""
        nvml, values = self._nvml, {kind: dict[str, float]() for kind in KINDS}
        for index, device in enumerate(self._devices):
            asked: dict[str, Callable[[Any], float]] = {
                "memory_mb": lambda d: nvml.nvmlDeviceGetMemoryInfo(d).used / 2**20,
                "temperature_c": lambda d: nvml.nvmlDeviceGetTemperature(d, nvml.NVML_TEMPERATURE_GPU),
                "clock_mhz": lambda d: nvml.nvmlDeviceGetClockInfo(d, nvml.NVML_CLOCK_SM),
                "power_w": lambda d: nvml.nvmlDeviceGetPowerUsage(d) / 1000,
                "throttle_events": lambda d: float(bool(_slowed_down(nvml, d))),
            }
            for kind, ask in asked.items():
                try:
                    values[kind][f"gpu{index}"] = float(ask(device))
                except nvml.NVMLError:
                    continue
        return values


def _slowed_down(nvml: Any, device: Any) -> int:
    """Of the reasons for a lower clock those that are faults: heat and power, by hardware or driver."""
    reasons = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(device)
    faults = (
        nvml.nvmlClocksThrottleReasonHwSlowdown
        | nvml.nvmlClocksThrottleReasonSwThermalSlowdown
        | nvml.nvmlClocksThrottleReasonSwPowerCap
    )
    return int(reasons & faults)


def open_nvml() -> tuple[Nvml | None, str]:
    """NVML, or None and the reason in a few words."""
    try:
        pynvml = importlib.import_module("pynvml")
    except ImportError:
        return None, "no NVML: pip install 'm2h-runtime[bench]' on a machine with an NVIDIA GPU"
    try:
        pynvml.nvmlInit()
        return Nvml(pynvml), ""
    except pynvml.NVMLError as error:
        return None, f"no NVML: {error}"


def power_mode(root: Path = Path("/")) -> str | None:
    """The power mode of a Jetson, as nvpmodel keeps it: "0 MAXN"; None on anything else."""
    status = re.search(r"pmode:0*(\d+)", _text(root / "var/lib/nvpmodel/status"))
    if status is None:
        return None
    models = re.findall(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+?)\s*>", _text(root / "etc/nvpmodel.conf"))
    name = dict(models).get(status[1], "")
    return f"{status[1]} {name}".strip()


def governors(root: Path = Path("/")) -> list[str]:
    """The CPU's frequency governors, each once; empty where the kernel does not say."""
    cores = root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")
    return sorted({text for path in cores if (text := _text(path))})


def load_average() -> float | None:
    """Of the last minute; None where the system has none."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _rails(chip: Path) -> Iterator[tuple[str, float]]:
    for path in sorted(chip.glob("in*_input")):
        number = path.name.removeprefix("in").removesuffix("_input")
        millivolts, milliamperes = _number(path), _number(chip / f"curr{number}_input")
        if millivolts is not None and milliamperes is not None:
            yield _text(chip / f"in{number}_label") or f"rail {number}", millivolts * milliamperes / 1e6


def _label(path: Path) -> str:
    """What hwmon calls the sensor of `..._input`."""
    stem = path.name.removesuffix("_input")
    return _text(path.with_name(f"{stem}_label")) or stem


def _text(path: Path) -> str:
    """A small file's text; "" if it is not there or not for us."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> float | None:
    try:
        return float(_text(path))
    except ValueError:
        return None
