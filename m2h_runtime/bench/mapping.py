"""What a map is worth: the reconstructed surface and its scene graph against a simulated apartment's truth."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from m2h_runtime.label_space import load_label_space
from m2h_runtime.libraries import require
from m2h_runtime.mapping.mesh import Mesh
from m2h_runtime.scene_graph.builder import SceneGraphBuilder
from m2h_runtime.scene_graph.evaluation import (
    entered_rooms,
    objects_to_find,
    score_objects,
    score_rooms,
)
from m2h_runtime.scene_graph.sightings import sighting_of
from m2h_runtime.scene_graph.walk import TrueView, TrueWalk
from m2h_runtime.sinks.base import Observation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from m2h_runtime.engine.base import Engine
    from m2h_runtime.frame import Frame
    from m2h_runtime.scene_graph.evaluation import Score
    from m2h_runtime.scene_graph.sightings import Sighting
    from m2h_runtime.simulation.apartment import Apartment

FPS, MAP_EVERY = 10.0, 2
"""Of the simulated camera; every so-manyth frame is mapped, as `GraphSink` does."""
TRUTH_PER_M2, MESH_PER_M2 = 2500.0, 400.0
DISC_M = 0.02
"""Samples of the truth stand for discs of this radius, as wide as they are apart."""
SEEN_M = 0.03
COMPLETE_M = 0.05
PAPER_NOTE = (
    "the M2H paper (Table V) has another building, another network and another truth: ME 0.11 m, SD 0.14 m"
)


@dataclass(frozen=True)
class MappingResult:
    """How good one map is.

    Attributes:
        name: whose depth and labels: an engine's name, or "truth".
        aligned: with temporal alignment.
        frames, mapped: perceived and fused.
        fps: frames a second through preparation, engine, alignment and mapping, one after the other in one thread;
            rendering is not in it.
        me_m, sd_m: mean and standard deviation of the distance from points of the reconstructed surface (evenly drawn,
            400 a square metre) to the true surface that the camera saw, metres.
        completeness: share of that true surface with reconstructed surface within `COMPLETE_M`.
        rooms, objects: precision and recall, see `scene_graph.evaluation`.
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


