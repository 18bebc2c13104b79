"""What a frame of a cross-view stream costs against the papers' scheme, and where it goes: encoder, CvM, heads.

    python benchmarks/cvm_latency.py --engines out/engines --out benchmarks/results/cvm_latency.json

"stream" is the engine as a robot runs it: one frame, its neighbour's features handed in. "two-views" sends both pictures
through everything, in one graph with the same rewrites. First equal: the stream's five outputs with the features that it
gave for the second picture are those of two-views for the first, and differ from those of the second. Then all of them take
turns (turns.py), in PyTorch eager fp32 too; the figure is stream / two-views within a round. Random weights: no accuracy.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from cvm_parts import GRAPHS, PARTS  # beside this script
from machine import facts
from turns import exported, own_process, possible_backends, take_turns, timed

from m2h_runtime.cli.arguments import network_size
from m2h_runtime.engine.contract import OUTPUT_NAMES, Neighbours
from m2h_runtime.engine.manifest import read_manifest
from m2h_runtime.engine.ort import usable_cores
from m2h_runtime.engine.parity import compare, summary, violations
from m2h_runtime.engine.select import backend_class
from m2h_runtime.engine.selftest import read_golden
from m2h_runtime.files import write_atomically
from m2h_runtime.perception import Perception

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from m2h_runtime.engine.base import Engine

    Run = Callable[[dict[str, NDArray[Any]]], dict[str, NDArray[Any]]]

SIZES = {"cvm-nano": (96, 128), "cvm-vits": (448, 576), "cvm-vitl": (448, 576)}
BACKENDS = ("onnxruntime-cpu", "openvino", "openvino-bf16")
PYTORCH = "pytorch-eager"
NUMERICS = {"openvino-bf16": "bf16"}
GOAL = 0.62
PAPERS = {"encoder_ms": 40.15, "cvm_ms": 10.15, "views": 2, "network": "cvm-vitl", "size": [448, 576]}
"""Table A16 of the papers, on their GPU."""
HERE = Path(__file__).resolve()


def session(graph: Path, backend: str, threads: int) -> Run:
    """A graph on a backend: arrays by name in, arrays by name out."""
    if backend == "onnxruntime-cpu":
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        ready = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        names = [output.name for output in ready.get_outputs()]
        return lambda inputs: dict(zip(names, ready.run(names, inputs), strict=True))
    import openvino as ov

    config = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "bf16" if backend == "openvino-bf16" else "f32",
    }
    compiled = ov.Core().compile_model(str(graph), "CPU", config)
    request, outputs = compiled.create_infer_request(), [port.any_name for port in compiled.outputs]

    def run(inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        request.infer(inputs, share_inputs=True)
        return {name: request.get_tensor(name).data for name in outputs}

    return run


def inputs_of(graph: Path) -> dict[str, NDArray[Any]]:
    """Random values for every input, and a pose and a camera that make sense."""
    import onnx

    model = onnx.load(graph)
    rng = np.random.default_rng(0)
    found: dict[str, NDArray[Any]] = {}
    for value in model.graph.input:
        kind = value.type.tensor_type
        shape = [dim.dim_value for dim in kind.shape.dim]
        if kind.elem_type == onnx.TensorProto.UINT8:
            found[value.name] = rng.integers(0, 256, shape, np.uint8)
        else:
            found[value.name] = rng.standard_normal(shape, np.float32)
    if "intrinsics" in found:
        found["intrinsics"] = np.array((500, 500, 287.5, 223.5), np.float32)
        found["neighbour_from_camera"][:] = np.eye(3, 4)
        found["neighbour_from_camera"][:, 0, 3] = 0.1
    return found


def turn(model: str, who: str, args: argparse.Namespace) -> dict[str, float]:
    """One contestant's milliseconds per call; `who` is "stream", "two-views" or a part, and a backend."""
    what, backend = who.split(" ")
    if backend == PYTORCH:
        import torch
        from cvm_parts import in_pytorch

        torch.set_num_threads(args.threads)
        return timed(in_pytorch(model, what, size_of(model, args)), args.seconds)
    engine = engine_of(model, args)
    if what == "stream":
        golden = read_golden(engine, read_manifest(engine))
        with backend_class(backend).open(engine, read_manifest(engine), args.threads) as opened:
            return timed(partial(opened.infer, golden.image, golden.views), args.seconds)
    graph = graphs_of(engine) / f"{what}.onnx"
    return timed(partial(session(graph, backend, args.threads), inputs_of(graph)), args.seconds)


def prove(model: str, backend: str, args: argparse.Namespace) -> dict[str, Any]:
    """That the stream and two-views say the same about the first of two pictures, and not about the second.

    Raises:
        SystemExit: they differ, or the second passes too.
    """
    folder = engine_of(model, args)
    manifest = read_manifest(folder)
    golden = read_golden(folder, manifest)
    assert golden.views is not None
    images = np.stack([golden.image, np.roll(golden.image, 12, axis=1)])
    pose, camera = golden.views.neighbour_from_camera, golden.views.intrinsics
    with backend_class(backend).open(folder, manifest, args.threads) as engine:
        first, second = streamed(engine, images, pose, camera), streamed(engine, images[::-1], pose, camera)
    run = session(graphs_of(folder) / "two-views.onnx", backend, args.threads)
    both = run({"images": images, "neighbour_from_camera": np.repeat(pose, 2, axis=0), "intrinsics": camera})
    found = Perception(
        **{name: both[f"{name}_0"][0].copy() for name in OUTPUT_NAMES if name != "normals"},
        normals=np.ascontiguousarray(both["normals_0"][0].transpose(1, 2, 0)),
        label_space=manifest.label_space,
    )
    numerics = NUMERICS.get(backend, "fp32")
    mean, worst = summary([compare(found, first)])
    if problems := violations(mean, worst, numerics):
        raise SystemExit(f"{model} {backend}: stream and two-views differ ({'; '.join(problems)})")
    if not violations(*summary([compare(found, second)]), numerics):
        raise SystemExit(f"{model} {backend}: the second picture passes, so the comparison proves nothing")
    return {"numerics": numerics, **mean}


