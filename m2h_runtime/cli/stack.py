"""What this machine has for us to run on. Nothing here needs an optional library, and none that is broken ends it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from m2h_runtime import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

State = Literal["found", "missing", "broken"]

SMI_TIMEOUT_S = 15.0

X86_FEATURES = {
    "AVX2": "avx2",
    "AVX512F": "avx512f",
    "AVX512-VNNI": "avx512_vnni",
    "AVX512-BF16": "avx512_bf16",
    "AMX-BF16": "amx_bf16",
    "AMX-INT8": "amx_int8",
}
ARM_FEATURES = {"NEON": "asimd", "FP16": "asimdhp", "DOTPROD": "asimddp", "I8MM": "i8mm", "BF16": "bf16"}
# (implementer, part) of /proc/cpuinfo: ARM kernels give no model name.
ARM_CORES = {
    ("0x41", "0xd03"): "ARM Cortex-A53",
    ("0x41", "0xd07"): "ARM Cortex-A57",
    ("0x41", "0xd08"): "ARM Cortex-A72",
    ("0x41", "0xd0b"): "ARM Cortex-A76",
    ("0x41", "0xd0c"): "ARM Neoverse-N1",
    ("0x41", "0xd42"): "ARM Cortex-A78AE",
    ("0x41", "0xd4f"): "ARM Neoverse-V2",
    ("0x41", "0xd83"): "ARM Neoverse-V3AE",
    ("0x4e", "0x004"): "NVIDIA Carmel",
}


@dataclass(frozen=True)
class Found:
    """One thing looked for.

    Attributes:
        state: "broken" is there but does not work.
        version: "" where there is none to tell.
        detail: what else is known; for anything broken, the reason.
    """

    state: State
    version: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Camera:
    """One /dev/video node. `hint` is the command that makes it readable, "" where it is."""

    device: str
    name: str
    readable: bool
    hint: str


def find_stack() -> dict[str, Any]:
    """Every fact about this machine, in plain JSON types; see docs/doctor.md for the fields."""
    return {
        "machine": machine(),
        "board": board(),
        "gpu": gpu(),
        "libraries": {name: asdict(look(probe)) for name, probe in LIBRARIES.items()},
        "ros": ros(),
        "cameras": [asdict(camera) for camera in cameras()],
    }


def told(error: BaseException) -> str:
    """Any exception in one line of bounded length."""
    what = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {what}" if what else type(error).__name__


def look(probe: Callable[[], Found]) -> Found:
    """What `probe` finds; whatever it raises makes the thing broken, with that as the reason."""
    try:
        return probe()
    except (Exception, SystemExit) as error:  # a broken library may even exit
        return Found("broken", detail=told(error))


# Machine


def machine() -> dict[str, Any]:
    """System, Python, CPU and memory; sizes in bytes, null where the system does not tell."""
    total, available = memory_bytes(_read(Path("/proc/meminfo")))
    return {
        "os": _system(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "m2h_runtime": __version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "cpu": cpu(_read(Path("/proc/cpuinfo"))),
        "cores": {"usable": _usable_cores(), "machine": os.cpu_count(), "quota": _core_quota()},
        "ram_bytes": {"total": total, "available": available, "limit": _memory_limit(total)},
    }


def cpu(cpuinfo: str) -> dict[str, Any]:
    """Model and the instructions that matter for speed, from the text of /proc/cpuinfo."""
    first: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        first.setdefault(key.strip(), value.strip())
    part = (first.get("CPU implementer", ""), first.get("CPU part", ""))
    model = first.get("model name") or ARM_CORES.get(part) or platform.processor() or platform.machine()
    flags = set((first.get("flags") or first.get("Features") or "").split())
    if "neon" in flags:  # 32-bit kernels call it so
        flags.add("asimd")
    names = ARM_FEATURES if "Features" in first else X86_FEATURES if "flags" in first else {}
    return {"model": model, "features": {name: flag in flags for name, flag in names.items()}}


def memory_bytes(meminfo: str) -> tuple[int | None, int | None]:
    """(total, available) from the text of /proc/meminfo."""
    found = {key: 1024 * int(kib) for key, kib in re.findall(r"^(\w+):\s+(\d+) kB", meminfo, re.MULTILINE)}
    return found.get("MemTotal"), found.get("MemAvailable")


def _usable_cores() -> int:
    """As `engine.ort.usable_cores`, whose module needs numpy: here even that may be broken."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _core_quota() -> float | None:
    """CPU time per second that a container may use; None is no limit."""
    v2 = _read(Path("/sys/fs/cgroup/cpu.max")).split()
    v1 = [_read(Path(f"/sys/fs/cgroup/cpu/cpu.cfs_{name}_us")).strip() for name in ("quota", "period")]
    quota, period = v2 if len(v2) == 2 else v1
    if not quota.isdecimal() or not period.isdecimal() or int(period) == 0:
        return None
    return round(int(quota) / int(period), 2)


