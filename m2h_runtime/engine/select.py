"""`open_engine`: check first, then open the backend asked for, or the fastest one that passes its self-test."""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import platform
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from m2h_runtime.cache import cache_folder
from m2h_runtime.engine.manifest import GRAPH_NAME, PLAN_NAME, check_files, read_manifest
from m2h_runtime.engine.selftest import read_golden, run_self_test
from m2h_runtime.errors import BackendUnavailableError, EngineError, InputError, M2HError
from m2h_runtime.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable

    from m2h_runtime.engine.base import Engine
    from m2h_runtime.engine.manifest import Manifest
    from m2h_runtime.engine.selftest import Golden, SelfTest

log = logging.getLogger("m2h")

BACKENDS = {
    "tensorrt": "m2h_runtime.engine.tensorrt:TensorRTEngine",
    "tensorrt-rtx": "m2h_runtime.engine.tensorrt:TensorRTRtxEngine",
    "onnxruntime-cuda": "m2h_runtime.engine.ort:CudaEngine",
    "openvino-bf16": "m2h_runtime.engine.openvino:Bf16Engine",
    "openvino": "m2h_runtime.engine.openvino:Fp32Engine",
    "onnxruntime-cpu": "m2h_runtime.engine.ort:CpuEngine",
}
"""Every backend, GPU ones first, and the class that is imported when it is tried."""

GPU_BACKENDS = ("tensorrt", "tensorrt-rtx", "onnxruntime-cuda")
MEASURE_S = 1.0


def backend_class(name: str) -> type[Engine]:
    """The class of a backend.

    Raises:
        InputError: there is no backend of that name.
    """
    if name not in BACKENDS:
        raise InputError(f"no backend {name!r}; there are auto, {', '.join(BACKENDS)}")
    module, _, attribute = BACKENDS[name].partition(":")
    loaded: type[Engine] = getattr(importlib.import_module(module), attribute)
    return loaded


def open_engine(
    folder: str | Path, backend: str = "auto", *, allow_unverified: bool = False, threads: int | None = None
) -> Engine:
    """Open an engine folder, checked and self-tested on this device.

    Args:
        folder: an engine folder made by `m2h-export`.
        backend: one of `BACKENDS`, or "auto" for the fastest that passes its self-test here. The first "auto"
            on a machine measures them all; the choice is cached for the next start.
        allow_unverified: also open an engine whose manifest has no passing verdict. The self-test still runs,
            and a failure is a warning instead of an error.
        threads: CPU threads for the engine; None means one per usable core.

    Raises:
        EngineError: the folder is incomplete, edited, unverified, made for another device, or fails its self-test.
        BackendUnavailableError: the backend's library or device is not on this machine.
    """
    folder = Path(folder)
    if backend != "auto":
        backend_class(backend)
    manifest = read_manifest(folder)
    if manifest.parity.verdict != "pass" and not allow_unverified:
        raise EngineError(
            f"{folder}: no passing parity verdict ({manifest.parity.verdict}). On the machine it is for, run "
            f"m2h-doctor --verify {folder}; or open it as it is with --allow-unverified"
        )
    check_files(folder, manifest)
    golden = read_golden(folder, manifest)
    if backend != "auto":
        engine, test = _open_tested(backend, folder, manifest, golden, threads, allow_unverified, 0.0)
        engine.choice = f"{backend}: as asked; self-test {_told(test)}"
    else:
        engine = _open_fastest(folder, manifest, golden, threads, allow_unverified)
    log.info("%s", engine.choice)
    return engine


def fitting_backends(folder: Path, manifest: Manifest) -> dict[str, str | None]:
    """For each backend why it cannot run this engine on this machine, or None if it can."""
    return {name: _or_broken(partial(_unfit, name, folder, manifest)) for name in BACKENDS}


def _unfit(name: str, folder: Path, manifest: Manifest) -> str | None:
    if name in ("tensorrt", "tensorrt-rtx"):
        if manifest.target.kind != name:
            return f"the engine was not built for it: m2h-export --target {name} makes one"
        if PLAN_NAME not in manifest.files:
            return f"no {PLAN_NAME} in {folder}"
    elif GRAPH_NAME not in manifest.files:
        return f"no {GRAPH_NAME} in {folder}"
    failed_before = [r for r in manifest.parity.runs if r.backend == name and r.verdict == "fail"]
    if failed_before:
        return "it failed the parity check (see parity.runs in the manifest)"
    return backend_class(name).unavailable()


