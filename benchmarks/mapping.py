"""Maps and scene graphs of simulated apartments against the truth, and the rate of the chain from camera to graph.

    python benchmarks/mapping.py --out benchmarks/results/mapping.json

The walks are those of apartments kept for judging; `m2h-bench mapping` measures one the same way. The chain is the real
pipeline with temporal alignment and a `GraphSink`, as fast as it goes: with pictures from memory, so that nothing but the
chain is measured, and with the simulation's renderer, which is a process of its own on the same cores.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
from machine import facts  # beside this script

from m2h_runtime import open_engine
from m2h_runtime.bench.mapping import TRUTH, measure_mapping
from m2h_runtime.bench.rendered_walk import FPS, RenderedWalk
from m2h_runtime.pipeline import Pipeline
from m2h_runtime.scene_graph.sink import GraphSink
from m2h_runtime.scene_graph.walk import TrueWalk
from m2h_runtime.sources.base import EndOfStream
from m2h_runtime.sources.recording import Recording
from m2h_runtime.sources.simulation import SimulationSource
from m2h_runtime.temporal import Alignment, AlignmentSettings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from m2h_runtime.engine.base import Engine
    from m2h_runtime.frame import Frame
    from m2h_runtime.scene_graph import SceneGraph
    from m2h_runtime.sources.base import Source

WALKS = ["9001-handheld", "9002-handheld", "9003-wheeled", "9004-handheld", "9005-drone"]
SIZE = (192, 256)
STAGES = ("preprocess", "engine", "align", "sink graph")


class FramesInMemory(Recording):
    """Frames that have been rendered."""

    fps = FPS

    def __init__(self, frames: Iterable[Frame]) -> None:
        super().__init__()
        self._frames = iter(frames)

    def read(self, timeout_s: float) -> Frame:  # noqa: ARG002  # it never waits
        """The next one."""
        for frame in self._frames:
            return frame
        raise EndOfStream

    def describe(self) -> str:
        """What it is."""
        return "frames in memory"


def chain(source: Source, engine: Engine) -> dict[str, Any]:
    """How fast the chain goes, from the first perception to the last."""
    cpu_s = time.process_time()
    times: list[float] = []
    graphs: list[SceneGraph] = []
    sink = GraphSink(on_graph=graphs.append)
    pipeline = Pipeline(
        source,
        engine,
        [sink],
        on_perception=lambda _: times.append(time.perf_counter()),
        alignment=Alignment(AlignmentSettings(masked=True)),
    )
    pipeline.run()
    stages = pipeline.summaries()
    return {
        "frames": len(times),
        "mapped": sink.mapped,
        "graphs": len(graphs),
        "fps": (len(times) - 1) / (times[-1] - times[0]),
        "cpu_ms": 1e3 * (time.process_time() - cpu_s) / len(times),
        "stages_ms": {name: stages[name].mean_ms for name in STAGES},
    }


def main() -> None:
    """Measure; the file is written after each part, and keeps what is not measured again."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--walks", nargs="+", default=WALKS)
    parser.add_argument("--engine", type=Path, default=Path("engines/m2h-nano-apartments"))
    parser.add_argument("--duration", type=float, default=60.0)
    parser.add_argument("--only", choices=("walks", "chain"), help="measure one part anew")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    with open_engine(args.engine) as engine:
        result: dict[str, Any] = {
            "command": "python benchmarks/mapping.py --out benchmarks/results/mapping.json",
            "machine": facts(),
            "engine": {"folder": args.engine.name, "choice": engine.choice},
            "duration_s": args.duration,
            "size": SIZE,
            "walks": {},
        }
        if args.only is not None:
            result = json.loads(args.out.read_text()) | {"machine": facts()}
        if args.only != "walks":
            save(args.out, result, chain=chains(args.walks[0], args.duration, engine))
        for name in args.walks if args.only != "chain" else ():
            judged = judge(RenderedWalk(name, SIZE, args.duration), args.engine.name, engine)
            save(args.out, result, walks=result["walks"] | {name: judged})


def save(path: Path, result: dict[str, Any], **parts: Any) -> None:
    """Take parts into the result, print them and write the file."""
    result.update(parts)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(parts), flush=True)


def judge(walk: RenderedWalk, name: str, engine: Engine) -> list[dict[str, Any]]:
    """Maps of a walk made of the truth, of the engine, and of the engine with alignment."""
    made = [measure_mapping(walk, name=TRUTH)]
    made += [measure_mapping(walk, engine, name=name, aligned=aligned) for aligned in (False, True)]
    return [one.as_dict() for one in made]


def chains(name: str, duration_s: float, engine: Engine) -> dict[str, Any]:
    """The chain on one walk, with its pictures from memory and from the renderer."""
    frames = [view.frame for view in TrueWalk(name, SIZE, duration_s, FPS).views()]
    with SimulationSource(name, SIZE, FPS, duration_s) as rendered:
        return {
            "walk": name,
            "memory": chain(FramesInMemory(frames), engine),
            "renderer": chain(rendered, engine),
        }


if __name__ == "__main__":
    main()