def _memory_limit(total: int | None) -> int | None:
    """Bytes that a container may use; None is no limit."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        text = _read(Path("/sys/fs/cgroup") / name).strip()
        if text.isdecimal() and (total is None or int(text) < total):
            return int(text)
    return None


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform()


def board(root: Path = Path("/")) -> dict[str, str] | None:
    """Model of an embedded board, and L4T where it is a Jetson; None on anything else."""
    model = _read(root / "proc/device-tree/model").strip("\0\n ")
    release = _read(root / "etc/nv_tegra_release")
    if not model and not release:
        return None
    version = re.search(r"R(\d+).*?REVISION:\s*([\d.]+)", release)
    l4t = f"R{version[1]}.{version[2]}" if version else (release.splitlines() or [""])[0]
    return {"model": model or "unknown", "l4t": l4t}


def gpu() -> dict[str, Any]:
    """NVIDIA GPUs, their driver and its CUDA, as nvidia-smi tells."""
    command = shutil.which("nvidia-smi")
    nothing: dict[str, Any] = {"driver": "", "cuda": "", "devices": []}
    if command is None:
        detail = "no nvidia-smi: no NVIDIA GPU, or its driver is not installed"
        return {"state": "missing", "detail": detail, **nothing}
    try:
        head = _output(command)
        rows = _output(command, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
    except (OSError, subprocess.SubprocessError, RuntimeError) as error:
        return {"state": "broken", "detail": told(error), **nothing}
    cells = [[cell.strip() for cell in row.split(",")] for row in rows.splitlines()]
    devices = [{"name": row[0], "memory": row[2]} for row in cells if len(row) == 3]
    cuda = re.search(r"CUDA(?: \w+)? Version\s*:\s*([\d.]+)", head)
    return {
        "state": "found" if devices else "missing",
        "detail": "" if devices else "nvidia-smi lists no GPU",
        "driver": next((row[1] for row in cells if len(row) == 3), ""),
        "cuda": cuda[1] if cuda else "",
        "devices": devices,
    }


def _output(*command: str) -> str:
    """Standard output of a command that succeeds.

    Raises:
        RuntimeError: it failed; the message is its own.
    """
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=False, timeout=SMI_TIMEOUT_S
    )
    if done.returncode != 0:
        raise RuntimeError(f"nvidia-smi exits with {done.returncode}: {done.stdout} {done.stderr}")
    return done.stdout


# Libraries


def _import(name: str) -> Any:
    """A module, or None if it is not installed. An import that fails inside it is not caught."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name:
            return None
        raise


def _version(module: Any) -> str:
    return str(getattr(module, "__version__", ""))


def _plain_library(name: str) -> Callable[[], Found]:
    def probe() -> Found:
        module = _import(name)
        return Found("missing") if module is None else Found("found", _version(module))

    return probe


def _opencv() -> Found:
    cv2 = _import("cv2")
    if cv2 is None:
        return Found("missing")
    return Found("found", _version(cv2), opencv_video(cv2.getBuildInformation()))


def opencv_video(build: str) -> str:
    """Which ways to a camera or video this OpenCV was built with, from its build information."""
    entries = {"FFmpeg": "FFMPEG", "GStreamer": "GStreamer", "V4L2": "v4l/v4l2"}
    answers = {}
    for name, key in entries.items():
        match = re.search(rf"^\s*{key}:\s*(\w+)", build, re.MULTILINE)
        answers[name] = "yes" if match and match[1] == "YES" else "no"
    return ", ".join(f"{name} {answer}" for name, answer in answers.items())


