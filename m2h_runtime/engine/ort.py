"""ONNX Runtime: on the CPU the embedded default that needs nothing else, on CUDA with static device buffers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from m2h_runtime.engine.base import Engine, failed
from m2h_runtime.engine.contract import IMAGE
from m2h_runtime.engine.manifest import GRAPH_NAME
from m2h_runtime.errors import BackendUnavailableError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Self

    from m2h_runtime.engine.contract import Neighbours, Outputs
    from m2h_runtime.engine.manifest import Manifest


class CpuEngine(Engine):
    """ONNX Runtime's CPU provider, fp32."""

    backend = "onnxruntime-cpu"

    @classmethod
    def unavailable(cls) -> str | None:
        """Is the package there."""
        try:
            import onnxruntime  # noqa: F401
        except ModuleNotFoundError:
            return "the package onnxruntime is missing: pip install onnxruntime"
        return None

    @classmethod
    def open(cls, folder: Path, manifest: Manifest, threads: int | None) -> Self:
        """Make a session with all graph optimisations; `threads` None means one per usable core."""
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or usable_cores()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            session = ort.InferenceSession(
                str(folder / GRAPH_NAME), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise failed(cls.backend, error) from error
        return cls(manifest, session)

    def __init__(self, manifest: Manifest, session: Any) -> None:
        super().__init__(manifest)
        self._session = session
        self._names = [spec.name for spec in self._specs]

    def _infer(self, image: NDArray[np.uint8], views: Neighbours | None = None) -> Outputs:
        inputs = {IMAGE: image, **(views.tensors if views else {})}
        try:
            return dict(zip(self._names, self._session.run(self._names, inputs), strict=True))
        except Exception as error:
            raise failed(self.backend, error) from error

    def close(self) -> None:
        """Drop the session and its arena."""
        self._session = None


class CudaEngine(Engine):
    """ONNX Runtime's CUDA provider: buffers bound once, captured as a CUDA graph."""

    backend = "onnxruntime-cuda"

    @classmethod
    def unavailable(cls) -> str | None:
        """Does the installed package have the provider; the device itself is tried by `open`."""
        try:
            import onnxruntime as ort
        except ModuleNotFoundError:
            return "the package onnxruntime-gpu is missing: pip install onnxruntime-gpu"
        if "CUDAExecutionProvider" not in ort.get_available_providers():
            return (
                "onnxruntime has no CUDA provider: pip uninstall onnxruntime && pip install onnxruntime-gpu"
            )
        return None

    @classmethod
    def open(cls, folder: Path, manifest: Manifest, threads: int | None) -> Self:
        """Make a session on device 0 whose every node runs there: a silent fallback to the CPU is refused."""
        import onnxruntime as ort

        if hasattr(ort, "preload_dlls"):  # since 1.21: finds the CUDA and cuDNN that came as wheels
            ort.preload_dlls()
        options = ort.SessionOptions()
        options.log_severity_level = 3
        if threads:
            options.intra_op_num_threads = threads
        provider = ("CUDAExecutionProvider", {"device_id": "0", "enable_cuda_graph": "1", "use_tf32": "0"})
        try:
            session = ort.InferenceSession(str(folder / GRAPH_NAME), options, providers=[provider])
        except Exception as error:
            raise failed(cls.backend, error) from error
        if "CUDAExecutionProvider" not in session.get_providers():
            raise BackendUnavailableError(
                f"{cls.backend}: the CUDA provider did not start on this machine (driver, CUDA or cuDNN missing); "
                "m2h-doctor says what is there"
            )
        return cls(manifest, session)

    def __init__(self, manifest: Manifest, session: Any) -> None:
        import numpy as np
        import onnxruntime as ort

        super().__init__(manifest)
        self._session = session
        self._inputs = {
            spec.name: ort.OrtValue.ortvalue_from_numpy(np.zeros(spec.shape, spec.dtype), "cuda", 0)
            for spec in self._input_specs
        }
        self._outputs = {
            spec.name: ort.OrtValue.ortvalue_from_shape_and_type(spec.shape, spec.dtype.type, "cuda", 0)
            for spec in self._specs
        }
        self._binding = session.io_binding()
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, value in self._outputs.items():
            self._binding.bind_ortvalue_output(name, value)

    def _infer(self, image: NDArray[np.uint8], views: Neighbours | None = None) -> Outputs:
        try:
            self._inputs[IMAGE].update_inplace(image)
            for name, tensor in (views.tensors if views else {}).items():
                self._inputs[name].update_inplace(tensor)
            self._session.run_with_iobinding(self._binding)
            return {name: value.numpy() for name, value in self._outputs.items()}
        except Exception as error:
            raise failed(self.backend, error) from error

    def close(self) -> None:
        """Drop the session and the device buffers."""
        self._session = self._binding = None
        self._inputs, self._outputs = {}, {}


def usable_cores() -> int:
    """How many cores this process may use: containers and taskset give fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
