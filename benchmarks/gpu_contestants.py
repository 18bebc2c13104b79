"""Who takes part in gpu.py: PyTorch, ONNX Runtime, TensorRT, and our own backends, over the same weights.

Each has two ways in. `step` enqueues one inference on the clock's stream, input and outputs staying on the device: the
engine time. `infer` takes a picture from host memory and returns the outputs there: what a robot waits for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gpu_names import ORT, RUNTIME, STRICT, TENSORRT, TF32, TORCH
from torch_forms import Form, build, perceive, picture_for

from m2h_runtime.engine.contract import contract_version, input_spec, output_specs
from m2h_runtime.engine.manifest import (
    GRAPH_NAME,
    PLAN_NAME,
    Checkpoint,
    GraphFacts,
    Manifest,
    Parity,
    Target,
    file_facts,
)
from m2h_runtime.engine.select import backend_class
from m2h_runtime.label_space import default_label_space
from m2h_runtime.perception import Perception

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray
    from timing import Clock


@dataclass
class Contestant:
    """`step` is None where a backend does not show its engine alone; it computes in "fp32", "tf32" or "fp16"."""

    infer: Callable[[NDArray[np.uint8]], Any]
    step: Callable[[], object] | None
    computes_in: str


def contestant(name: str, folder: Path, size: tuple[int, int], clock: Clock) -> Contestant:
    """Open one.

    Raises:
        SystemExit: it cannot be here; says why and what would add it.
    """
    if name in TORCH:
        return in_torch(name, folder.name, size, clock)
    if not (folder / "fp16" / GRAPH_NAME).is_file():
        raise SystemExit("no graph to run, its export failed (see cost)")
    if name in ORT:
        return in_onnxruntime(name, folder, size, clock)
    if name in TENSORRT:
        return in_tensorrt(name, folder, size, clock)
    return in_runtime(name, folder, size, clock)


def device_of(clock: Clock) -> str:
    """Where its work runs: "cuda" or "cpu"."""
    return "cpu" if clock.stream is None else "cuda"


def in_torch(name: str, model: str, size: tuple[int, int], clock: Clock) -> Contestant:
    """The network itself on a prepared picture; `infer` adds what the engines have in their graphs."""
    if name in TF32:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = TF32[name]
    device, form = device_of(clock), Form(**TORCH[name])
    if device == "cpu" and form.precision == "fp16":
        raise SystemExit("PyTorch's fp16 is for GPUs: on a CPU a frame takes seconds")
    graph = build(model, size, form, device)
    picture = picture_for(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8), device)
    kind = "fp16" if form.precision == "fp16" else "fp32" if name == STRICT else "tf32"
    step = torch.inference_mode()(partial(graph.network, picture))
    return Contestant(partial(perceive, graph, device=device), step, kind)


class Buffers:
    """Static tensors of the engine contract on the device, with pinned twins in host memory."""

    def __init__(self, size: tuple[int, int], clock: Clock) -> None:
        self.clock, self.device = clock, device_of(clock)
        self.specs = {spec.name: spec for spec in (input_spec(*size), *output_specs(*size))}
        types = {name: torch.from_numpy(np.empty(0, spec.dtype)).dtype for name, spec in self.specs.items()}
        pinned = self.device == "cuda"
        self.host = {
            n: torch.zeros(s.shape, dtype=types[n], pin_memory=pinned) for n, s in self.specs.items()
        }
        self.there = {n: value.to(self.device, copy=True) for n, value in self.host.items()}

    def infer(self, run: Callable[[], object], image: NDArray[np.uint8]) -> Perception:
        """Upload, run, download, wait."""
        self.host["image"].numpy()[0] = image
        with self.clock.on_stream():
            self.there["image"].copy_(self.host["image"], non_blocking=True)
            run()
            for name in [name for name in self.specs if name != "image"]:
                self.host[name].copy_(self.there[name], non_blocking=True)
        self.clock.wait()
        return perception({name: self.host[name].numpy() for name in self.specs})


def perception(outputs: dict[str, NDArray[Any]]) -> Perception:
    """The contract's outputs as our own type."""
    return Perception(
        depth=outputs["depth"][0].copy(),
        semantics=outputs["semantics"][0].copy(),
        confidence=outputs["confidence"][0].copy(),
        normals=outputs["normals"][0].transpose(1, 2, 0).copy(),
        edges=outputs["edges"][0].copy(),
        label_space=default_label_space(41),
    )


def in_onnxruntime(name: str, folder: Path, size: tuple[int, int], clock: Clock) -> Contestant:
    """ONNX Runtime over the typed graph; on a CPU its CPU provider, so that this very code is tested."""
    precision, binding, provider, graph = ORT[name]
    session = _session(folder / precision / GRAPH_NAME, provider, graph, clock)
    names = [spec.name for spec in output_specs(*size)]
    if not binding:

        def infer(image: NDArray[np.uint8]) -> Perception:
            return perception(dict(zip(names, session.run(names, {"image": image[None]}), strict=True)))

        return Contestant(infer, None, precision)
    import onnxruntime as ort

    buffers, bound, options = Buffers(size, clock), session.io_binding(), ort.RunOptions()
    # The clock's events wait for the stream; without this the session would wait as well.
    options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    for key, tensor in buffers.there.items():
        bind = bound.bind_input if key == "image" else bound.bind_output
        bind(
            key, buffers.device, 0, buffers.specs[key].dtype.type, list(tensor.shape), int(tensor.data_ptr())
        )
    step = partial(session.run_with_iobinding, bound, options)
    return Contestant(partial(buffers.infer, step), step, precision)


