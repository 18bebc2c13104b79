"""Sensors on trees like those of real boards, made here."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from m2h_runtime.bench.probe import Others
from m2h_runtime.bench.sensors import Nvml, Sensors, governors, power_mode
from m2h_runtime.bench.threads import ThreadShares

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def grow(root: Path, files: dict[str, object]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def test_a_jetson_tells_temperature_rails_clock_and_mode(tmp_path: Path) -> None:
    root = grow(
        tmp_path,
        {
            "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
            "sys/class/thermal/thermal_zone0/temp": 48250,
            "sys/class/thermal/thermal_zone1/type": "off",
            "sys/class/thermal/thermal_zone1/temp": -256000,
            "sys/class/hwmon/hwmon3/name": "ina3221",
            "sys/class/hwmon/hwmon3/in1_label": "VDD_IN",
            "sys/class/hwmon/hwmon3/in1_input": 19000,
            "sys/class/hwmon/hwmon3/curr1_input": 500,
            "sys/class/hwmon/hwmon4/oc1_event_cnt": 2,
            "sys/class/devfreq/17000000.gpu/cur_freq": 918000000,
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": 1510400,
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil",
            "var/lib/nvpmodel/status": "pmode:0002",
            "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=2 NAME=15W >",
        },
    )
    assert Sensors(root).read() == {
        "temperature_c": {"cpu-thermal": 48.25},
        "clock_mhz": {"cpu0": 1510.4, "gpu 17000000.gpu": 918.0},
        "power_w": {"VDD_IN": 9.5},
        "throttle_events": {"over-current oc1": 2.0},
    }
    assert power_mode(root) == "2 15W"
    assert governors(root) == ["schedutil"]


def test_energy_becomes_power_and_survives_the_end_of_its_range(tmp_path: Path) -> None:
    domain = "sys/class/powercap/intel-rapl:0"
    grow(tmp_path, {f"{domain}/name": "package-0", f"{domain}/max_energy_range_uj": 100_000_000})
    now_s = iter((0, 2, 3))
    sensors = Sensors(tmp_path, clock=lambda: 10**9 * next(now_s))
    grow(tmp_path, {f"{domain}/energy_uj": 60_000_000})
    assert "power_w" not in sensors.read()
    grow(tmp_path, {f"{domain}/energy_uj": 90_000_000})
    assert sensors.read()["power_w"] == {"package-0 intel-rapl:0": 15.0}
    grow(tmp_path, {f"{domain}/energy_uj": 5_000_000})
    assert sensors.read()["power_w"] == {"package-0 intel-rapl:0": 15.0}


def test_a_laptop_counts_its_throttling_in_all_cores(tmp_path: Path) -> None:
    cores = "sys/devices/system/cpu/cpu{}/thermal_throttle/core_throttle_count"
    grow(tmp_path, {cores.format(0): 3, cores.format(1): 4})
    assert Sensors(tmp_path).read() == {"throttle_events": {"cpu": 7.0}}


def test_a_machine_that_tells_nothing_has_no_figures(tmp_path: Path) -> None:
    assert Sensors(tmp_path).read() == {}
    assert power_mode(tmp_path) is None
    assert governors(tmp_path) == []


def test_here_the_memory_of_this_process_is_told() -> None:
    assert Sensors().read()["memory_mb"]["resident"] > 10


class SmallNvml:
    """The edge of NVML for one GPU that does not know its power."""

    NVML_TEMPERATURE_GPU, NVML_CLOCK_SM = 0, 1
    nvmlClocksThrottleReasonHwSlowdown = 8  # noqa: N815
    nvmlClocksThrottleReasonSwThermalSlowdown = 32  # noqa: N815
    nvmlClocksThrottleReasonSwPowerCap = 4  # noqa: N815
    NVMLError = LookupError

    def __init__(self) -> None:
        self.answers = {"Count": 1, "HandleByIndex": 0, "Temperature": 61, "ClockInfo": 1980}
        self.answers |= {"CurrentClocksThrottleReasons": 1 | 32}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *_: self.answers[name.removeprefix("nvmlDeviceGet")]


def test_what_a_gpu_does_not_know_is_left_out(tmp_path: Path) -> None:
    assert Sensors(tmp_path, Nvml(SmallNvml())).read() == {
        "temperature_c": {"gpu0": 61.0},
        "clock_mhz": {"gpu0": 1980.0},
        "throttle_events": {"gpu0": 1.0},
    }


def test_others_are_what_this_process_did_not_use(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu 100 0 50 900 0 0 0 10 0 0\ncpu0 1 2\n")
    own_s, now_ns = iter((1.0, 1.5)), iter((0, 2 * 10**9))
    others = Others(stat, lambda: next(own_s), lambda: next(now_ns), ticks_per_s=100)
    stat.write_text("cpu 250 0 100 999 0 0 0 60 0 0\ncpu0 1 2\n")
    assert others.cores() == pytest.approx((2.5 - 0.5) / 2)


def test_a_system_that_does_not_tell_its_load_has_unknown_others(tmp_path: Path) -> None:
    assert Others(tmp_path / "stat").cores() is None


def turn(until: threading.Event) -> None:
    while not until.is_set():
        sum(range(1000))


def test_a_busy_thread_is_named_with_its_share() -> None:
    ended = threading.Event()
    thread = threading.Thread(target=turn, args=(ended,), name="busy one")
    with ThreadShares() as shares:
        thread.start()
        time.sleep(0.6)
        ended.set()
        thread.join()
    told = shares.shares()
    assert told is not None
    assert next(iter(told)) == "busy one"
    assert 0.05 < told["busy one"] < 1.2


def test_without_proc_shares_are_unknown(tmp_path: Path) -> None:
    with ThreadShares(tmp_path / "task") as shares:
        pass
    assert shares.shares() is None