def _onnxruntime() -> Found:
    ort = _import("onnxruntime")
    if ort is None:
        return Found("missing")
    providers = [name.removesuffix("ExecutionProvider") for name in ort.get_available_providers()]
    return Found("found", _version(ort), f"providers {', '.join(providers)}")


def _openvino() -> Found:
    ov = _import("openvino")
    if ov is None:
        return Found("missing")
    core = ov.Core()
    devices = [f"{name} ({core.get_property(name, 'FULL_DEVICE_NAME')})" for name in core.available_devices]
    return Found("found", _version(ov), f"devices {', '.join(devices) or 'none'}")


def _tensorrt() -> Found:
    trt = _import("tensorrt")
    if trt is None:
        return Found("missing")
    from m2h_runtime.engine.trt_library import shadowed_jetpack

    return Found("found", _version(trt), shadowed_jetpack() or "")


def _tensorrt_rtx() -> Found:
    """From the package's metadata: importing the bindings without their libraries may end the process."""
    if importlib.util.find_spec("tensorrt_rtx_bindings") is None:
        return Found("missing")
    carrier = re.compile(r"onnxruntime[-_.]ep[-_.]nv[-_.]tensorrt[-_.]rtx", re.IGNORECASE)
    bindings = re.compile(r"tensorrt[-_.]rtx.*bindings", re.IGNORECASE)
    version = carried = ""
    for package in metadata.distributions():
        name = package.metadata["Name"] or ""
        if bindings.match(name):
            version = package.version
        elif carrier.match(name):
            carried = f"libraries from {name} {package.version}"
    return Found("found", version, carried or "no package that carries its libraries")


def _packaged(name: str) -> Callable[[], Found]:
    def probe() -> Found:
        try:
            return Found("found", metadata.version(name))
        except metadata.PackageNotFoundError:
            return Found("missing")

    return probe


LIBRARIES: dict[str, Callable[[], Found]] = {
    "numpy": _plain_library("numpy"),
    "OpenCV": _opencv,
    "ONNX Runtime": _onnxruntime,
    "OpenVINO": _openvino,
    "TensorRT": _tensorrt,
    "TensorRT-RTX": _tensorrt_rtx,
    "cuda-python": _packaged("cuda-python"),
}
"""What is looked for, in the order in which it is shown."""


def ros(installed: Path = Path("/opt/ros")) -> dict[str, Any]:
    """The sourced ROS, the installed ones, and whether nodes can be written in Python here."""
    distro = os.environ.get("ROS_DISTRO", "")
    there = sorted(path.name for path in installed.iterdir()) if installed.is_dir() else []
    rclpy = look(_plain_library("rclpy"))
    hint = ""
    if there and not distro:
        hint = f"installed but not in this shell: source {installed / there[-1] / 'setup.bash'}"
    elif distro and rclpy.state == "missing":
        hint = f"Python {platform.python_version()} does not see rclpy: use the Python of ROS {distro}"
    return {"distro": distro, "installed": there, "rclpy": asdict(rclpy), "hint": hint}


# Cameras


def cameras(
    devices: Path = Path("/dev"),
    names: Path = Path("/sys/class/video4linux"),
    access: Callable[[Path, int], bool] = os.access,
) -> list[Camera]:
    """Every video node, by number. A USB camera has one for images and often one for metadata only."""
    nodes = [path for path in devices.glob("video*") if path.name.removeprefix("video").isdecimal()]
    found = []
    for path in sorted(nodes, key=lambda path: int(path.name.removeprefix("video"))):
        readable = access(path, os.R_OK | os.W_OK)  # V4L2 streams from nodes that are open for both
        name = _read(names / path.name / "name").strip() or "unknown"
        found.append(Camera(str(path), name, readable, "" if readable else _way_in(path)))
    return found


def _way_in(path: Path) -> str:
    """The command that lets this user read a device."""
    try:
        import grp

        group = grp.getgrgid(path.stat().st_gid).gr_name
    except (ImportError, KeyError, OSError):  # a container need not know the host's groups
        group = "video"
    if group == "root":  # joining that would be no remedy
        return f"owned by root alone; udev should give it to the group video: sudo chgrp video {path}"
    return f"sudo usermod -aG {group} $USER, then log in again"


def _read(path: Path) -> str:
    """A small text file; "" where there is none."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
