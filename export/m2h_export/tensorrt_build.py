"""TensorRT and TensorRT-RTX plans from a typed ONNX graph.

A TensorRT plan is built on the machine that runs it. A TensorRT-RTX plan is built ahead of time for a compute
capability, on any x86-64 machine, with or without a GPU.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from m2h_runtime.engine import cuda, trt_library
from m2h_runtime.errors import BackendUnavailableError, EngineError, InputError
from m2h_runtime.files import write_atomically

if TYPE_CHECKING:
    from m2h_runtime.engine.trt_library import Kind, Messages

_MB = 1 << 20
_MEMORY_FACTOR = 5  # builds of M2H peaked at about 3.6 times the graph file
_MEMORY_BASE_MB = 1500


@dataclass(frozen=True)
class BuildFacts:
    """What was built: library version, target, time, size. `gpu` is None for a plan built ahead of time."""

    tensorrt: str
    compute_capability: str
    gpu: str | None
    seconds: float
    layers: int
    plan_bytes: int


def check_target(kind: Kind, compute_capability: str | None) -> None:
    """Can a plan of `kind` be built on this machine; asked before any long work.

    Raises:
        BackendUnavailableError: the library or, for TensorRT, the GPU is missing.
        InputError: the compute capability is missing, unknown, or not this GPU's.
    """
    trt = trt_library.load(kind)
    if kind == "tensorrt-rtx":
        _capability(trt, compute_capability)
        return
    if (why := trt_library.shadowed_jetpack() or cuda.device_problem()) is not None:
        raise BackendUnavailableError(f"--target tensorrt builds on the GPU that runs the plan: {why}")
    name, here = cuda.device_facts()
    if compute_capability not in (None, here):
        raise InputError(
            f"--compute-capability {compute_capability}: this GPU ({name}) is {here}, and TensorRT builds for the "
            "GPU it runs on; leave the option out, or use --target tensorrt-rtx"
        )


def library_version(kind: Kind) -> str:
    """Version of the installed library, e.g. "10.13.3.9"."""
    return str(trt_library.load(kind).__version__)


def known_bad(kind: Kind, version: str, compute_capability: str | None) -> str | None:
    """A warning for versions that are known to answer wrongly on that GPU; None for the others.

    NVIDIA/TensorRT issues 4558, 4723, 4742 and 4837.
    """
    if kind != "tensorrt":
        return None
    major, minor = (int(part) for part in [*version.split("."), "0"][:2])
    if (major, minor) in ((10, 3), (10, 4)):
        return (
            f"TensorRT {version} is known to compile vision transformers wrongly, in FP32 too, and to say nothing; "
            "the parity check decides. TensorRT >= 10.12 has been reported right"
        )
    if major == 10 and minor <= 16 and compute_capability == "12.0":
        return f"TensorRT {version} is known to fuse attention wrongly on compute capability 12.0; the check decides"
    return None


def build_plan(
    graph: Path,
    plan: Path,
    *,
    kind: Kind,
    compute_capability: str | None = None,
    workspace_mb: int | None = None,
    timing_cache: Path | None = None,
    progress: bool = False,
) -> BuildFacts:
    """Build `graph`, typed ONNX, into `plan`; the plan is written whole or not at all.

    Args:
        graph: the ONNX file.
        plan: where to write the plan.
        kind: which library.
        compute_capability: required for "tensorrt-rtx", e.g. "8.6".
        workspace_mb: the builder's memory limit, MiB; None leaves TensorRT's own.
        timing_cache: TensorRT's measured kernel times, kept per version and GPU beside this name.
        progress: show the builder's own progress as a bar.

    Raises:
        EngineError: the graph does not parse or does not build; names the first of TensorRT's reasons.
        InputError: too little memory, or the plan cannot be written.
        KeyboardInterrupt: Ctrl-C, after the builder has stopped.
    """
    check_target(kind, compute_capability)
    _check_memory(graph)
    trt = trt_library.load(kind)
    messages = trt_library.collect_messages(trt)
    builder = trt.Builder(messages.logger)
    network = _parse(trt, builder, graph, messages)
    config = builder.create_builder_config()
    gpu = None
    if kind == "tensorrt-rtx":
        config.num_compute_capabilities = 1
        config.set_compute_capability(_capability(trt, compute_capability), 0)
        capability = str(compute_capability)
    else:
        gpu, capability = cuda.device_facts()
    config.clear_flag(trt.BuilderFlag.TF32)  # fp32 means fp32: islands and fp32 plans keep their mantissas
    if workspace_mb is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mb * _MB)
    cache = (
        _load_timing_cache(config, timing_cache, f"{trt.__version__}-{capability}-{gpu}")
        if kind == "tensorrt"
        else None
    )
    started = time.monotonic()
    serialized = _build(trt, builder, network, config, messages, progress)
    seconds = time.monotonic() - started
    data = bytes(serialized)
    write_atomically(plan, data)
    if cache is not None:
        write_atomically(cache, bytes(config.get_timing_cache().serialize()))
    return BuildFacts(str(trt.__version__), capability, gpu, seconds, network.num_layers, len(data))


def _capability(trt: Any, text: str | None) -> Any:
    """TensorRT-RTX's member for "8.6"."""
    members = {
        f"{name[2:-1]}.{name[-1]}": member
        for name, member in trt.ComputeCapability.__members__.items()
        if name.startswith("SM")
    }
    if text is None:
        raise InputError(f"--target tensorrt-rtx needs --compute-capability, one of {', '.join(members)}")
    if text not in members:
        raise InputError(f"--compute-capability {text}: TensorRT-RTX builds for {', '.join(members)}")
    return members[text]


