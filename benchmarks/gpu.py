"""PyTorch, ONNX Runtime, TensorRT and our own backends on a CUDA machine, with the measured roofline, in one run.

    python benchmarks/gpu.py --out gpu.json

Needs PyTorch with CUDA and this repository; what else is there (onnxruntime-gpu, tensorrt, cuda-python) takes part, what
is missing is recorded with its reason. Each contestant has a process and a time limit of its own, and the JSON is written
after each, so a crash loses nothing. `--device cpu --models m2h-nano --quick` tries all parts that a CPU can run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gpu_names import CONTESTANTS, SLOW  # beside this script
from machine import facts
from turns import TurnError, own_process

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = os.pathsep.join((str(ROOT), str(ROOT / "export"), os.environ.get("PYTHONPATH", "")))
MODELS = ("m2h-small", "m2h", "m2h-nano")
SIZE = (224, 224)
SEEN = {  # of nvidia-smi, by our name
    "name": "name",
    "driver": "driver_version",
    "compute_capability": "compute_cap",
    "memory_mb": "memory.total",
    "power_limit_w": "power.limit",
    "mig": "mig.mode.current",
}
STATE = {
    "temperature_c": "temperature.gpu",
    "power_w": "power.draw",
    "sm_mhz": "clocks.sm",
    "memory_mhz": "clocks.mem",
    "throttled": "clocks_throttle_reasons.active",
    "utilisation_percent": "utilization.gpu",
}


class Run:
    """The result so far, written after each step."""

    def __init__(self, args: argparse.Namespace, work: Path) -> None:
        self.args, self.work = args, work
        self.until = time.monotonic() + args.budget_s
        self.result: dict[str, Any] = {
            "command": "python " + " ".join(sys.argv),
            "machine": facts(),
            "device": args.device,
            "gpu": nvidia_smi(SEEN),
            "gpu_before": nvidia_smi(STATE),
            "size": list(SIZE),
            "iterations": args.iterations,
            "finished": False,
            "peaks": {},
            "models": {},
        }

    def save(self) -> None:
        """Write the JSON, whole or not at all."""
        self.args.out.parent.mkdir(parents=True, exist_ok=True)
        beside = self.args.out.with_suffix(".part")
        beside.write_text(json.dumps(self.result, indent=1) + "\n")
        beside.replace(self.args.out)

    def step(self, name: str, *arguments: object) -> dict[str, Any]:
        """A process of its own: what it told, or why it did not."""
        left = self.until - time.monotonic()
        if left < 5:
            return {"missing": f"left out: --budget-s {self.args.budget_s:.0f} was used up"}
        options = ["--iterations", self.args.iterations, *(["--quick"] if self.args.quick else [])]
        try:
            return own_process(
                ROOT / "benchmarks" / "gpu_turn.py",
                [name, self.args.device, *arguments, *options],
                environment={"PYTHONPATH": PACKAGES.rstrip(os.pathsep)},  # nothing needs to be installed
                timeout_s=min(self.args.timeout_s, left),
            )
        except TurnError as error:
            return {"missing": str(error)}

    def prepare(self) -> None:
        """Peaks alone on the device; the references; then the graphs of all networks side by side."""
        self.result["peaks"] = self.step("peaks")
        print(f"peaks: {told(self.result['peaks'])}", flush=True)
        models = self.args.models
        references = [self.step("reference", model, self.work / model) for model in models]
        with ThreadPoolExecutor(len(models)) as pool:
            costs = list(pool.map(lambda model: self.step("graphs", model, self.work / model), models))
        for model, reference, cost in zip(models, references, costs, strict=True):
            self.result["models"][model] = {"reference": reference, "cost": cost, "contestants": {}}
            print(f"{model}: reference {told(reference)}; cost {told(cost)}", flush=True)
        self.save()

    def measure(self, name: str, model: str) -> None:
        """One contestant with one network."""
        entry = self.result["models"][model]
        before = nvidia_smi(STATE)
        if "missing" in entry["reference"]:
            row = {"missing": f"nothing to compare with: {entry['reference']['missing']}"}
        else:
            row = self.step(name, model, self.work / model)
        if "missing" not in row:
            row |= {"gpu_before": before, "gpu_after": nvidia_smi(STATE)}
            row |= self.share(row, entry["cost"])
        entry["contestants"][name] = row
        self.save()
        print(f"{model:10} {name:30} {told(row)}", flush=True)

    def share(self, row: dict[str, Any], cost: dict[str, Any]) -> dict[str, float]:
        """The time that the rewritten graph takes at the measured ceilings, and its share of the engine time."""
        if "engine_ms" not in row or "missing" in self.result["peaks"] or "missing" in cost:
            return {}
        floor = floor_ms(cost, self.result["peaks"], row["computes_in"])
        return {**floor, "roofline_share": round(max(floor.values()) / row["engine_ms"]["p50"], 4)}


def floor_ms(cost: dict[str, Any], peaks: dict[str, float], computes_in: str) -> dict[str, float]:
    """Milliseconds of arithmetic and of memory traffic, each at the device's measured peak."""
    graph = cost["fp16" if computes_in == "fp16" else "fp32"]
    rate = peaks.get(f"{computes_in}_tflops", peaks["fp32_tflops"])  # a CPU has no TF32
    moved_mb = graph["weights_mb"] + graph["activations_mb"]
    return {
        "arithmetic_ms": round(cost["gflop"] / rate, 4),
        "memory_ms": round(moved_mb / peaks["copy_gb_s"], 4),
    }


def nvidia_smi(wanted: dict[str, str]) -> dict[str, str]:
    """What the driver tells of GPU 0; empty without one. A field that this driver does not know is left out."""
    try:
        answers = _query(list(wanted.values()))
        if answers is None:  # one unknown field spoils them all
            answers = [(_query([field]) or [""])[0] for field in wanted.values()]
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return {ours: answer for ours, answer in zip(wanted, answers, strict=True) if answer}


def _query(fields: list[str]) -> list[str] | None:
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits", "--id=0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    return [value.strip() for value in done.stdout.split(",")] if done.returncode == 0 else None


def told(row: dict[str, Any]) -> str:
    """A result in a few words."""
    if "missing" in row:
        return f"missing: {row['missing']}"
    if "proof" not in row:
        return json.dumps(row)
    engine = f"engine {row['engine_ms']['p50']:.3f} ms, " if "engine_ms" in row else ""
    equal = "; ".join(row["proof"]["problems"]) or "equal"
    return f"{engine}with copies {row['with_copies_ms']['p50']:.3f} ms, {equal}"


def main() -> None:
    """Everything in one run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--contestants", nargs="+", help="default: all")
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="small peaks, 3 iterations, nothing compiled")
    parser.add_argument("--timeout-s", type=float, default=180, help="for one contestant")
    parser.add_argument("--budget-s", type=float, default=570, help="for everything")
    args = parser.parse_args()
    names = args.contestants or [name for name in CONTESTANTS if not (args.quick and name in SLOW)]
    if unknown := set(names) - set(CONTESTANTS):
        parser.error(f"--contestants {', '.join(sorted(unknown))}: there are {', '.join(CONTESTANTS)}")
    if args.quick:
        args.iterations = 3
    with TemporaryDirectory() as work:
        run = Run(args, Path(work))
        run.prepare()
        for slow in (False, True):  # what has to be compiled comes last, for all networks
            for model in args.models:
                for name in [name for name in names if (name in SLOW) == slow]:
                    run.measure(name, model)
        run.result["gpu_after"] = nvidia_smi(STATE)
        run.result["finished"] = True
        run.save()


if __name__ == "__main__":
    main()
