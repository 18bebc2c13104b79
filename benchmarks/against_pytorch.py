"""Engine latency on this CPU against the same weights in plain PyTorch, compiled PyTorch and the graph as published.

    python benchmarks/against_pytorch.py --rounds 5 --engines out/engines --out benchmarks/results/cpu_speed.json

First equal: each contestant's five outputs for the engine's golden photograph are compared with PyTorch fp32, within the
limits of m2h_runtime/engine/parity.py, and the comparison has to fail for the mirrored photograph. An engine or a baseline
that is not equal ends the run; another PyTorch contestant that is not (bf16 may be) says so in its row.

Then fast: contestants take turns (turns.py), two matrix products that give the arithmetic peak among them. PyTorch runs
the bare network on a prepared picture; engines and graphs also normalise, decide classes and hand out their own arrays.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from equality import proof
from machine import facts  # beside this script
from turns import TurnError, compared, exported, own_process, possible_backends, take_turns, timed

from m2h_runtime.engine.manifest import GRAPH_NAME, read_manifest
from m2h_runtime.engine.ort import usable_cores
from m2h_runtime.engine.select import backend_class
from m2h_runtime.engine.selftest import read_golden
from m2h_runtime.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from m2h_runtime.perception import Perception

SIZE = (224, 224)
MODELS = ("m2h-nano", "m2h-small", "m2h")
BF16 = {"precision": "bf16"}
AUTOCAST = {**BF16, "autocast": True}
FORMS: dict[str, dict[str, Any]] = {  # arguments of torch_forms.Form
    "eager": {},
    "eager-channels-last": {"channels_last": True},
    "eager-autocast": AUTOCAST,
    "eager-bf16": BF16,
    "compile": {"compiled": "default"},
    "compile-autocast": {"compiled": "default", **AUTOCAST},
    "compile-bf16": {"compiled": "default", **BF16},
    "rewritten-eager": {"rewritten": True},
    "rewritten-eager-bf16": {"rewritten": True, **BF16},
    "rewritten-compile": {"rewritten": True, "compiled": "default"},
    "rewritten-compile-bf16": {"rewritten": True, "compiled": "default", **BF16},
}
BACKENDS = ("onnxruntime-cpu", "openvino", "openvino-bf16")
PUBLISHED = tuple(f"published-{name}" for name in BACKENDS)
INT8 = ("int8-openvino", "int8-openvino-bf16")
CONTESTANTS = (*FORMS, *PUBLISHED, *BACKENDS, *INT8)
PEAKS = ("peak-fp32", "peak-bf16")


class Contestant:
    """One way to run a network: `infer` gives its perception of an image, `step` is what is timed."""

    def __init__(self, name: str, model: str, engine: Path, threads: int, image: NDArray[np.uint8]) -> None:
        self.infer: Callable[[NDArray[np.uint8]], Perception]
        self.step: Callable[[], object]
        if name in FORMS:
            import torch
            from torch_forms import Form, build, perceive, picture_for

            torch.set_num_threads(threads)
            form = Form(**FORMS[name])
            graph, picture = build(model, (image.shape[0], image.shape[1]), form), picture_for(image)
            self.infer, self.numerics = partial(perceive, graph), form.precision
            self.step = torch.inference_mode()(partial(graph.network, picture))
            return
        backend = backend_class(backend_of(name))
        folder = as_published(engine) if name in PUBLISHED else in_int8(engine) if name in INT8 else engine
        opened = backend.open(folder, read_manifest(engine), threads)
        self.infer = opened.infer
        self.numerics = "int8" if name in INT8 else opened.numerics or "fp32"
        self.step = partial(opened.infer, image)


def backend_of(name: str) -> str:
    """The backend that a contestant runs on."""
    return name.removeprefix("published-").removeprefix("int8-")


def in_int8(engine: Path) -> Path:
    """Where the int8 engine of the same network lies."""
    return engine.with_name(f"{engine.name}-int8")


def as_published(engine: Path) -> Path:
    """Where the graph without our rewrites lies."""
    return engine.with_name(f"{engine.name}-as-published")


def prove(name: str, model: str, engine: Path, threads: int) -> dict[str, Any]:
    """How far a contestant is from PyTorch fp32 as published, and how long it took to be ready."""
    golden = read_golden(engine, read_manifest(engine))
    start = time.perf_counter()
    contestant = Contestant(name, model, engine, threads, golden.image)
    contestant.step()
    ready_s = time.perf_counter() - start
    told = proof(contestant.infer, golden.image, golden.outputs, contestant.numerics)
    return {**told, "ready_s": round(ready_s, 2)}


def turn(name: str, model: str, engine: Path, threads: int, seconds: float) -> dict[str, float]:
    """Milliseconds per frame, or per matrix product."""
    if name in PEAKS:
        import torch
        from peak import SIDE, gflops

        torch.set_num_threads(threads)
        rate = gflops({"peak-fp32": torch.float32, "peak-bf16": torch.bfloat16}[name])
        return {"ms": 2 * SIDE**3 / rate / 1e6}
    image = read_golden(engine, read_manifest(engine)).image
    return timed(Contestant(name, model, engine, threads, image).step, seconds)


def export_as_published(model: str, engine: Path) -> None:
    """The graph of the published structure, with the contract around and nothing rewritten."""
    folder = as_published(engine)
    if (folder / GRAPH_NAME).is_file():
        return
    from m2h_export.deploy.contract_stage import published_graph
    from m2h_export.deploy.graph import export_graph
    from m2h_export.models import build_model
    from m2h_export.random_weights import fill_weights

    network = build_model(model).eval()
    fill_weights(network, 0)
    folder.mkdir(parents=True, exist_ok=True)
    graph = export_graph(published_graph(network, None, (1, 1, 1)), read_manifest(engine).size)
    write_atomically(folder / GRAPH_NAME, graph.SerializeToString())


def one_model(model: str, args: argparse.Namespace) -> dict[str, Any]:
    """Prove, then take turns. Returns the rows, the peaks and who is missing."""
    engine = exported((args.engines / model).resolve(), model, SIZE)
    fitting = possible_backends(engine, BACKENDS)
    names = [n for n in args.contestants if n in FORMS or backend_of(n) in fitting]
    if any(name in PUBLISHED for name in names):
        export_as_published(model, engine)
    if any(name in INT8 for name in names):
        exported(in_int8(engine), model, SIZE, "--precision", "int8", "--target", "openvino")
    with tempfile.TemporaryDirectory() as scratch:
        process = partial(
            own_process,
            Path(__file__),
            environment={"TORCHINDUCTOR_CACHE_DIR": scratch},  # compiled cold once, warm at each turn
        )
        common = ["--models", model, "--engines", args.engines, "--threads", args.threads]
        proofs, missing = {}, {}
        for name in names:
            try:
                proofs[name] = process([*common, "--prove", name])
            except TurnError as error:
                missing[name] = str(error)
                print(f"{model}: without {name}: {error}", flush=True)
                continue
            problems = "; ".join(proofs[name]["problems"]) or "equal"
            print(f"{model}: {name}: {problems}, ready after {proofs[name]['ready_s']:.1f} s", flush=True)
            if proofs[name]["problems"] and (name == "eager" or name not in FORMS):
                raise SystemExit(
                    f"{model} {name}: not what PyTorch fp32 gives ({problems}); nothing is timed"
                )
        if "eager" in missing:
            raise SystemExit(f"{model}: no baseline: {missing['eager']}")

        def one_turn(name: str) -> float:
            return float(process([*common, "--seconds", args.seconds, "--turn", name])["ms"])

        times = take_turns([*proofs, *PEAKS], args.rounds, one_turn, model)
    cost = read_manifest(engine).graph
    peaks_ms = {name: times.pop(name) for name in PEAKS}
    rows = compared(times, "eager")
    for name, row in rows.items():
        rewritten = name in (*BACKENDS, *INT8) or name.startswith("rewritten")
        row |= {"gflop": cost.gflop if rewritten else cost.gflop_as_published, "proof": proofs[name]}
    return {"rows": rows, "peaks": peaks(peaks_ms), "missing": missing}


def peaks(times: dict[str, list[float]]) -> dict[str, float]:
    """GFLOP/s of the matrix products, the median of the rounds."""
    from peak import SIDE

    return {
        name.removeprefix("peak-"): round(2 * SIDE**3 / float(np.median(ms)) / 1e6, 1)
        for name, ms in times.items()
    }


def main() -> None:
    """Take turns for every network, write the JSON after each and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="of timed frames in a turn, two at least")
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument(
        "--contestants", nargs="+", default=list(CONTESTANTS), choices=CONTESTANTS, help="eager among them"
    )
    parser.add_argument(
        "--engines",
        type=Path,
        required=True,
        help="folder with one engine per network; missing ones are made",
    )
    parser.add_argument("--out", type=Path, help="JSON file; networks that it has already are kept")
    parser.add_argument("--prove", metavar="CONTESTANT", help=argparse.SUPPRESS)
    parser.add_argument("--turn", metavar="CONTESTANT", help=argparse.SUPPRESS)
    args = parser.parse_args()
    model = args.models[0]
    engine = args.engines / model
    if args.prove:
        print(json.dumps(prove(args.prove, model, engine, args.threads)))
        return
    if args.turn:
        print(json.dumps(turn(args.turn, model, engine, args.threads, args.seconds)))
        return
    if "eager" not in args.contestants:
        parser.error("--contestants: eager is what all others are compared with")
    kept = json.loads(args.out.read_text()) if args.out and args.out.is_file() else {}
    result = {
        "command": "python " + " ".join(sys.argv),
        "machine": facts(),
        "size": list(SIZE),
        "threads": args.threads,
        **{key: kept.get(key, {}) for key in ("models", "peaks", "missing", "commands")},
    }
    for model in args.models:
        found = one_model(model, args)
        result["models"][model], result["commands"][model] = found["rows"], result["command"]
        result["peaks"][model], result["missing"][model] = found["peaks"], found["missing"]
        if args.out:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(args.out, (json.dumps(result, indent=1) + "\n").encode())
    for model, rows in result["models"].items():
        for name, row in rows.items():
            print(
                f"{model:10} {name:26} {row['median_ms']:8.1f} ms   {row['ratio']:5.2f}x eager "
                f"({row['ratio_min']:.2f} to {row['ratio_max']:.2f})"
            )


if __name__ == "__main__":
    main()
