"""An apartment's triangles as a PLY file, for viewers and for judging a reconstruction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from m2h_runtime.files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from m2h_runtime.simulation.apartment import Apartment

MESH = "mesh.ply"
_FACE = [
    ("corners", "u1"), ("vertex_indices", "<i4", 3),
    ("red", "u1"), ("green", "u1"), ("blue", "u1"), ("label", "u1"), ("object", "<i4"),
]  # fmt: skip


def write_mesh(apartment: Apartment, folder: Path) -> None:
    """Write `mesh.ply` into `folder`: binary, world metres; each face has a colour, a NYUv2-40 label and an object.

    The colour is the mean of its texture; the object is an id of scene.yaml, 0 for the building.

    Raises:
        InputError: it cannot be written.
    """
    faces = np.zeros(len(apartment.faces), _FACE)
    faces["corners"] = 3
    faces["vertex_indices"] = apartment.faces
    colors = apartment.atlas.colors[apartment.face_material]
    for channel, name in enumerate(("red", "green", "blue")):
        faces[name] = colors[:, channel]
    faces["label"], faces["object"] = apartment.face_label, apartment.face_object
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment simulated apartment {apartment.seed}; label: NYUv2-40 id, object: id in scene.yaml",
        f"element vertex {len(apartment.vertices)}",
        *(f"property float {axis}" for axis in "xyz"),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        *(f"property uchar {name}" for name in ("red", "green", "blue", "label")),
        "property int object",
        "end_header",
        "",
    ]
    vertices = apartment.vertices.astype("<f4")
    write_atomically(folder / MESH, "\n".join(header).encode() + vertices.tobytes() + faces.tobytes())
