"""Ray casting by Intel Embree, through the maintained `embreex` bindings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from m2h_runtime.simulation.libraries import require

if TYPE_CHECKING:
    from numpy.typing import NDArray


class RayCaster:
    """A triangle mesh that answers what a ray hits, and whether a way is free.

    Args:
        vertices: (V, 3) float32.
        faces: (F, 3) int32.

    Raises:
        InputError: embreex is not installed.
    """

    def __init__(self, vertices: NDArray[np.float32], faces: NDArray[np.int32]) -> None:
        self._scene = require("embreex.rtcore_scene").EmbreeScene()
        mesh = require("embreex.mesh_construction").TriangleMesh
        self._mesh = mesh(self._scene, vertices, faces)  # the scene does not keep it alive

    def first_hit(
        self, origins: NDArray[np.float32], directions: NDArray[np.float32]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """(N,) face index, -1 for none, and (N,) distance in units of the direction's length."""
        hit = self._scene.run(origins, directions, output=True)
        return hit["primID"], hit["tfar"]

    def blocked(
        self, origins: NDArray[np.float32], directions: NDArray[np.float32], reach: float
    ) -> NDArray[np.bool_]:
        """(N,): does anything stand between the origin and `reach` times the direction?"""
        limits = np.full(len(origins), reach, np.float32)
        return np.asarray(self._scene.run(origins, directions, dists=limits, query="OCCLUDED") >= 0)