def unavailable(name: str) -> str | None:
    """Why a backend cannot run on this machine, in one line; None if it can. A broken library is a reason too."""
    return _or_broken(lambda: backend_class(name).unavailable())


def _or_broken(why_not: Callable[[], str | None]) -> str | None:
    try:
        return why_not()
    except Exception as error:  # a half-installed library raises anything when it is imported
        what = " ".join(str(error).split())[:200] or type(error).__name__
        return f"its library is installed but broken ({what}); install it again"


def _open_tested(
    name: str,
    folder: Path,
    manifest: Manifest,
    golden: Golden,
    threads: int | None,
    lenient: bool,
    budget_s: float,
) -> tuple[Engine, SelfTest]:
    """Open one backend and run the golden frame on it; the engine is closed again if anything is wrong."""
    if (why := _or_broken(partial(_unfit, name, folder, manifest))) is not None:
        raise BackendUnavailableError(f"{name}: {why}")
    engine = backend_class(name).open(folder, manifest, threads)
    try:
        test = run_self_test(engine, golden, budget_s)
        if test.problems:
            message = (
                f"{folder} on {name}: wrong answer for the golden frame on this device "
                f"({'; '.join(test.problems)}); choose another --backend or export for this machine"
            )
            if not lenient:
                raise EngineError(message)  # noqa: TRY301 (the engine is closed on the way)
            log.warning("%s", message)
    except BaseException:
        engine.close()
        raise
    return engine, test


def _open_fastest(
    folder: Path, manifest: Manifest, golden: Golden, threads: int | None, lenient: bool
) -> Engine:
    note = _choice_note(manifest, threads)
    if (remembered := _recall(note)) is not None:
        try:
            engine, test = _open_tested(remembered, folder, manifest, golden, threads, lenient, 0.0)
        except M2HError as error:
            log.warning(
                "%s was the fastest before but does not run now (%s); measuring again", remembered, error
            )
        else:
            engine.choice = f"{remembered}: the fastest here when last measured; self-test {_told(test)}"
            return engine
    return _measure_all(folder, manifest, golden, threads, lenient, note)


def _measure_all(
    folder: Path, manifest: Manifest, golden: Golden, threads: int | None, lenient: bool, note: Path | None
) -> Engine:
    best: Engine | None = None
    best_ms = float("inf")
    report: list[str] = []
    for name, why in fitting_backends(folder, manifest).items():
        if why is not None:
            report.append(f"{name} not possible ({why})")
            continue
        if best is not None and best.backend in GPU_BACKENDS and name not in GPU_BACKENDS:
            report.append(f"{name} not tried (a GPU backend runs)")
            continue
        try:
            engine, test = _open_tested(name, folder, manifest, golden, threads, lenient, MEASURE_S)
        except M2HError as error:
            report.append(f"{name} failed ({error})")
            log.warning("%s", error)
            continue
        report.append(f"{name} {test.median_ms:.1f} ms")
        if test.median_ms < best_ms:
            if best is not None:
                best.close()
            best, best_ms = engine, test.median_ms
        else:
            engine.close()
    if best is None:
        raise EngineError(
            f"{folder}: no backend can run it here: {'; '.join(report)}; m2h-doctor shows the stack"
        )
    best.choice = f"{best.backend}: the fastest that passes its self-test here ({'; '.join(report)})"
    if note is not None:
        _remember(note, best.backend, best.choice)
    return best


def _told(test: SelfTest) -> str:
    return f"FAILED ({'; '.join(test.problems)})" if test.problems else "passed"


def _choice_note(manifest: Manifest, threads: int | None) -> Path | None:
    """The cache file that holds the choice for this engine, this set of backends and this machine."""
    folder = cache_folder("choice")
    if folder is None:
        return None
    available = [name for name in BACKENDS if unavailable(name) is None]
    key = json.dumps([manifest.engine_id(), platform.processor(), platform.node(), threads, available])
    return folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"


def _recall(note: Path | None) -> str | None:
    if note is None:
        return None
    try:
        name = json.loads(note.read_text())["backend"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return name if name in BACKENDS else None


def _remember(note: Path, backend: str, why: str) -> None:
    try:
        write_atomically(note, json.dumps({"backend": backend, "why": why}).encode())
    except M2HError as error:
        log.warning("the choice of backend is not cached: %s", error)