def streamed(
    engine: Engine, images: NDArray[np.uint8], pose: NDArray[np.float32], camera: NDArray[np.float32]
) -> Perception:
    """The first picture with the features of the second."""
    engine.infer(np.ascontiguousarray(images[1]))
    assert engine.features is not None
    return engine.infer(np.ascontiguousarray(images[0]), Neighbours(engine.features, pose, camera))


def one_model(model: str, args: argparse.Namespace) -> dict[str, Any]:
    """Export, prove, take turns. Returns a row per backend."""
    height, width = size_of(model, args)
    options = ["--images", args.images] if args.images else []
    engine = exported(engine_of(model, args), model, (height, width), *options)
    own_process(HERE.with_name("cvm_parts.py"), [model, f"{height}x{width}", graphs_of(engine)])
    backends = possible_backends(engine, args.backends)
    with tempfile.TemporaryDirectory() as scratch:
        common = ["--models", model, "--engines", args.engines, "--threads", args.threads]
        common += ["--size", f"{height}x{width}", "--seconds", args.seconds]
        process = partial(own_process, HERE, environment={"M2H_CACHE": scratch})
        proofs = {name: process([*common, "--prove", name]) for name in backends}
        contestants = [
            f"{what} {name}" for name in (*backends, PYTORCH) for what in ("stream", "two-views", *PARTS)
        ]
        times = take_turns(
            contestants, args.rounds, lambda who: float(process([*common, "--turn", who])["ms"]), model
        )
    rows = {name: row(times, name) | {"proof": proofs.get(name)} for name in (*backends, PYTORCH)}
    return {"size": [height, width], "gflop": gflops(engine), "rows": rows}


def row(times: dict[str, list[float]], backend: str) -> dict[str, Any]:
    """Milliseconds of everything on one backend, and stream / two-views within the rounds."""
    ms = {what: times[f"{what} {backend}"] for what in ("stream", *GRAPHS)}
    ratios = [own / both for own, both in zip(ms["stream"], ms["two-views"], strict=True)]
    return {
        "median_ms": {what: round(median(own), 3) for what, own in ms.items()},
        "turns_ms": {what: [round(one, 3) for one in own] for what, own in ms.items()},
        "ratio": round(median(ratios), 4),
        "ratio_min": round(min(ratios), 4),
        "ratio_max": round(max(ratios), 4),
    }


def gflops(engine: Path) -> dict[str, float]:
    """Of the stream, of two-views and of the parts: convolutions and matrix products, 2 per multiply-add."""
    import onnx

    from m2h_export.deploy.cost import gflop

    found = {"stream": read_manifest(engine).graph.gflop}
    return found | {name: round(gflop(onnx.load(graphs_of(engine) / f"{name}.onnx")), 2) for name in GRAPHS}


def size_of(model: str, args: argparse.Namespace) -> tuple[int, int]:
    """The one asked for, or the network's own."""
    return args.size or SIZES[model]


def engine_of(model: str, args: argparse.Namespace) -> Path:
    """Where the engine lies or is made."""
    height, width = size_of(model, args)
    folder: Path = args.engines / f"{model}-{height}x{width}"
    return folder.resolve()


def graphs_of(engine: Path) -> Path:
    """Where the other graphs of the same network lie."""
    return engine.with_name(f"{engine.name}-parts")


def main() -> None:
    """Take turns for every network, write the JSON after each and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engines", type=Path, required=True, help="where engines lie or are made")
    parser.add_argument("--models", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--size", type=network_size, metavar="HxW", help="instead of each network's own")
    parser.add_argument("--backends", nargs="+", default=list(BACKENDS), choices=BACKENDS)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5, help="of timed calls in a turn, two at least")
    parser.add_argument("--images", metavar="GLOB", help="of the parity check, where engines are made")
    parser.add_argument("--out", type=Path, help="JSON file; networks that it has already are kept")
    parser.add_argument("--prove", metavar="BACKEND", help=argparse.SUPPRESS)
    parser.add_argument("--turn", metavar="CONTESTANT", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.prove or args.turn:
        model = args.models[0]
        print(json.dumps(prove(model, args.prove, args) if args.prove else turn(model, args.turn, args)))
        return
    kept = json.loads(args.out.read_text()) if args.out and args.out.is_file() else {}
    command = "python " + " ".join(sys.argv)
    result = {
        "command": command,
        "machine": facts(),
        "threads": args.threads,
        "papers": PAPERS,
        "models": kept.get("models", {}),
        "commands": kept.get("commands", {}),
    }
    for model in args.models:
        result["models"][model], result["commands"][model] = one_model(model, args), command
        if args.out:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(args.out, (json.dumps(result, indent=1) + "\n").encode())
    for model, found in result["models"].items():
        for name, told in found["rows"].items():
            ms = ", ".join(f"{what} {value:.1f}" for what, value in told["median_ms"].items())
            print(f"{model:10} {name:16} stream / two-views {told['ratio']:.3f}   ms: {ms}")


if __name__ == "__main__":
    main()
