"""A scene graph as messages, read back by others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from house import SPACE, walked

from m2h_runtime.mapping.mesh import Mesh
from m2h_runtime.ros import graph_markers
from m2h_runtime.scene_graph import SceneGraph

if TYPE_CHECKING:
    from collections.abc import Mapping

for _library in ("skimage", "scipy", "spark_dsg", "rosbags"):
    pytest.importorskip(_library, reason="needs the extras graph and bags")

UPDATE = """\
std_msgs/Header header
uint8[] layer_contents
uint64[] deleted_nodes
uint64[] deleted_edges
bool full_update
int64 sequence_number
"""


@pytest.fixture(scope="module")
def graph() -> SceneGraph:
    """The house, two rooms."""
    found = walked().graph
    assert found is not None
    return found


def read(data: bytes, kind: str, more: Mapping[str, Any] | None = None) -> Any:
    """By rosbags, with Humble's messages."""
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    store.register(more or {})
    return store.deserialize_cdr(data, kind)


def test_markers_show_every_layer(graph: SceneGraph) -> None:
    array = read(graph_markers.markers(graph, "map"), graph_markers.MARKERS).markers
    by_name: dict[str, list[Any]] = {}
    for one in array:
        by_name.setdefault(one.ns, []).append(one)
        assert (one.header.frame_id, one.pose.orientation.w) == ("map", 1.0)
        assert one.header.stamp.sec * 10**9 + one.header.stamp.nanosec == graph.stamp_ns
    assert array[0].action == 3
    assert {one.text for one in by_name["object names"]} == {thing.name for thing in graph.objects}
    assert len(graph.objects) == 2
    assert len(by_name["objects"][0].points) == 2 * 12 * len(graph.objects)
    assert len(by_name["places"][0].points) == len(by_name["places"][0].colors) == len(graph.places)
    assert len(by_name["passages"][0].points) == 2 * len(graph.passages)
    assert [one.text for one in by_name["room names"]] == ["room 0", "room 1"]
    assert len(by_name["doors"][0].points) == 2
    heights = [by_name[name][0].points[0].z for name in ("places", "rooms", "building")]
    assert heights == sorted(heights)
    red, green, blue = (int(255 * getattr(by_name["objects"][0].colors[0], c) + 0.5) for c in "rgb")
    assert (red, green, blue) == SPACE.colors[graph.objects[0].label]


def test_the_mesh_is_open_above_and_has_its_colours(graph: SceneGraph) -> None:
    marker = read(graph_markers.mesh(graph, "map"), graph_markers.MARKER)
    assert (marker.ns, marker.type) == ("mesh", 11)
    assert len(marker.points) == len(marker.colors)
    assert len(marker.points) % 3 == 0
    heights = np.array([point.z for point in marker.points])
    assert -0.1 < heights.min() < 0.1
    assert 1.7 < heights.max() < 1.9
    assert {round(255 * color.r) for color in marker.colors} <= set(graph.mesh.colors[:, 0].tolist())


def test_nothing_mapped_yet_is_an_empty_slate() -> None:
    none = np.empty((0, 3))
    mesh = Mesh(none.astype(np.float32), none.astype(np.int32), none.astype(np.uint8), np.empty(0, np.uint8))
    empty = SceneGraph(0, SPACE, mesh)
    (only,) = read(graph_markers.markers(empty, "map"), graph_markers.MARKERS).markers
    assert only.action == 3
    assert len(read(graph_markers.mesh(empty, "map"), graph_markers.MARKER).points) == 0


def test_hydras_update_holds_the_whole_graph_and_its_mesh(graph: SceneGraph) -> None:
    import spark_dsg
    from rosbags.typesys import get_types_from_msg

    types = get_types_from_msg(UPDATE, graph_markers.UPDATE)
    message = read(graph_markers.update(graph, "map", 7), graph_markers.UPDATE, types)
    assert (message.full_update, message.sequence_number, message.header.frame_id) == (True, 7, "map")
    assert not len(message.deleted_nodes)
    assert not len(message.deleted_edges)
    made = spark_dsg.DynamicSceneGraph.from_binary(message.layer_contents.tobytes())
    assert made.get_layer(spark_dsg.DsgLayers.OBJECTS).num_nodes() == len(graph.objects)
    assert made.get_layer(spark_dsg.DsgLayers.ROOMS).num_nodes() == 2
    assert made.mesh.num_faces() == len(graph.mesh.faces)


def test_ros_reads_the_markers_as_they_were_meant(graph: SceneGraph) -> None:
    messages = pytest.importorskip("visualization_msgs.msg", reason="needs visualization_msgs")
    serialization = pytest.importorskip("rclpy.serialization")
    array = serialization.deserialize_message(graph_markers.markers(graph, "map"), messages.MarkerArray)
    theirs = serialization.serialize_message(array)
    again = serialization.deserialize_message(theirs, messages.MarkerArray)
    assert again == array
    assert array.markers[-1].ns == "rooms to building"
    assert [round(c, 3) for c in (array.markers[-1].scale.x, array.markers[-1].scale.y)] == [0.02, 0.0]
