"""`m2h-graph`: a simulated walk or a recording becomes a scene graph that Hydra's tools read, and a page to look at."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from m2h_runtime.cli.arguments import OneLineParser, camera_size, count, positive
from m2h_runtime.cli.over_time import make_alignment, make_visual_odometry
from m2h_runtime.errors import InputError, M2HError, SourceError
from m2h_runtime.shipped import DEMO_ENGINE, shipped_engine

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from m2h_runtime.mapping.volume import Volume
    from m2h_runtime.pipeline.health import Transition
    from m2h_runtime.scene_graph.layers import SceneGraph
    from m2h_runtime.sources.base import Source

    Advance = Callable[[float], None]

OUT = Path("out") / "graph"
DURATION_S, RATE_HZ, SIZE = 60.0, 5.0, (192, 256)
LOOP_FPS = 10.0
"""Rate of the simulated camera when an engine looks: alignment and cross-view engines want more than the map."""
APPLIES = {
    "true": "simulate",
    "duration": "simulate",
    "size": "simulate",
    "image_topic": "bag",
    "odometry": "bag",
    "visual_odometry": "bag",
}
WITH_ENGINE = ("backend", "threads", "odometry", "image_topic", "align", "visual_odometry")


def build_parser() -> argparse.ArgumentParser:
    """The options. Nothing heavy is imported for them."""
    parser = OneLineParser(
        prog="m2h-graph",
        description="Map a walk and write its scene graph: objects, places, rooms and the building over a mesh.",
        epilog="example: m2h-graph --simulate --true, then open out/graph/graph.html",
    )
    group = parser.add_argument_group("source (one of these)")
    source = group.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--simulate",
        metavar="NAME",
        nargs="?",
        const="apartment",
        help="walk through a simulated apartment: its seed and style, as in 9001-drone (default: apartment)",
    )
    source.add_argument(
        "--bag",
        metavar="PATH",
        type=Path,
        help="recording of m2h-run --record FILE.mcap, or a bag with poses on /tf; needs no ROS",
    )
    _add_perception(parser)
    group = parser.add_argument_group("walk and map")
    group.add_argument(
        "--duration", metavar="S", type=positive, help=f"of a simulated walk (default {DURATION_S:g})"
    )
    group.add_argument(
        "--size", metavar="WxH", type=camera_size, help="of the simulated camera (default 256x192)"
    )
    group.add_argument(
        "--rate",
        metavar="HZ",
        type=positive,
        default=RATE_HZ,
        help=f"images mapped per second of the walk (default {RATE_HZ:g})",
    )
    group.add_argument("--voxel", metavar="M", type=positive, default=0.05, help="metres (default 0.05)")
    group.add_argument(
        "--max-depth", metavar="M", type=positive, default=5.0, help="metres that are mapped (default 5)"
    )
    group.add_argument("--out", metavar="FOLDER", type=Path, default=OUT, help=f"default: {OUT}")
    return parser


def _add_perception(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("perception")
    group.add_argument(
        "--engine",
        metavar="FOLDER",
        type=Path,
        help=f"engine folder (default: {DEMO_ENGINE} with --simulate, what was recorded with --bag)",
    )
    group.add_argument("--true", action="store_true", help="the simulation's own depth and labels instead")
    group.add_argument("--backend", metavar="B", help="of the engine (default: auto)")
    group.add_argument("--threads", metavar="N", type=count, help="CPU threads of the engine")
    group.add_argument("--image-topic", metavar="NAME", help="the bag's image topic, if it has several")
    group.add_argument("--odometry", metavar="NAME", help="the bag's nav_msgs/Odometry (default: /tf)")
    group.add_argument(
        "--visual-odometry",
        action="store_true",
        help="poses from the images and the engine's depth, where the bag has none",
    )
    group.add_argument(
        "--align",
        action="store_true",
        help="average depth and labels with the frames before, warped by poses or gyroscope",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0, 2 for foreseen failures, 130 when interrupted."""
    try:
        return run(build_parser().parse_args(argv))
    except M2HError as error:
        _say(str(error))
        return 2
    except KeyboardInterrupt:
        _say("interrupted; nothing was written")
        return 128 + signal.SIGINT


def run(args: argparse.Namespace) -> int:
    """Map, make the graph, write it.

    Raises:
        M2HError: anything foreseen; nothing is written then.
    """
    check_options(args)
    check_libraries()
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    import cv2

    from m2h_runtime.scene_graph.outputs import PAGE, PICTURE, check_folder, write_outputs

    cv2.setNumThreads(1)
    check_folder(args.out)
    graph, title = build(args)
    write_outputs(graph, args.out, title)
    sys.stdout.write(f"{summary(graph)}\nlook at {args.out / PAGE}, or its picture {args.out / PICTURE}\n")
    return 0


def check_options(args: argparse.Namespace) -> None:
    """Refuse options that would be ignored.

    Raises:
        InputError: names the option and what it goes with.
    """
    for name, source in APPLIES.items():
        if getattr(args, name) not in (None, False) and getattr(args, source) is None:
            raise InputError(f"{_option(name)} goes with --{source} only")
    if args.true and args.engine is not None:
        raise InputError("--true and --engine: choose one")
    perceives = args.engine is not None or (args.simulate is not None and not args.true)
    for name in WITH_ENGINE:
        if getattr(args, name) not in (None, False) and not perceives:
            raise InputError(f"{_option(name)} goes with an --engine only")


def check_libraries() -> None:
    """Find out now, not after the walk, whether the extras `mapping` and `graph` are installed.

    Raises:
        InputError: names the library.
    """
    from m2h_runtime.libraries import require

    for module, purpose, extra in (
        ("skimage.measure", "a mesh", "mapping"),
        ("scipy.spatial", "finding objects", "mapping"),
        ("spark_dsg", "writing a scene graph for Hydra", "graph"),
    ):
        require(module, purpose, extra)


