"""OpenVINO on the CPU: in fp32, and in bf16 where the CPU has the instructions for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from m2h_runtime.cache import cache_folder
from m2h_runtime.engine.base import Engine, failed
from m2h_runtime.engine.contract import IMAGE
from m2h_runtime.engine.manifest import GRAPH_NAME
from m2h_runtime.engine.ort import usable_cores

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Self

    from m2h_runtime.engine.contract import Neighbours, Outputs
    from m2h_runtime.engine.manifest import Manifest


class Fp32Engine(Engine):
    """OpenVINO's CPU plugin in fp32."""

    backend = "openvino"
    numerics = "fp32"

    @classmethod
    def unavailable(cls) -> str | None:
        """Is the package there."""
        try:
            import openvino  # noqa: F401
        except ModuleNotFoundError:
            return "the package openvino is missing: pip install openvino"
        return None

    @classmethod
    def open(cls, folder: Path, manifest: Manifest, threads: int | None) -> Self:
        """Compile for one low-latency stream; compiled models are cached on disk for the next start."""
        import openvino as ov

        try:
            core = ov.Core()
            config = {
                "PERFORMANCE_HINT": "LATENCY",
                "NUM_STREAMS": "1",
                "INFERENCE_NUM_THREADS": threads or usable_cores(),
                "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[str(cls.numerics)],
            }
            if (cache := cache_folder("openvino")) is not None:
                config["CACHE_DIR"] = str(cache)
            compiled = core.compile_model(str(folder / GRAPH_NAME), "CPU", config)
        except Exception as error:
            raise failed(cls.backend, error) from error
        return cls(manifest, compiled)

    def __init__(self, manifest: Manifest, compiled: Any) -> None:
        super().__init__(manifest)
        self._request = compiled.create_infer_request()

    def _infer(self, image: NDArray[np.uint8], views: Neighbours | None = None) -> Outputs:
        inputs = {IMAGE: image, **(views.tensors if views else {})}
        try:
            self._request.infer(inputs, share_inputs=True)
            return {spec.name: self._request.get_tensor(spec.name).data for spec in self._specs}
        except Exception as error:
            raise failed(self.backend, error) from error

    def close(self) -> None:
        """Drop the compiled model."""
        self._request = None


class Bf16Engine(Fp32Engine):
    """OpenVINO's CPU plugin in bf16 (AVX512-BF16 or AMX): about twice as fast, with the noise of 8 mantissa bits."""

    backend = "openvino-bf16"
    numerics = "bf16"

    @classmethod
    def unavailable(cls) -> str | None:
        """Is the package there, and does the CPU have bf16 instructions."""
        if (missing := super().unavailable()) is not None:
            return missing
        import openvino as ov

        if "BF16" not in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            return "this CPU has no bf16 instructions (AVX512-BF16 or AMX); nothing to install"
        return None