class RenderedWalk:
    """A walk, rendered once, to be perceived by several engines.

    Args:
        name: as in "9001-handheld".
        size: (H, W).
        duration_s: length.
        max_depth_m: what is farther away is not asked for.
        on_frame: called after each frame.

    Attributes:
        views: all frames with their truth; `objects` is empty.
        apartment: the truth.
        seen: int (objects + 1,), pixels by object in the frames that are mapped.
        surface: the true surface that these frames saw.
    """

    def __init__(
        self,
        name: str,
        size: tuple[int, int] = (192, 256),
        duration_s: float = 60.0,
        max_depth_m: float = 5.0,
        on_frame: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        walk = TrueWalk(name, size, duration_s, FPS)
        self.apartment = walk.apartment
        self.seen = np.zeros(len(self.apartment.objects) + 1, np.int64)
        self.views: list[TrueView] = []
        points = []
        for number, view in enumerate(walk.views()):
            if number % MAP_EVERY == 0:
                near = (view.depth > 0) & (view.depth < max_depth_m)
                self.seen += np.bincount(view.objects[near], minlength=len(self.seen))
                points.append(_points(view, near))
            self.views.append(view._replace(objects=np.empty((0, 0), np.int32)))
            on_frame()
        self.surface = TrueSurface(self.apartment, np.concatenate(points))

    @property
    def eyes(self) -> NDArray[np.float64]:
        """(N, 3), where the camera was."""
        poses = [view.frame.world_from_camera for view in self.views]
        return np.array([pose[:3, 3] for pose in poses if pose is not None])


class TrueSurface:
    """What of an apartment's triangles was seen, as samples.

    Args:
        apartment: the truth.
        seen: float (N, 3), points that the camera saw; samples farther than `SEEN_M` from all of them are left out.
    """

    def __init__(self, apartment: Apartment, seen: NDArray[np.float64]) -> None:
        count = len(apartment.vertices)
        mesh = Mesh(
            apartment.vertices, apartment.faces, np.zeros((count, 3), np.uint8), np.zeros(count, np.uint8)
        )
        points, face = mesh.sampled(TRUTH_PER_M2, np.random.default_rng(0))
        tree = require("scipy.spatial", "judging a map", "mapping").cKDTree
        thinned = np.unique(np.round(seen / 0.01).astype(np.int64), axis=0) * 0.01
        away, _ = tree(thinned).query(points, distance_upper_bound=SEEN_M)
        kept = np.isfinite(away)
        self.points = points[kept]
        a, b, c = (apartment.vertices[apartment.faces[face[kept], corner]] for corner in range(3))
        normals = np.cross(b - a, c - a)
        self._normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        self._tree = tree(self.points)
        self._make_tree = tree

    def distances(self, points: NDArray[np.float32]) -> NDArray[np.float64]:
        """From each point (N, 3) to the disc around the nearest sample, metres."""
        _, nearest = self._tree.query(points)
        apart = points - self.points[nearest]
        off = np.einsum("ij,ij->i", apart, self._normals[nearest])
        along = np.sqrt(np.maximum((apart**2).sum(axis=1) - off**2, 0))
        return np.asarray(np.hypot(off, np.maximum(along - DISC_M, 0)), np.float64)

    def covered(self, points: NDArray[np.float32]) -> float:
        """Share of the samples that have one of the points within `COMPLETE_M`."""
        away, _ = self._make_tree(points).query(self.points, distance_upper_bound=COMPLETE_M)
        return float(np.isfinite(away).mean())


def measure_mapping(
    walk: RenderedWalk,
    engine: Engine | None = None,
    *,
    aligned: bool = False,
    pose_noise: tuple[float, float] = (0.0, 0.0),
    on_frame: Callable[[], None] = lambda: None,
) -> MappingResult:
    """Map a walk and judge the map.

    Args:
        walk: to be mapped.
        engine: whose depth and labels; None: the truth.
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
        "truth" if engine is None else engine.manifest.name,
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


def mapping_table(results: Sequence[MappingResult]) -> str:
    """The results as a Markdown table, and what to compare them with."""
    lines = [
        "| depth and labels | alignment | ME (m) | SD (m) | complete | FPS | rooms P / R | objects P / R |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {r.name} | {'yes' if r.aligned else 'no'} | {r.me_m:.3f} | {r.sd_m:.3f} "
        f"| {r.completeness:.2f} | {r.fps:.1f} "
        f"| {r.rooms['precision']:.2f} / {r.rooms['recall']:.2f} "
        f"| {r.objects['precision']:.2f} / {r.objects['recall']:.2f} |"
        for r in results
    ]
    return "\n".join([*lines, "", f"For comparison: {PAPER_NOTE}."])


class _Perceiver:
    """Preparation, engine, and alignment if asked for: from a frame to what is mapped."""

    def __init__(self, engine: Engine, aligned: bool) -> None:
        from m2h_runtime.pipeline.prepare import Preparation

        self._engine = engine
        self._prepare = Preparation(engine.manifest)
        self._alignment: Any = None
        if aligned:
            from m2h_runtime.temporal import Alignment

            self._alignment = Alignment()

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


def _points(view: TrueView, near: NDArray[np.bool_]) -> NDArray[np.float64]:
    """World points that a view's `near` pixels show, (N, 3)."""
    camera, pose = view.frame.camera, view.frame.world_from_camera
    assert camera is not None and pose is not None  # noqa: S101  # a `TrueWalk` gives both
    v, u = np.nonzero(near[::2, ::2])
    v, u = 2 * v, 2 * u  # a quarter of the pixels is dense enough
    rays = np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones(len(u))], axis=1)
    points = (rays * view.depth[v, u][:, None]) @ pose[:3, :3].T + pose[:3, 3]
    return np.asarray(points, np.float64)


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
