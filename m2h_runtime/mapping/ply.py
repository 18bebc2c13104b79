"""Meshes as PLY files: binary, little-endian, what every viewer reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from m2h_runtime.errors import InputError
from m2h_runtime.files import reason, write_atomically
from m2h_runtime.mapping.mesh import Mesh
from m2h_runtime.mapping.votes import NO_LABEL

if TYPE_CHECKING:
    from pathlib import Path

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "<i2", "int16": "<i2", "ushort": "<u2",
    "uint16": "<u2", "int": "<i4", "int32": "<i4", "uint": "<u4", "uint32": "<u4", "float": "<f4",
    "float32": "<f4", "double": "<f8", "float64": "<f8",
}  # fmt: skip
_VERTEX = [
    *((axis, "<f4") for axis in "xyz"),
    *((color, "u1") for color in ("red", "green", "blue", "label")),
]
_FACE = [("count", "u1"), ("vertex_indices", "<i4", 3)]
COLORS = ("red", "green", "blue")


def write_ply(path: Path, mesh: Mesh, comment: str = "") -> None:
    """Write a mesh; each vertex has x, y, z, red, green, blue and label.

    Raises:
        InputError: it cannot be written.
    """
    vertices = np.zeros(len(mesh.vertices), _VERTEX)
    for column, axis in enumerate("xyz"):
        vertices[axis] = mesh.vertices[:, column]
    for column, color in enumerate(COLORS):
        vertices[color] = mesh.colors[:, column]
    vertices["label"] = mesh.labels
    faces = np.zeros(len(mesh.faces), _FACE)
    faces["count"], faces["vertex_indices"] = 3, mesh.faces
    header = [
        "ply",
        "format binary_little_endian 1.0",
        *([f"comment {comment}"] if comment else []),
        f"element vertex {len(vertices)}",
        *(f"property float {axis}" for axis in "xyz"),
        *(f"property uchar {name}" for name in (*COLORS, "label")),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header",
        "",
    ]
    write_atomically(path, "\n".join(header).encode("ascii") + vertices.tobytes() + faces.tobytes())


def read_ply(path: Path) -> Mesh:
    """Read a binary little-endian PLY of triangles; colours and labels that it does not have are 0 and `NO_LABEL`.

    Raises:
        InputError: no such file, or another sort of PLY.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({reason(error)})") from error
    head, mark, body = data.partition(b"end_header\n")
    elements = _elements(head.decode("ascii", "replace").splitlines()) if mark else {}
    if b"format binary_little_endian 1.0" not in head or not {"vertex", "face"} <= elements.keys():
        raise InputError(f"{path}: is no binary little-endian PLY with vertices and faces")
    rows: dict[str, Any] = {}
    for name, (count, dtype) in elements.items():
        if len(body) < count * dtype.itemsize:
            raise InputError(f"{path}: ends within its {name} list; write it again")
        rows[name], body = np.frombuffer(body, dtype, count), body[count * dtype.itemsize :]
    return _mesh(path, rows["vertex"], rows["face"])


def _elements(lines: list[str]) -> dict[str, tuple[int, np.dtype[Any]]]:
    """By element: how many, and what a row is. Lists are taken to be triangles; `_mesh` checks it."""
    found: dict[str, tuple[int, list[Any]]] = {}
    fields: list[Any] = []
    for words in (line.split() for line in lines):
        if words[:1] == ["element"]:
            fields = []
            found[words[1]] = (int(words[2]), fields)
        elif words[:2] == ["property", "list"]:
            fields += [(f"{words[4]} count", _TYPES[words[2]]), (words[4], _TYPES[words[3]], 3)]
        elif words[:1] == ["property"]:
            fields.append((words[2], _TYPES[words[1]]))
    return {name: (count, np.dtype(fields)) for name, (count, fields) in found.items()}


def _mesh(path: Path, vertices: Any, faces: Any) -> Mesh:
    corners = next((name for name in ("vertex_indices", "vertex_index") if name in faces.dtype.names), None)
    if corners is None or not set("xyz") <= set(vertices.dtype.names):
        raise InputError(f"{path}: its vertices have no x, y, z or its faces no vertex_indices")
    if np.any(faces[f"{corners} count"] != 3):
        raise InputError(f"{path}: has faces that are no triangles; triangulate it first")
    count, names = len(vertices), vertices.dtype.names
    colored = set(COLORS) <= set(names)
    return Mesh(
        np.stack([vertices[axis] for axis in "xyz"], axis=1).astype(np.float32),
        np.ascontiguousarray(faces[corners]).astype(np.int32),
        np.stack([vertices[color] for color in COLORS], axis=1).astype(np.uint8)
        if colored
        else np.zeros((count, 3), np.uint8),
        vertices["label"].astype(np.uint8) if "label" in names else np.full(count, NO_LABEL, np.uint8),
    )
