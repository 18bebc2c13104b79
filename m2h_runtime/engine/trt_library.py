"""Finding and loading TensorRT or TensorRT-RTX, which share one Python API; never when this module is imported."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from m2h_runtime.errors import BackendUnavailableError

Kind = Literal["tensorrt", "tensorrt-rtx"]

_MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx_bindings"}
_INSTALL = {
    "tensorrt": "it comes with JetPack, or from NVIDIA for your CUDA version: apt install python3-libnvinfer",
    "tensorrt-rtx": "pip install 'm2h-runtime[tensorrt-rtx]' (x86-64, Python >= 3.11)",
}
# The bindings have no libraries of their own; this package carries them, for whoever loads them first.
_RTX_LIBRARIES = "onnxruntime_ep_nv_tensorrt_rtx"
_RTX_ORDER = ("libcudart.so*", "libtensorrt_rtx.so*", "libtensorrt_onnxparser_rtx.so*")


def missing(kind: Kind) -> str | None:
    """Why the library of `kind` cannot be loaded and what would add it, in one line; None if it is there."""
    if importlib.util.find_spec(_MODULES[kind]) is None:
        return f"the package {_MODULES[kind]} is missing: {_INSTALL[kind]}"
    if kind == "tensorrt-rtx" and importlib.util.find_spec(_RTX_LIBRARIES) is None:
        return f"the package {_RTX_LIBRARIES}, which carries TensorRT-RTX, is missing: {_INSTALL[kind]}"
    return None


@lru_cache
def load(kind: Kind) -> Any:
    """The Python module of `kind`.

    Raises:
        BackendUnavailableError: it is not installed, or does not load.
    """
    if (why := missing(kind)) is not None:
        raise BackendUnavailableError(f"{kind}: {why}")
    try:
        if kind == "tensorrt-rtx":
            _preload_rtx()
        return importlib.import_module(_MODULES[kind])
    except Exception as error:  # a broken installation raises anything
        what = " ".join(str(error).split())
        raise BackendUnavailableError(
            f"{kind}: installed but does not load ({what}); {_INSTALL[kind]}"
        ) from error


def _preload_rtx() -> None:
    """Load the libraries that the bindings link to by name, so that no LD_LIBRARY_PATH is needed."""
    spec = importlib.util.find_spec(_RTX_LIBRARIES)
    folders = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    for pattern in _RTX_ORDER:
        found = [path for folder in folders for path in sorted(folder.glob(pattern))]
        if not found:
            raise OSError(f"no {pattern} in {_RTX_LIBRARIES}")
        ctypes.CDLL(str(found[0]), mode=ctypes.RTLD_GLOBAL)


def shadowed_jetpack() -> str | None:
    """A pip TensorRT in front of JetPack's own is a usual reason for "not supported on SM 87"; one line about it."""
    if not Path("/etc/nv_tegra_release").exists():
        return None
    spec = importlib.util.find_spec("tensorrt")
    system = Path("/usr/lib/python3/dist-packages/tensorrt")
    if spec is None or spec.origin is None or not system.is_dir() or Path(spec.origin).parent == system:
        return None
    return f"{Path(spec.origin).parent} hides JetPack's TensorRT in {system}: pip uninstall tensorrt"


@dataclass
class Messages:
    """TensorRT's log: `errors` holds its errors so that ours can name them; `logger` is what the API takes."""

    logger: Any
    errors: list[str]
    warnings: list[str]

    def clear(self) -> None:
        """Forget what was said; call it before the step whose errors matter."""
        self.errors.clear()
        self.warnings.clear()

    def first_error(self) -> str:
        """The first error since `clear` in one line; the later ones only repeat it from further out."""
        return one_line(self.errors[0]) if self.errors else "TensorRT gives no reason"


def one_line(text: str) -> str:
    """A message of TensorRT without line breaks and its own source positions, 300 characters at most."""
    return re.sub(r"\s*\(?\b[Ii]n \w+ at /\S+?:\d+\)?", "", " ".join(text.split()))[:300]


def collect_messages(trt: Any) -> Messages:
    """A logger for `trt` that keeps errors and warnings."""
    errors: list[str] = []
    warnings: list[str] = []
    severity = trt.ILogger.Severity

    class Collector(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, level: Any, message: str) -> None:
            if level in (severity.ERROR, severity.INTERNAL_ERROR):
                errors.append(message)
            elif level == severity.WARNING:
                warnings.append(message)

    return Messages(Collector(), errors, warnings)