def build(args: argparse.Namespace) -> tuple[SceneGraph, str]:
    """The graph, and a title for it.

    Raises:
        M2HError: the source or the engine cannot be opened, or nothing of it can be mapped.
    """
    if args.true:
        return _true_graph(args)
    if args.bag is not None and args.engine is None:
        return _recorded_graph(args)
    return _perceived_graph(args)


def summary(graph: SceneGraph) -> str:
    """What was found, in one line."""
    faces = f"{len(graph.mesh.faces)} triangles"
    return (
        f"{len(graph.rooms)} rooms, {len(graph.objects)} objects, {len(graph.places)} places; mesh of {faces}"
    )


def _volume(args: argparse.Namespace, ignored: frozenset[int]) -> Volume:
    from m2h_runtime.mapping.volume import Volume

    return Volume(args.voxel, max_depth_m=args.max_depth, ignored_labels=ignored)


def _true_graph(args: argparse.Namespace) -> tuple[SceneGraph, str]:
    from m2h_runtime.label_space import load_label_space
    from m2h_runtime.scene_graph import SceneGraphBuilder
    from m2h_runtime.scene_graph.roles import roles_of
    from m2h_runtime.scene_graph.walk import TrueWalk

    space = load_label_space("nyudv2_40")
    builder = SceneGraphBuilder(space, _volume(args, roles_of(space).dynamic))
    walk = TrueWalk(args.simulate, args.size or SIZE, args.duration or DURATION_S, args.rate)
    with _progress("mapping", walk.count) as advance:
        for view in walk.views():
            builder.add(view.sighting)
            advance(1)
    return builder.update(), f"simulated apartment {walk.apartment.seed}, true depth and labels"


def _recorded_graph(args: argparse.Namespace) -> tuple[SceneGraph, str]:
    from m2h_runtime.scene_graph import SceneGraphBuilder
    from m2h_runtime.scene_graph.recorded import RecordedOutputs
    from m2h_runtime.scene_graph.roles import roles_of

    with closing(RecordedOutputs(args.bag)) as recorded, _progress("mapping", recorded.count) as advance:
        space = recorded.label_space
        builder = SceneGraphBuilder(space, _volume(args, roles_of(space).dynamic))
        due_ns: float = 0
        for sighting in recorded.sightings():
            advance(1)
            if sighting is not None and sighting.stamp_ns >= due_ns:
                builder.add(sighting.thinned())
                due_ns = sighting.stamp_ns + 1e9 / args.rate - 1e6  # stamps of a steady camera waver a little
        if builder.volume.frames == 0:
            raise SourceError(
                f"{args.bag}: nothing could be mapped: {recorded.unplaced} of {recorded.count} images have no pose or "
                "no intrinsics; record them, or give --engine with --odometry or --visual-odometry"
            )
        if recorded.unplaced:
            _say(f"{recorded.unplaced} of {recorded.count} images have no pose and were left out")
    return builder.update(), f"recording {args.bag.name}"


def _perceived_graph(args: argparse.Namespace) -> tuple[SceneGraph, str]:
    from m2h_runtime.engine import open_engine
    from m2h_runtime.pipeline import Pipeline
    from m2h_runtime.pipeline.health import Health
    from m2h_runtime.scene_graph.roles import roles_of
    from m2h_runtime.scene_graph.sink import GraphSink

    with ExitStack() as stack:
        engine = stack.enter_context(
            closing(
                open_engine(args.engine or shipped_engine(), args.backend or "auto", threads=args.threads)
            )
        )
        roles = roles_of(engine.manifest.label_space)  # a label space without roles is known now
        source, frames = _source(args)
        stack.enter_context(source)
        advance = stack.enter_context(_progress("perceiving", frames))
        sink = GraphSink(_volume(args, roles.dynamic), 1 / args.rate - 1e-3, update_s=None)
        health = Health(_tell)
        pipeline = Pipeline(
            source,
            engine,
            [sink],
            on_perception=lambda _: advance(1),
            health=health,
            rectify=True,  # maps are made of straight lines
            alignment=make_alignment(args.align, health, masked=True),
            visual_odometry=make_visual_odometry(args.visual_odometry, health),
        )
        pipeline.run()
    graph = sink.builder.graph if sink.builder is not None else None
    if graph is None:
        raise SourceError(f"{source.describe()}: not one frame was perceived")
    return graph, f"{source.describe()}, engine {engine.manifest.name}"


def _source(args: argparse.Namespace) -> tuple[Source, int]:
    """The opened source and how many frames it has."""
    if args.simulate is not None:
        from m2h_runtime.sources.simulation import SimulationSource

        duration_s, fps = args.duration or DURATION_S, max(LOOP_FPS, args.rate)
        source = SimulationSource(args.simulate, args.size or SIZE, fps, duration_s)
        return source, round(duration_s * fps)
    from m2h_runtime.scene_graph.recorded import PlacedBagSource
    from m2h_runtime.sources.bag_topics import BagTopics

    bag = PlacedBagSource(args.bag, BagTopics(args.image_topic, odometry=args.odometry or ""))
    return bag, bag.images


@contextmanager
def _progress(what: str, total: int) -> Iterator[Advance]:
    """A bar on a terminal, nothing elsewhere; yields what moves it on."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("frames"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda steps: progress.advance(task, steps)


def _tell(change: Transition) -> None:
    text = change.condition.text
    _say(f"{change.part} {change.condition.level.name.lower()}" + (f": {text}" if text else ""))


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _say(text: str) -> None:
    sys.stderr.write(f"m2h-graph: {text}\n")


if __name__ == "__main__":
    raise SystemExit(main())