def _check_memory(graph: Path) -> None:
    """Refuse a build that would drive the machine into swap or be killed half way."""
    if not graph.is_file():
        raise InputError(f"{graph}: no such graph to build from")
    need_mb = _MEMORY_BASE_MB + _MEMORY_FACTOR * graph.stat().st_size / _MB
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free_mb = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 1024
    except (OSError, StopIteration):
        return  # no way to know here
    if free_mb < need_mb:
        raise InputError(
            f"building {graph.name} needs about {need_mb:.0f} MB of memory, {free_mb:.0f} MB are free; close other "
            "programs (a desktop above all), add swap, or build on a larger machine of the same GPU"
        )


def _parse(trt: Any, builder: Any, graph: Path, messages: Messages) -> Any:
    """The ONNX graph as a strongly typed network."""
    flags = trt.NetworkDefinitionCreationFlag.__members__
    # TensorRT 11 knows nothing but strong typing and may drop the flag; 10 and RTX need to be told.
    typed = 1 << int(flags["STRONGLY_TYPED"]) if "STRONGLY_TYPED" in flags else 0
    network = builder.create_network(typed)
    parser = trt.OnnxParser(network, messages.logger)
    if not parser.parse(graph.read_bytes()):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        first = errors[0] if errors else None
        what = trt_library.one_line(str(first.desc())) if first else messages.first_error()
        where = f"node {first.node_name() or first.node()} ({first.node_operator()}): " if first else ""
        raise EngineError(f"{graph}: TensorRT cannot read it: {where}{what} ({len(errors)} errors)")
    return network


def _build(trt: Any, builder: Any, network: Any, config: Any, messages: Messages, progress: bool) -> Any:
    """Run the builder; Ctrl-C is handed to it through its progress monitor."""
    cancelled = threading.Event()
    columns = (TextColumn("TensorRT: {task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, transient=True, disable=not progress) as bars, _interrupt_sets(cancelled):
        config.progress_monitor = _monitor(trt, bars, cancelled)
        serialized = builder.build_serialized_network(network, config)
    if cancelled.is_set():
        raise KeyboardInterrupt
    if serialized is None:
        raise EngineError(f"TensorRT could not build the plan: {messages.first_error()}")
    return serialized


def _monitor(trt: Any, bars: Progress, cancelled: threading.Event) -> Any:
    tasks: dict[str, Any] = {}

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            tasks[phase] = bars.add_task(phase if parent is None else f"  {phase}", total=steps)

        def step_complete(self, phase: str, step: int) -> bool:
            if phase in tasks:
                bars.update(tasks[phase], completed=step + 1)
            return not cancelled.is_set()

        def phase_finish(self, phase: str) -> None:
            if phase in tasks:
                bars.remove_task(tasks.pop(phase))

    return Monitor()


class _interrupt_sets:  # noqa: N801 (reads as a with-statement)
    """SIGINT sets an event for the duration: the builder is in C++ and would not see the exception."""

    def __init__(self, event: threading.Event) -> None:
        self._event = event
        self._before: Any = None

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, lambda *_: self._event.set())

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)


def _load_timing_cache(config: Any, base: Path | None, key: str) -> Path | None:
    """Attach the timing cache for this version and GPU; it is never used across either."""
    if base is None:
        return None
    path = base.with_name(f"{base.name}.{key}".replace(" ", "-"))
    stored = path.read_bytes() if path.is_file() else b""
    config.set_timing_cache(config.create_timing_cache(stored), ignore_mismatch=False)
    if not os.access(path.parent, os.W_OK):
        raise InputError(
            f"{path.parent}: the timing cache cannot be written there; choose another --timing-cache"
        )
    return path
