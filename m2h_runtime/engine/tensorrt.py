"""TensorRT and TensorRT-RTX plans: static pinned buffers, one stream, a CUDA graph. One implementation of both.

Not run on a GPU yet: the checks before loading, and what happens without a driver, are tested; inference is not.
See docs/tensorrt.md. The self-test of `open_engine` judges every plan on the device itself.
"""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from m2h_runtime.engine import cuda, trt_library
from m2h_runtime.engine.base import Engine
from m2h_runtime.engine.contract import IMAGE, input_specs, output_specs
from m2h_runtime.engine.manifest import PLAN_NAME
from m2h_runtime.errors import ContractError, EngineError, EngineMismatchError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from typing_extensions import Self

    from m2h_runtime.engine.contract import Neighbours, Outputs, TensorSpec, Views
    from m2h_runtime.engine.manifest import Manifest
    from m2h_runtime.engine.trt_library import Kind, Messages

log = logging.getLogger("m2h")


def check_version(manifest: Manifest, kind: Kind, version: str) -> None:
    """Is the plan for this very version of the library: plans do not travel between versions.

    Raises:
        EngineMismatchError: names both versions and the command that makes a fitting plan.
    """
    built = manifest.target.tensorrt
    if built != version:
        raise EngineMismatchError(
            f"{PLAN_NAME} is for {kind} {built}, here is {version}. Build one that fits: {_export_command(manifest)}"
        )


def check_device(manifest: Manifest, compute_capability: str) -> None:
    """Is the plan for a GPU of this compute capability.

    Raises:
        EngineMismatchError: names both and the command that makes a fitting plan.
    """
    built = manifest.target.compute_capability
    if built != compute_capability:
        raise EngineMismatchError(
            f"{PLAN_NAME} is for compute capability {built}, this GPU is {compute_capability}. "
            f"Build one that fits: {_export_command(manifest, compute_capability)}"
        )


def _export_command(manifest: Manifest, compute_capability: str | None = None) -> str:
    height, width = manifest.size
    kind = manifest.target.kind
    capability = compute_capability or manifest.target.compute_capability
    ahead = f" --compute-capability {capability}" if kind == "tensorrt-rtx" else ""
    weights = (
        "--random-weights"
        if manifest.checkpoint.random_weights
        else f"--checkpoint {manifest.checkpoint.file}"
    )
    return (
        f"m2h-export --model {manifest.name} {weights} --size {height}x{width} --precision {manifest.precision} "
        f"--target {kind}{ahead} --out FOLDER"
    )


