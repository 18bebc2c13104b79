"""The few CUDA runtime calls that a TensorRT engine needs, through cuda-python, with errors of one line.

None of this has run on a GPU yet; on a machine without one, `device_problem` and the version checks are tested.
"""

from __future__ import annotations

import importlib
import importlib.util
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from m2h_runtime.errors import EngineError

if TYPE_CHECKING:
    from numpy.typing import NDArray

INSTALL = "pip install cuda-python (on a Jetson: the version of its CUDA, e.g. 'cuda-python==12.6.*')"


@lru_cache
def runtime() -> Any:
    """cuda-python's runtime module, wherever this version keeps it; ImportError if there is none."""
    try:
        return importlib.import_module("cuda.bindings.runtime")
    except ImportError:
        return importlib.import_module("cuda.cudart")  # before 12.8


def device_problem() -> str | None:
    """Why no CUDA device can be used, in one line; None if one can."""
    try:
        cudart = runtime()
    except ImportError:
        return f"the package cuda-python is missing: {INSTALL}"
    except Exception as error:
        return f"cuda-python does not load ({' '.join(str(error).split())[:200]}): {INSTALL}"
    try:
        status, count = cudart.cudaGetDeviceCount()
    except RuntimeError as error:  # no driver library at all
        return f"no NVIDIA driver ({' '.join(str(error).split())[:120]}); install it"
    if status.name == "cudaErrorInsufficientDriver" and (driver := _driver_version()):
        return (
            f"cuda-python is for a newer CUDA than this driver's {driver // 1000}.{driver % 1000 // 10}: "
            f"pip install 'cuda-python<{driver // 1000 + 1}'"
        )
    if int(status) != 0 or count == 0:
        return f"no NVIDIA GPU or driver ({status.name}); install the NVIDIA driver"
    return None


def _driver_version() -> int:
    """The CUDA version of the driver as 1000 major + 10 minor; 0 without a driver."""
    status, version = runtime().cudaDriverGetVersion()
    return int(version) if int(status) == 0 else 0


def call(result: tuple[Any, ...]) -> Any:
    """Unpack what a cuda-python function returned.

    Raises:
        EngineError: it returned an error.
    """
    status, *values = result
    if int(status) != 0:
        raise EngineError(f"CUDA: {status.name}; m2h-doctor shows driver and GPU")
    return values[0] if len(values) == 1 else tuple(values)


def device_facts() -> tuple[str, str]:
    """(name, compute capability) of device 0, e.g. ("NVIDIA GeForce RTX 3080 Laptop GPU", "8.6")."""
    properties = call(runtime().cudaGetDeviceProperties(0))
    name = properties.name.decode() if isinstance(properties.name, bytes) else str(properties.name)
    return name.rstrip("\0"), f"{properties.major}.{properties.minor}"


class Buffer:
    """A static device buffer with its pinned host twin. `host` is a numpy view of the pinned memory."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
        cudart = runtime()
        self.nbytes = int(np.prod(shape)) * dtype.itemsize
        self.device = self._pinned = 0
        try:
            self.device = int(call(cudart.cudaMalloc(self.nbytes)))
            self._pinned = int(call(cudart.cudaMallocHost(self.nbytes)))
        except EngineError:
            self.free()
            raise
        import ctypes

        raw = (ctypes.c_uint8 * self.nbytes).from_address(self._pinned)
        self.host: NDArray[Any] = np.frombuffer(memoryview(raw), dtype).reshape(shape)

    def upload(self, stream: Any) -> None:
        """Host to device, asynchronous."""
        cudart = runtime()
        kind = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        call(cudart.cudaMemcpyAsync(self.device, self._pinned, self.nbytes, kind, stream))

    def download(self, stream: Any) -> None:
        """Device to host, asynchronous."""
        cudart = runtime()
        kind = cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        call(cudart.cudaMemcpyAsync(self._pinned, self.device, self.nbytes, kind, stream))

    def free(self) -> None:
        """Give both back. May be called twice."""
        cudart = runtime()
        if self.device:
            cudart.cudaFree(self.device)
        if self._pinned:
            cudart.cudaFreeHost(self._pinned)
        self.device = self._pinned = 0
