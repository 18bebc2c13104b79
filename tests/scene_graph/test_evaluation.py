from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from house import BED, BED_BOX, HALL, SPACE, TABLE, TABLE_BOX

from m2h_runtime.scene_graph.evaluation import (
    entered_rooms,
    objects_to_find,
    score_objects,
    score_rooms,
)
from m2h_runtime.simulation.apartment import SceneObject

if TYPE_CHECKING:
    from m2h_runtime.scene_graph import SceneGraphBuilder


def true(number: int, kind: str, label: int, box: tuple) -> SceneObject:
    return SceneObject(number, kind, label, 0, *box)


@pytest.fixture
def plan() -> SimpleNamespace:
    """The two rooms as an apartment has them."""
    (x0, y0, _), (x1, y1, _) = HALL
    rooms = [
        SimpleNamespace(id=0, x0=x0, x1=0.0, y0=y0, y1=y1),
        SimpleNamespace(id=1, x0=0.0, x1=x1, y0=y0, y1=y1),
    ]
    return SimpleNamespace(rooms=rooms)


def test_all_is_found(builder: SceneGraphBuilder, plan: SimpleNamespace) -> None:
    assert builder.graph is not None
    score = score_objects(
        builder.graph.objects, [true(1, "bed", BED, BED_BOX), true(2, "table", TABLE, TABLE_BOX)]
    )
    assert (score.precision, score.recall) == (1, 1)
    rooms = score_rooms(builder, plan, {0, 1})  # type: ignore[arg-type]
    assert (rooms.precision, rooms.recall) == (1, 1)


def test_another_label_or_another_place_is_not_found(builder: SceneGraphBuilder) -> None:
    assert builder.graph is not None
    moved = tuple((x + 2, y, z) for x, y, z in BED_BOX)
    wrong = [true(1, "sofa", TABLE + 1, BED_BOX), true(2, "bed", BED, moved)]
    assert score_objects(builder.graph.objects, wrong).matched == 0


def test_a_room_that_is_cut_in_two_is_found_once(builder: SceneGraphBuilder, plan: SimpleNamespace) -> None:
    """The check can fail: one large true room, two found."""
    whole = SimpleNamespace(id=0, x0=-4.0, x1=4.0, y0=0.0, y1=3.0)
    score = score_rooms(builder, SimpleNamespace(rooms=[whole]), {0})  # type: ignore[arg-type]
    assert (score.matched, score.found, score.true) == (1, 2, 1)


def test_a_room_that_nobody_entered_need_not_be_found_and_does_no_harm(
    builder: SceneGraphBuilder, plan: SimpleNamespace
) -> None:
    score = score_rooms(builder, plan, {0})  # type: ignore[arg-type]
    assert (score.precision, score.recall) == (1, 1)
    assert entered_rooms(plan, np.array([[-2.0, 1.5, 1], [0.1, 1.5, 1]])) == {0}


def test_doors_are_whole_and_what_was_hardly_seen_is_not_asked_for() -> None:
    frame = true(1, "door_frame", 8, ((0.0, 0, 0), (1, 0.15, 2)))
    leaf = true(2, "door", 8, ((0.0, 0.15, 0), (0.1, 1, 2)))
    things = [frame, leaf, true(3, "mug", 40, ((5.0, 5, 0), (6, 6, 1))), true(4, "wall", 1, frame_box(frame))]
    apartment = SimpleNamespace(objects=things)
    seen = np.array([0, 5000, 5000, 100, 90000])
    found = objects_to_find(apartment, seen, {8, 40}, replace(SPACE, name="nyudv2_40"))  # type: ignore[arg-type]
    assert [(thing.kind, thing.high) for thing in found] == [("door_frame", (1.0, 1.0, 2.0))]


def test_a_bed_with_its_pillow_is_one_where_they_have_one_label() -> None:
    bed, pillow = (
        true(1, "bed", 4, ((0.0, 0, 0), (1, 2, 0.5))),
        true(2, "bed/18", 18, ((0.0, 1.6, 0.5), (1, 2, 0.7))),
    )
    apartment, seen = SimpleNamespace(objects=[bed, pillow]), np.full(3, 9999)
    assert len(objects_to_find(apartment, seen, {BED}, SPACE)) == 1  # type: ignore[arg-type]
    own = replace(SPACE, name="nyudv2_40")
    assert len(objects_to_find(apartment, seen, {4, 18}, own)) == 2  # type: ignore[arg-type]


def frame_box(thing: SceneObject) -> tuple:
    return thing.low, thing.high
