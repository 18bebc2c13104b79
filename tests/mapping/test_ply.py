from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import trimesh

from m2h_runtime.errors import InputError
from m2h_runtime.mapping import Mesh
from m2h_runtime.mapping.ply import read_ply, write_ply

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def mesh() -> Mesh:
    rng = np.random.default_rng(0)
    return Mesh(
        rng.normal(size=(30, 3)).astype(np.float32),
        rng.permutation(30).reshape(-1, 3).astype(np.int32),
        rng.integers(0, 256, (30, 3)).astype(np.uint8),
        rng.integers(0, 256, 30).astype(np.uint8),
    )


def test_what_is_written_is_read_back(mesh: Mesh, tmp_path: Path) -> None:
    write_ply(tmp_path / "m.ply", mesh, "labels: nyud20")
    back = read_ply(tmp_path / "m.ply")
    for name in ("vertices", "faces", "colors", "labels"):
        np.testing.assert_array_equal(getattr(back, name), getattr(mesh, name))


def test_another_library_reads_it_too(mesh: Mesh, tmp_path: Path) -> None:
    write_ply(tmp_path / "m.ply", mesh)
    other = trimesh.load(tmp_path / "m.ply", process=False)
    np.testing.assert_allclose(other.vertices, mesh.vertices)
    np.testing.assert_array_equal(other.faces, mesh.faces)
    np.testing.assert_array_equal(other.visual.vertex_colors[:, :3], mesh.colors)


def test_a_mesh_of_the_simulation_is_read(tmp_path: Path) -> None:
    """It has properties of its own on its faces and no colours on its vertices."""
    from m2h_runtime.simulation.apartment import build_apartment
    from m2h_runtime.simulation.mesh import write_mesh

    apartment = build_apartment(1)
    write_mesh(apartment, tmp_path)
    back = read_ply(tmp_path / "mesh.ply")
    np.testing.assert_array_equal(back.faces, apartment.faces)
    np.testing.assert_array_equal(back.vertices, apartment.vertices)


def test_half_a_file_is_refused_in_one_line(mesh: Mesh, tmp_path: Path) -> None:
    write_ply(tmp_path / "m.ply", mesh)
    data = (tmp_path / "m.ply").read_bytes()
    (tmp_path / "half.ply").write_bytes(data[:-20])
    with pytest.raises(InputError, match=r"half\.ply: ends within its face list"):
        read_ply(tmp_path / "half.ply")


def test_what_is_no_ply_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.ply").write_text("solid stl\n")
    with pytest.raises(InputError, match="is no binary little-endian PLY"):
        read_ply(tmp_path / "a.ply")
    with pytest.raises(InputError, match="cannot be read"):
        read_ply(tmp_path / "none.ply")


def test_quads_are_refused(tmp_path: Path) -> None:
    header = "ply\nformat binary_little_endian 1.0\nelement vertex 4\nproperty float x\nproperty float y\n"
    header += "property float z\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n"
    body = np.zeros(12, "<f4").tobytes() + b"\x04" + np.arange(4, dtype="<i4").tobytes()
    (tmp_path / "quad.ply").write_bytes(header.encode() + body)
    with pytest.raises(InputError, match="no triangles"):
        read_ply(tmp_path / "quad.ply")


def test_a_coarser_mesh_is_the_same_surface_with_fewer_triangles() -> None:
    ball = trimesh.creation.icosphere(4, 1.0)
    count = len(ball.vertices)
    mesh = Mesh(
        ball.vertices.astype(np.float32),
        ball.faces.astype(np.int32),
        np.zeros((count, 3), np.uint8),
        np.zeros(count, np.uint8),
    )
    coarse = mesh.coarser(0.25)
    assert len(coarse.faces) < 0.3 * len(mesh.faces)
    assert coarse.areas.sum() == pytest.approx(mesh.areas.sum(), rel=0.1)
