"""A simulated walk, rendered once to be mapped many times, and the true surface that it saw."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from m2h_runtime.libraries import require
from m2h_runtime.mapping.mesh import Mesh
from m2h_runtime.scene_graph.walk import TrueView, TrueWalk

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from m2h_runtime.simulation.apartment import Apartment

FPS, MAP_EVERY = 10.0, 2
"""Of the simulated camera; every so-manyth frame is mapped, as `GraphSink` does."""
TRUTH_PER_M2 = 2500.0
DISC_M = 0.02
"""Samples of the truth stand for discs of this radius, as wide as they are apart."""
SEEN_M = 0.03
COMPLETE_M = 0.05


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


def _points(view: TrueView, near: NDArray[np.bool_]) -> NDArray[np.float64]:
    """World points that a view's `near` pixels show, (N, 3)."""
    camera, pose = view.frame.camera, view.frame.world_from_camera
    assert camera is not None and pose is not None  # noqa: S101  # a `TrueWalk` gives both
    v, u = np.nonzero(near[::2, ::2])
    v, u = 2 * v, 2 * u  # a quarter of the pixels is dense enough
    rays = np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones(len(u))], axis=1)
    points = (rays * view.depth[v, u][:, None]) @ pose[:3, :3].T + pose[:3, 3]
    return np.asarray(points, np.float64)
