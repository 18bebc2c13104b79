from __future__ import annotations

import numpy as np
import pytest
from house import BED, BED_BOX, SPACE, TABLE, TABLE_BOX, walk, walked

from m2h_runtime.errors import InputError
from m2h_runtime.label_space import LabelSpace, load_label_space
from m2h_runtime.scene_graph import SceneGraphBuilder
from m2h_runtime.scene_graph.objects import overlap
from m2h_runtime.scene_graph.roles import roles_of


def test_the_objects_are_found_with_their_boxes(builder: SceneGraphBuilder) -> None:
    graph = builder.graph
    assert graph is not None
    assert sorted(thing.label for thing in graph.objects) == [BED, TABLE]
    for thing, (low, high) in zip(
        sorted(graph.objects, key=lambda t: t.label), (BED_BOX, TABLE_BOX), strict=True
    ):
        iou = overlap(*(np.array([corner]) for corner in (thing.low, thing.high, low, high)))
        assert iou[0, 0] > 0.6, thing
        assert thing.name.startswith(SPACE.classes[thing.label])


def test_the_door_parts_two_rooms(builder: SceneGraphBuilder) -> None:
    graph = builder.graph
    assert graph is not None
    assert len(graph.rooms) == 2
    west, east = sorted(graph.rooms, key=lambda room: room.position[0])
    assert west.high[0] < 0.3
    assert east.low[0] > -0.3
    assert graph.doors == ((0, 1),)
    assert 8 < west.area_m2 < 12
    assert graph.building is not None
    assert graph.building.low[0] == west.low[0]


def test_every_object_is_in_the_room_where_it_stands(builder: SceneGraphBuilder) -> None:
    graph = builder.graph
    assert graph is not None
    west, east = (room.id for room in sorted(graph.rooms, key=lambda room: room.position[0]))
    assert {thing.label: thing.room for thing in graph.objects} == {TABLE: west, BED: east}
    places = {place.id for place in graph.places}
    assert {thing.place for thing in graph.objects} <= places


def test_places_are_free_as_far_as_they_say_and_joined_through_the_door(builder: SceneGraphBuilder) -> None:
    graph = builder.graph
    assert graph is not None
    for place in graph.places:
        x, y, _ = place.position
        for low, high in (TABLE_BOX, BED_BOX):
            gap = np.maximum(np.maximum(np.array(low[:2]) - (x, y), (x, y) - np.array(high[:2])), 0)
            assert np.linalg.norm(gap) > place.clearance_m - 0.15, place
        assert min(y, 3 - y, x + 4, 4 - x) > place.clearance_m - 0.15, place
    room = {place.id: place.room for place in graph.places}
    through = [p for p in graph.passages if room[p.first] != room[p.second]]
    assert len(through) == 1
    assert 0.2 < through[0].clearance_m < 0.55  # the door is 0.9 m wide


def test_what_was_there_keeps_its_id_when_more_is_seen() -> None:
    builder = walked([-1.4])
    before = builder.graph
    assert before is not None
    for one in walk(1.0):
        builder.add(one)
    after = builder.update()
    table_before, table_after = (next(t for t in g.objects if t.label == TABLE) for g in (before, after))
    assert table_after.id == table_before.id
    west_before, west_after = (min(g.rooms, key=lambda r: r.position[0]) for g in (before, after))
    assert west_after.id == west_before.id
    assert len({t.id for t in after.objects}) == len(after.objects)
    assert len({place.id for place in after.places}) == len(after.places)


def test_nothing_mapped_is_an_empty_graph() -> None:
    graph = SceneGraphBuilder(SPACE).update()
    assert (graph.objects, graph.places, graph.rooms, graph.building) == ((), (), (), None)


def test_roles_of_the_heads_classes_are_those_that_hydra_gives_their_nyud20_labels() -> None:
    roles = roles_of(load_label_space("nyudv2_40"))
    classes = load_label_space("nyudv2_40").classes
    assert {"chair", "bed", "pillow", "door"} <= {classes[i] for i in roles.objects}
    assert {classes[i] for i in roles.dynamic} == {"person", "other structure", "other furniture"}
    assert {classes[i] for i in roles.floor} == {"floor", "floor mat"}
    assert not roles.objects & roles.dynamic


def test_scannet_has_objects_and_nothing_dynamic() -> None:
    roles = roles_of(load_label_space("scannet20"))
    assert roles.objects == set(range(2, 20))
    assert roles.dynamic == set()


def test_classes_that_nobody_knows_are_refused() -> None:
    with pytest.raises(InputError, match=r"label space mine: no roles are known.*nyudv2_40"):
        SceneGraphBuilder(LabelSpace("mine", ("a",), ((0, 0, 0),)))
