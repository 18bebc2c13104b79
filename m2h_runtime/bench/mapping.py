"""What a map is worth: the reconstructed surface and its scene graph against a simulated apartment's truth."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from m2h_runtime.bench.rendered_walk import MAP_EVERY, TRUTH_PER_M2
from m2h_runtime.label_space import load_label_space
from m2h_runtime.scene_graph.builder import SceneGraphBuilder
from m2h_runtime.scene_graph.evaluation import (
    entered_rooms,
    objects_to_find,
    score_objects,
    score_rooms,
)
from m2h_runtime.scene_graph.sightings import sighting_of
from m2h_runtime.sinks.base import Observation

if TYPE_CHECKING:
    from collections.abc import Callable

    from m2h_runtime.bench.rendered_walk import RenderedWalk
    from m2h_runtime.engine.base import Engine
    from m2h_runtime.frame import Frame
    from m2h_runtime.scene_graph.evaluation import Score
    from m2h_runtime.scene_graph.sightings import Sighting
    from m2h_runtime.scene_graph.walk import TrueView

MESH_PER_M2 = 400.0
TRUTH = "truth"


@dataclass(frozen=True)
class MappingResult:
    """How good one map is.

    Attributes:
        name: whose depth and labels.
        aligned: with temporal alignment.
        frames, mapped: perceived and fused.
        fps: frames a second through preparation, engine, alignment and mapping, one after the other in one thread;
            rendering is not in it.
        me_m, sd_m: mean and standard deviation of the distance from points of the reconstructed surface (evenly drawn,
            400 a square metre) to the true surface that the camera saw, metres.
        completeness: share of that true surface with reconstructed surface within
            `rendered_walk.COMPLETE_M`.
        rooms, objects: matched, found, true, precision and recall, see `scene_graph.evaluation`.
        graph_s: processor seconds for the last graph.
    """

    name: str
    aligned: bool
    frames: int
    mapped: int
    fps: float
    me_m: float
    sd_m: float
    completeness: float
    rooms: dict[str, float]
    objects: dict[str, float]
    graph_s: float

    def as_dict(self) -> dict[str, Any]:
        """Plain data for a JSON file."""
        return asdict(self)


def measure_mapping(
    walk: RenderedWalk,
    engine: Engine | None = None,
    *,
    name: str = TRUTH,
    aligned: bool = False,
    pose_noise: tuple[float, float] = (0.0, 0.0),
    on_frame: Callable[[], None] = lambda: None,
) -> MappingResult:
    """Map a walk and judge the map.

    Args:
        walk: to be mapped.
        engine: whose depth and labels; None: the truth.
        name: for the result.
        aligned: put temporal alignment between engine and map.
        pose_noise: standard deviations of noise on each pose, metres and degrees; each frame has its own.
        on_frame: called after each frame.

    Raises:
        InputError: nobody knows what the classes of the engine's label space are, or a library is missing.
    """
    see = _truth if engine is None else _Perceiver(engine, aligned)
    space = load_label_space("nyudv2_40") if engine is None else engine.manifest.label_space
    builder = SceneGraphBuilder(space)
    rng = np.random.default_rng(7)
    spent_s = 0.0
    for number, view in enumerate(walk.views):
        noisy = view._replace(frame=_moved(view.frame, pose_noise, rng))
        began = time.perf_counter()
        sighting = see(noisy)
        if number % MAP_EVERY == 0 and sighting is not None:
            builder.add(sighting)
        spent_s += time.perf_counter() - began
        on_frame()
    began = time.process_time()
    graph = builder.update()
    graph_s = time.process_time() - began
    mesh_points, _ = graph.mesh.sampled(MESH_PER_M2, np.random.default_rng(1))
    dense_points, _ = graph.mesh.sampled(TRUTH_PER_M2, np.random.default_rng(2))
    away = walk.surface.distances(mesh_points)
    true = objects_to_find(walk.apartment, walk.seen, builder.roles.objects, space)
    return MappingResult(
        name,
        aligned,
        len(walk.views),
        builder.volume.frames,
        len(walk.views) / spent_s,
        float(away.mean()),
        float(away.std()),
        walk.surface.covered(dense_points),
        _as_dict(score_rooms(builder, walk.apartment, entered_rooms(walk.apartment, walk.eyes))),
        _as_dict(score_objects(graph.objects, true)),
        graph_s,
    )


class _Perceiver:
    """Preparation, engine, and alignment if asked for: from a frame to what is mapped."""

    def __init__(self, engine: Engine, aligned: bool) -> None:
        from m2h_runtime.pipeline.prepare import Preparation

        self._engine = engine
        self._prepare = Preparation(engine.manifest)
        self._alignment: Any = None
        if aligned:
            from m2h_runtime.temporal import Alignment, AlignmentSettings

            self._alignment = Alignment(AlignmentSettings(masked=True))  # as m2h-graph does

    def __call__(self, view: TrueView) -> Sighting | None:
        ready = self._prepare(view.frame)
        perception = self._engine.infer(ready.image).stamped(ready.frame)
        if self._alignment is not None:
            perception = self._alignment.align(
                perception, ready.frame, ready.engine_camera, depth_factor=ready.depth_factor
            )
        return sighting_of(
            Observation(ready.frame, perception, 0.0, ready.fit, ready.depth_factor, ready.source)
        )


def _truth(view: TrueView) -> Sighting:
    return view.sighting


def _moved(frame: Frame, noise: tuple[float, float], rng: np.random.Generator) -> Frame:
    from m2h_runtime.imu import so3

    pose = frame.world_from_camera
    if pose is None or noise == (0.0, 0.0):
        return frame
    moved = pose.copy()
    moved[:3, 3] += rng.normal(0, noise[0], 3)
    moved[:3, :3] = so3.exp(rng.normal(0, np.radians(noise[1]), 3)) @ moved[:3, :3]
    return replace(frame, world_from_camera=moved)


def _as_dict(score: Score) -> dict[str, float]:
    return {**asdict(score), "precision": score.precision, "recall": score.recall}