def _session(path: Path, provider: str, graph: bool, clock: Clock) -> Any:
    """A session on the clock's stream whose first provider is the one asked for.

    Raises:
        SystemExit: ONNX Runtime or the provider is not there.
    """
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise SystemExit(f"{error}: pip install onnxruntime-gpu") from error
    if clock.stream is None:
        if graph:
            raise SystemExit("a CPU has no CUDA graphs")
        return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    if f"{provider}ExecutionProvider" not in ort.get_available_providers():
        raise SystemExit(f"this onnxruntime has no {provider} provider: pip install onnxruntime-gpu")
    stream = {"device_id": "0", "user_compute_stream": str(clock.stream.cuda_stream)}
    cuda = ("CUDAExecutionProvider", {**stream, "enable_cuda_graph": str(int(graph)), "use_tf32": "0"})
    trt = (
        "TensorrtExecutionProvider",
        {**stream, "trt_fp16_enable": "1", "trt_cuda_graph_enable": str(int(graph))},
    )
    options = ort.SessionOptions()
    options.log_severity_level = 3
    providers = [cuda] if provider == "CUDA" else [trt, ("CUDAExecutionProvider", stream)]
    session = ort.InferenceSession(str(path), options, providers=providers)
    if session.get_providers()[0] != f"{provider}ExecutionProvider":
        raise SystemExit(f"the {provider} provider did not start: its libraries do not load or do not fit")
    return session


def in_tensorrt(name: str, folder: Path, size: tuple[int, int], clock: Clock) -> Contestant:
    """A plan of the typed graph, enqueued on the clock's stream by a CUDA graph."""
    kind = name.removesuffix("-fp16")
    manifest = with_plan(folder, kind, size, clock)
    from m2h_runtime.engine import trt_library

    trt = trt_library.load(kind)  # type: ignore[arg-type]
    messages = trt_library.collect_messages(trt)
    runtime = trt.Runtime(messages.logger)
    engine = runtime.deserialize_cuda_engine((folder / kind / PLAN_NAME).read_bytes())
    if engine is None:
        raise SystemExit(f"{kind} {manifest.target.tensorrt} cannot load its plan: {messages.first_error()}")
    context, buffers = engine.create_execution_context(), Buffers(size, clock)
    for key, tensor in buffers.there.items():
        context.set_tensor_address(key, tensor.data_ptr())
    graph = torch.cuda.CUDAGraph()
    with clock.on_stream():
        context.execute_async_v3(clock.stream.cuda_stream)  # allocates; only what comes after can be captured
        clock.wait()
        with torch.cuda.graph(graph, stream=clock.stream):
            context.execute_async_v3(clock.stream.cuda_stream)

    def step(_owners: object = (runtime, engine, context)) -> None:  # they have to live as long as the graph
        graph.replay()

    return Contestant(partial(buffers.infer, step), step, "fp16")


def in_runtime(name: str, folder: Path, size: tuple[int, int], clock: Clock) -> Contestant:
    """One of our own backends, as `open_engine` would open it."""
    backend, precision = RUNTIME[name], "fp32" if name.endswith("cpu") else "fp16"
    loaded = backend_class(backend)
    if (why := loaded.unavailable()) is not None:
        raise SystemExit(why)
    place = folder / precision
    if "tensorrt" in backend:
        manifest = with_plan(folder, backend, size, clock)
        place = folder / backend
    else:
        manifest = manifest_of(place, folder.name, size, precision)
    engine = loaded.open(place, manifest, None)
    return Contestant(engine.infer, None, precision)


def with_plan(folder: Path, kind: str, size: tuple[int, int], clock: Clock) -> Manifest:
    """Build the plan unless it is there, lay it out as an engine folder and return its manifest."""
    if clock.stream is None:
        raise SystemExit("plans run on a GPU only")
    from m2h_export.tensorrt_build import build_plan
    from m2h_runtime.engine import trt_library

    if (why := trt_library.missing(kind)) is not None:  # type: ignore[arg-type]
        raise SystemExit(why)
    note = folder / kind / "target.json"
    if not note.is_file():
        note.parent.mkdir(exist_ok=True)
        major, minor = torch.cuda.get_device_capability()
        built = build_plan(
            folder / "fp16" / GRAPH_NAME,
            note.parent / PLAN_NAME,
            kind=kind,  # type: ignore[arg-type]
            compute_capability=f"{major}.{minor}" if kind == "tensorrt-rtx" else None,
        )
        facts = {"tensorrt": built.tensorrt, "compute_capability": built.compute_capability, "gpu": built.gpu}
        note.write_text(json.dumps(facts))
    return manifest_of(note.parent, folder.name, size, "fp16", Target(kind, **json.loads(note.read_text())))  # type: ignore[arg-type]


def manifest_of(
    place: Path, model: str, size: tuple[int, int], precision: str, target: Target | None = None
) -> Manifest:
    """What a backend wants to know of an engine; m2h-export writes the whole of it."""
    return Manifest(
        contract=contract_version(None),
        name=model,
        size=size,
        precision=precision,  # type: ignore[arg-type]
        label_space=default_label_space(41),
        depth_range_m=(0.001, None),
        normals_frame="camera_optical",
        resize="stretch",
        checkpoint=Checkpoint("random weights, seed 0", "", random_weights=True, seed=0),
        target=target or Target("onnx"),
        graph=GraphFacts(0, 0, 0, 0.0, 0.0),
        parity=Parity("unverified", "PyTorch fp32, in this run"),
        files={
            name: file_facts(place / name) for name in (GRAPH_NAME, PLAN_NAME) if (place / name).is_file()
        },
    )
