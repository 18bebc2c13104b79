from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
import spark_dsg
from house import SPACE

from m2h_runtime.errors import InputError
from m2h_runtime.mapping.ply import read_ply
from m2h_runtime.scene_graph import SceneGraph, SceneGraphBuilder
from m2h_runtime.scene_graph.outputs import FILES, write_outputs
from m2h_runtime.scene_graph.page import light

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def graph(builder: SceneGraphBuilder) -> SceneGraph:
    assert builder.graph is not None
    return builder.graph


@pytest.fixture(scope="module")
def folder(graph: SceneGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "graph"
    write_outputs(graph, folder, "two rooms </script>")
    return folder


def test_all_files_are_there(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == FILES


def test_hydras_library_reads_layers_nodes_and_edges(folder: Path, graph: SceneGraph) -> None:
    read = spark_dsg.DynamicSceneGraph.load(str(folder / "graph.json"))
    layers = spark_dsg.DsgLayers
    counts = {
        name: read.get_layer(name).num_nodes() for name in (layers.OBJECTS, layers.PLACES, layers.ROOMS)
    }
    assert list(counts.values()) == [2, len(graph.places), 2]
    assert read.get_layer(layers.BUILDINGS).num_nodes() == 1
    assert read.has_edge(spark_dsg.NodeSymbol("B", 0), spark_dsg.NodeSymbol("R", graph.rooms[0].id))
    assert read.has_edge(spark_dsg.NodeSymbol("R", 0), spark_dsg.NodeSymbol("R", 1))
    for thing in graph.objects:
        assert read.has_edge(spark_dsg.NodeSymbol("p", thing.place), spark_dsg.NodeSymbol("O", thing.id))
    passage = graph.passages[0]
    edge = read.get_edge(spark_dsg.NodeSymbol("p", passage.first), spark_dsg.NodeSymbol("p", passage.second))
    assert edge.info.weight == pytest.approx(passage.clearance_m)


def test_hydras_library_reads_names_boxes_and_labels(folder: Path, graph: SceneGraph) -> None:
    read = spark_dsg.DynamicSceneGraph.load(str(folder / "graph.json"))
    for thing in graph.objects:
        attributes = read.get_node(spark_dsg.NodeSymbol("O", thing.id)).attributes
        assert (attributes.name, attributes.semantic_label) == (thing.name, thing.label)
        assert attributes.bounding_box.min == pytest.approx(thing.low, abs=1e-4)
        assert attributes.bounding_box.max == pytest.approx(thing.high, abs=1e-4)
        assert attributes.position == pytest.approx(thing.position)
        assert attributes.last_update_time_ns == graph.stamp_ns
    assert read.get_labelspace(2, 0).labels_to_names[9] == "bed"
    assert read.metadata.get()["label_space"] == SPACE.name
    place = graph.places[0]
    attributes = read.get_node(spark_dsg.NodeSymbol("p", place.id)).attributes
    assert attributes.distance == pytest.approx(place.clearance_m)


def test_hydras_library_reads_the_mesh_as_it_was(folder: Path, graph: SceneGraph) -> None:
    mesh = spark_dsg.DynamicSceneGraph.load(str(folder / "graph.json")).mesh
    vertices = mesh.get_vertices()
    np.testing.assert_allclose(vertices[:3].T, graph.mesh.vertices, atol=1e-5)
    np.testing.assert_array_equal(np.round(vertices[3:].T * 255), graph.mesh.colors)
    np.testing.assert_array_equal(mesh.get_faces().T, graph.mesh.faces)
    np.testing.assert_array_equal(mesh.get_labels(), graph.mesh.labels)


def test_the_mesh_lies_beside_it(folder: Path, graph: SceneGraph) -> None:
    np.testing.assert_array_equal(read_ply(folder / "mesh.ply").faces, graph.mesh.faces)


def test_the_page_needs_nothing_else_and_holds_every_node(folder: Path, graph: SceneGraph) -> None:
    page = (folder / "graph.html").read_text("utf-8")
    assert not re.search(r"(src|href)\s*=|https?://|import\s", page)
    line = next(line for line in page.splitlines() if line.startswith("const graph = "))
    data = json.loads(line.removeprefix("const graph = ").removesuffix(";").replace("<\\/", "</"))
    assert data["title"] == "two rooms </script>"
    assert page.count("</script>") == 1
    for layer in ("objects", "places", "rooms"):
        assert len(data[layer]) == len(getattr(graph, layer))


def test_the_picture_shows_something(folder: Path) -> None:
    picture = cv2.imread(str(folder / "graph.jpg"))
    assert picture.shape == (1000, 1500, 3)
    assert picture.std() > 15


def test_a_page_for_a_phone_has_few_triangles(graph: SceneGraph) -> None:
    assert len(light(graph.mesh, 5000).faces) <= 5000
    assert light(graph.mesh, 10**6) is graph.mesh


def test_an_empty_graph_is_written_too(tmp_path: Path) -> None:
    write_outputs(SceneGraphBuilder(SPACE).update(), tmp_path / "empty", "nothing")
    assert spark_dsg.DynamicSceneGraph.load(str(tmp_path / "empty" / "graph.json")).num_nodes() == 0


def test_a_folder_with_other_things_is_left_alone(graph: SceneGraph, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match=r"holds thesis\.tex, which would be lost"):
        write_outputs(graph, tmp_path, "")
    assert (tmp_path / "thesis.tex").read_text() == "mine"