class TensorRTEngine(Engine):
    """A plan of TensorRT 10 or 11, built on the machine that it runs on."""

    backend = "tensorrt"
    kind: ClassVar[Kind] = "tensorrt"

    @classmethod
    def unavailable(cls) -> str | None:
        """Are the library, cuda-python and a device there."""
        return trt_library.missing(cls.kind) or cuda.device_problem()

    @classmethod
    def open(cls, folder: Path, manifest: Manifest, threads: int | None) -> Self:  # noqa: ARG003 (a GPU has its own)
        """Check version and device, load the plan, make the buffers, run once and capture the CUDA graph."""
        trt = trt_library.load(cls.kind)
        check_version(manifest, cls.kind, trt.__version__)
        check_device(manifest, cuda.device_facts()[1])
        messages = trt_library.collect_messages(trt)
        runtime = trt.Runtime(messages.logger)
        engine = runtime.deserialize_cuda_engine((folder / PLAN_NAME).read_bytes())
        if engine is None:  # the API's way of failing; using it would end the process
            raise EngineError(f"{folder / PLAN_NAME}: {cls.backend} cannot load it: {messages.first_error()}")
        check_tensors(trt, engine, manifest.size, manifest.views)
        return cls(manifest, engine, messages)

    def __init__(self, manifest: Manifest, engine: Any, messages: Messages) -> None:
        super().__init__(manifest)
        self._engine, self._messages, self._graph = engine, messages, None
        messages.clear()
        cudart = cuda.runtime()
        with ExitStack() as undo:
            self._context = engine.create_execution_context()
            if self._context is None:
                raise EngineError(f"{self.backend}: no execution context: {messages.first_error()}")
            self._stream = cuda.call(cudart.cudaStreamCreateWithFlags(cudart.cudaStreamNonBlocking))
            undo.callback(lambda: cudart.cudaStreamDestroy(self._stream))
            self._began, self._ended = (_event(undo) for _ in range(2))
            self._inputs = {spec.name: self._buffer(spec, undo) for spec in self._input_specs}
            self._outputs = {spec.name: self._buffer(spec, undo) for spec in self._specs}
            self._enqueue()  # the first run allocates; only what comes after it can be captured
            cuda.call(cudart.cudaStreamSynchronize(self._stream))
            started = time.perf_counter()
            self._enqueue()
            launch_ms = 1e3 * (time.perf_counter() - started)
            cuda.call(cudart.cudaStreamSynchronize(self._stream))
            self._capture(undo, launch_ms)
            self._undo = undo.pop_all()

    def _buffer(self, spec: TensorSpec, undo: ExitStack) -> cuda.Buffer:
        buffer = cuda.Buffer(spec.shape, spec.dtype)
        undo.callback(buffer.free)
        if not self._context.set_tensor_address(spec.name, buffer.device):
            raise EngineError(
                f"{self.backend}: tensor {spec.name} not accepted: {self._messages.first_error()}"
            )
        return buffer

    def _enqueue(self) -> None:
        """Upload, run, download, all on the one stream."""
        for buffer in self._inputs.values():
            buffer.upload(self._stream)
        if not self._context.execute_async_v3(int(self._stream)):
            raise EngineError(f"{self.backend}: the engine failed: {self._messages.first_error()}")
        for buffer in self._outputs.values():
            buffer.download(self._stream)

    def _capture(self, undo: ExitStack, launch_ms: float) -> None:
        """Record one frame as a CUDA graph; without one every frame is enqueued anew, `launch_ms` of CPU time."""
        cudart = cuda.runtime()
        mode = cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        try:
            cuda.call(cudart.cudaStreamBeginCapture(self._stream, mode))
            try:
                self._enqueue()
            finally:
                recorded = cuda.call(cudart.cudaStreamEndCapture(self._stream))
            self._graph = cuda.call(cudart.cudaGraphInstantiate(recorded, 0))
            cudart.cudaGraphDestroy(recorded)
            undo.callback(lambda: cudart.cudaGraphExecDestroy(self._graph))
        except EngineError as error:
            self._graph = None
            cudart.cudaGetLastError()  # or TensorRT would blame a later call for it
            log.warning(
                "%s: no CUDA graph (%s), so every frame costs the CPU %.2f ms to launch its kernels",
                self.backend,
                error,
                launch_ms,
            )

    def _infer(self, image: NDArray[np.uint8], views: Neighbours | None = None) -> Outputs:
        if self._engine is None:  # its pinned memory is gone: writing there would end the process
            raise EngineError(f"{self.backend}: the engine is closed; open it again")
        cudart = cuda.runtime()
        np.copyto(self._inputs[IMAGE].host, image)
        for name, tensor in (views.tensors if views else {}).items():
            np.copyto(self._inputs[name].host, tensor)
        cuda.call(cudart.cudaEventRecord(self._began, self._stream))
        if self._graph is not None:
            cuda.call(cudart.cudaGraphLaunch(self._graph, self._stream))
        else:
            self._enqueue()
        cuda.call(cudart.cudaEventRecord(self._ended, self._stream))
        cuda.call(cudart.cudaStreamSynchronize(self._stream))
        self.device_ns = round(1e6 * cuda.call(cudart.cudaEventElapsedTime(self._began, self._ended)))
        return {name: buffer.host for name, buffer in self._outputs.items()}

    def close(self) -> None:
        """Free graph, buffers and stream, then the engine."""
        self._undo.close()
        self._context = self._engine = None


def _event(undo: ExitStack) -> Any:
    cudart = cuda.runtime()
    event = cuda.call(cudart.cudaEventCreate())
    undo.callback(lambda: cudart.cudaEventDestroy(event))
    return event


class TensorRTRtxEngine(TensorRTEngine):
    """A plan of TensorRT-RTX, built ahead of time for a compute capability; kernels are compiled at the first run."""

    backend = "tensorrt-rtx"
    kind: ClassVar[Kind] = "tensorrt-rtx"


def check_tensors(trt: Any, engine: Any, size: tuple[int, int], views: Views | None = None) -> None:
    """Compare a loaded plan's tensors with the contract.

    Raises:
        ContractError: one is missing, unknown, or of another type or shape.
    """
    wanted = {spec.name: spec for spec in (*input_specs(*size, views), *output_specs(*size, views))}
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    if set(names) != set(wanted):
        raise ContractError(f"{PLAN_NAME}: expected the tensors {sorted(wanted)}, got {sorted(names)}")
    for name, spec in wanted.items():
        dtype, shape = (
            np.dtype(trt.nptype(engine.get_tensor_dtype(name))),
            tuple(engine.get_tensor_shape(name)),
        )
        if (dtype, shape) != (spec.dtype, spec.shape):
            raise ContractError(f"{PLAN_NAME}: {name} is {shape} {dtype}, expected {spec.shape} {spec.dtype}")
