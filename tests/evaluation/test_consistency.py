from __future__ import annotations

import numpy as np
import pytest

from m2h_export.evaluation.consistency import ConsistencyMeter, normals_of_depth, valid_neighbourhood
from m2h_runtime.errors import InputError

SIZE = (24, 32)
CAMERA = np.array([[30.0, 0, 15.5], [0, 28.0, 11.5], [0, 0, 1]])


def plane(normal: tuple[float, float, float], distance: float) -> tuple[np.ndarray, np.ndarray]:
    """Depth (H, W) of the plane n . P = -distance, and its unit normal, which faces the camera."""
    n = np.array(normal) / np.linalg.norm(normal)
    v, u = np.indices(SIZE)
    rays = np.stack([(u - 15.5) / 30, (v - 11.5) / 28, np.ones(SIZE)], axis=-1)
    return (-distance / (rays @ n)).astype(np.float32), n


@pytest.mark.parametrize("method", ["tblr", "sobel"])
def test_a_slanted_plane_has_its_own_normal(method: str) -> None:
    depth, n = plane((0.3, -0.5, -1), 2.0)
    found = normals_of_depth(depth, CAMERA, method)[1:-1, 1:-1]
    np.testing.assert_allclose(found, np.broadcast_to(n, found.shape), atol=1e-4)
    meter = ConsistencyMeter(method)
    meter.add(depth, np.broadcast_to(n, (*SIZE, 3)).astype(np.float32), CAMERA)
    assert meter.result()["mean"] < 0.01
    assert meter.pixels == 22 * 30


@pytest.mark.parametrize(("method", "weights"), [("tblr", (0, 1, 0)), ("sobel", (1, 2, 1))])
def test_tangents_of_a_rough_surface(method: str, weights: tuple[int, int, int]) -> None:
    z = np.random.default_rng(0).uniform(1, 3, (3, 3)).astype(np.float32)
    p = [[z[v, u] * np.array([(u - 15.5) / 30, (v - 11.5) / 28, 1]) for u in range(3)] for v in range(3)]
    right = sum(w * (p[v][2] - p[v][0]) for v, w in enumerate(weights))
    down = sum(w * (p[2][u] - p[0][u]) for u, w in enumerate(weights))
    n = -np.cross(right, down)
    np.testing.assert_allclose(normals_of_depth(z, CAMERA, method)[1, 1], n / np.linalg.norm(n), atol=1e-6)
    assert n @ p[1][1] < 0  # it faces the camera


def test_normals_that_face_away_are_far_off() -> None:
    depth, n = plane((0, 0, -1), 2.0)
    meter = ConsistencyMeter()
    meter.add(depth, np.broadcast_to(-n, (*SIZE, 3)).astype(np.float32), CAMERA)
    assert meter.result()["mean"] == pytest.approx(180, abs=0.01)


def test_the_m2h_normal_has_pixel_slopes() -> None:
    u = np.indices(SIZE)[1]
    depth = (2 + 0.1 * u).astype(np.float32)
    found = normals_of_depth(depth, CAMERA, "m2h")[5, 5]
    np.testing.assert_allclose(found, np.array([0.1, 0, -1]) / np.sqrt(1.01), atol=1e-6)


@pytest.mark.parametrize(("method", "lost"), [("tblr", 5), ("sobel", 9), ("m2h", 5)])
def test_a_hole_costs_its_neighbours(method: str, lost: int) -> None:
    depth = np.full(SIZE, 2, np.float32)
    depth[10, 10] = 0
    assert valid_neighbourhood(depth, method).sum() == 22 * 30 - lost


def test_depth_of_ten_metres_and_more_does_not_count() -> None:
    depth = np.full(SIZE, 2, np.float32)
    depth[:, 16:] = 10
    assert valid_neighbourhood(depth).sum() == 22 * 14


def test_masked_by_the_truth() -> None:
    depth, n = plane((0, 0, -1), 2.0)
    meter = ConsistencyMeter(masked=True)
    defined = np.zeros(SIZE, bool)
    defined[:, :4] = True
    meter.add(depth, np.broadcast_to(n, (*SIZE, 3)).astype(np.float32), CAMERA, defined)
    assert meter.pixels == 22 * 3


def test_meters_of_other_methods_do_not_merge() -> None:
    with pytest.raises(InputError, match="cannot be merged"):
        ConsistencyMeter().merge(ConsistencyMeter("sobel"))
    with pytest.raises(InputError, match="tblr, sobel, m2h"):
        ConsistencyMeter("cross")
