"""The files that a scene graph becomes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m2h_runtime.errors import InputError
from m2h_runtime.files import folder_in_place
from m2h_runtime.mapping.ply import write_ply
from m2h_runtime.scene_graph.page import write_page
from m2h_runtime.scene_graph.picture import write_picture
from m2h_runtime.scene_graph.spark import save_graph

if TYPE_CHECKING:
    from pathlib import Path

    from m2h_runtime.scene_graph.layers import SceneGraph

GRAPH, MESH, PAGE, PICTURE = "graph.json", "mesh.ply", "graph.html", "graph.jpg"
FILES = frozenset({GRAPH, MESH, PAGE, PICTURE})


def check_folder(folder: Path) -> None:
    """Find out before the work whether `folder` may be written.

    Raises:
        InputError: it is a file, or holds something that is not ours.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; choose another --out")
    foreign = sorted(path.name for path in folder.glob("*") if path.name not in FILES)
    if foreign:
        raise InputError(f"{folder}: holds {foreign[0]}, which would be lost; choose another --out")


def write_outputs(graph: SceneGraph, folder: Path, title: str) -> None:
    """Write graph.json, mesh.ply, graph.html and graph.jpg into `folder`, which appears when all are written.

    Args:
        graph: what to write.
        folder: an earlier one of the same name is replaced.
        title: where the graph comes from, for a person.

    Raises:
        InputError: it cannot be written, or spark_dsg is not installed.
    """
    check_folder(folder)
    with folder_in_place(folder) as temporary:
        save_graph(graph, temporary / GRAPH)
        write_ply(temporary / MESH, graph.mesh, f"labels: {graph.label_space.name}")
        write_page(graph, temporary / PAGE, title)
        write_picture(graph, temporary / PICTURE)
