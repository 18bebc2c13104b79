"""Objects: vertices of one label that lie together, boxed, and known again at the next update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from m2h_runtime.libraries import require

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from m2h_runtime.mapping.mesh import Mesh

LEAST_VERTICES = 40
"""About 0.1 m^2 of surface with voxels of 0.05 m: smaller clusters are noise, or nothing that a robot would name."""
REACH_VOXELS = 2.5
"""Vertices of one label that are nearer to each other belong to one thing."""
TRIM = 0.5
"""Percent of the vertices that a box may leave out at each side: single stray ones do not stretch it."""


@dataclass(frozen=True, eq=False)
class Cluster:
    """Vertices that are one thing.

    Attributes:
        label: class id.
        low, high: float64 (3,), corners of the axis-aligned box.
        centre: float64 (3,), mean of its vertices.
        vertices: how many.
    """

    label: int
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    centre: NDArray[np.float64]
    vertices: int


def find_objects(mesh: Mesh, labels: Collection[int], voxel_m: float) -> list[Cluster]:
    """All clusters of the object labels in a mesh, the largest first.

    Args:
        mesh: of the map.
        labels: class ids that make objects.
        voxel_m: of the map.

    Raises:
        InputError: scipy is not installed.
    """
    found: list[Cluster] = []
    for label in sorted(labels):
        points = mesh.vertices[mesh.labels == label].astype(np.float64)
        parts = _connected(points, REACH_VOXELS * voxel_m)
        found += [_boxed(label, points[part]) for part in parts if len(part) >= LEAST_VERTICES]
    return sorted(found, key=lambda cluster: -cluster.vertices)


def _connected(points: NDArray[np.float64], reach_m: float) -> list[NDArray[np.int64]]:
    """Indices of the points of each connected set."""
    if not len(points):
        return []
    tree = require("scipy.spatial", "finding objects", "mapping").cKDTree(points)
    sparse = require("scipy.sparse", "finding objects", "mapping")
    graph = require("scipy.sparse.csgraph", "finding objects", "mapping")
    pairs = tree.query_pairs(reach_m, output_type="ndarray")
    links = sparse.coo_matrix((np.ones(len(pairs), np.bool_), pairs.T), shape=(len(points), len(points)))
    _, part = graph.connected_components(links, directed=False)
    order = np.argsort(part, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(part[order])) + 1)


def _boxed(label: int, points: NDArray[np.float64]) -> Cluster:
    low, high = np.percentile(points, (TRIM, 100 - TRIM), axis=0)
    return Cluster(label, low, high, points.mean(axis=0), len(points))


def overlap(
    low_a: NDArray[np.float64],
    high_a: NDArray[np.float64],
    low_b: NDArray[np.float64],
    high_b: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Intersection over union of boxes (N, 3) with boxes (M, 3), float64 (N, M)."""
    low = np.maximum(low_a[:, None], low_b[None])
    high = np.minimum(high_a[:, None], high_b[None])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    sizes_a, sizes_b = np.prod(high_a - low_a, axis=1), np.prod(high_b - low_b, axis=1)
    union = sizes_a[:, None] + sizes_b[None] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0), np.float64)
