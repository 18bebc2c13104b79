from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from m2h_runtime.errors import InputError
from m2h_runtime.label_space import load_label_map, load_label_space
from m2h_runtime.simulation.apartment import build_apartment
from m2h_runtime.simulation.episode import reserved_seeds, seeds_of, style_of
from m2h_runtime.simulation.floor_plan import WALL_M, draw_plan
from m2h_runtime.simulation.truth_files import scene_graph

if TYPE_CHECKING:
    from collections.abc import Callable

    from m2h_runtime.simulation.apartment import Apartment, SceneObject

SEEDS = (0, 1, 2)
ROOMS = {"living", "bedroom", "kitchen", "bathroom", "office"}
# Of NYUD20; nobody is at home, and nothing is unknown.
ABSENT = {"unknown", "dynamic-nonhuman", "human"}


def same_mesh(a: Apartment, b: Apartment) -> bool:
    return all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for name in (
            "vertices",
            "faces",
            "face_material",
            "face_label",
            "face_object",
            "face_u",
            "face_shift",
        )
    )


def test_a_seed_always_gives_the_same_apartment(apartment_of: Callable[[int], Apartment]) -> None:
    first, again = apartment_of(0), build_apartment(0)
    assert same_mesh(first, again)
    assert (first.rooms, first.objects, first.materials) == (again.rooms, again.objects, again.materials)
    assert all((a.power == b.power).all() for a, b in zip(first.lights, again.lights, strict=True))
    assert not same_mesh(first, apartment_of(1))


@pytest.mark.parametrize("seed", range(20))
def test_a_plan_has_five_kinds_of_rooms_about_a_corridor(seed: int) -> None:
    rooms = draw_plan(np.random.default_rng(seed))
    assert {room.kind for room in rooms[:-1]} == ROOMS
    assert rooms[-1].kind == "corridor"
    assert [room.id for room in rooms] == list(range(len(rooms)))
    corridor_passages = sorted((o.start, o.end) for o in rooms[-1].openings if o.kind == "passage")
    doors = sorted((o.start, o.end) for room in rooms[:-1] for o in room.openings if o.kind != "window")
    assert doors == corridor_passages, "every room has one way, and it leads to the corridor"
    for room in rooms[:-1]:
        for opening in room.openings:
            low, high = room.span(opening.side)
            assert low < opening.start < opening.end < high
            assert opening.high < room.height
    for index, a in enumerate(rooms):
        for b in rooms[index + 1 :]:
            assert max(b.x0 - a.x1, a.x0 - b.x1, b.y0 - a.y1, a.y0 - b.y1) >= WALL_M - 1e-9, "walls between"


def of_one_model(a: SceneObject, b: SceneObject) -> bool:
    """Parts of a model, such as "desk" and "desk/25"; two desks are not."""
    return a.kind.partition("/")[0] == b.kind.partition("/")[0] and "/" in a.kind + b.kind


@pytest.mark.parametrize("seed", SEEDS)
def test_things_do_not_stand_in_each_other(apartment_of: Callable[[int], Apartment], seed: int) -> None:
    """Boxes reach at most 10 cm into each other: seats under tables, curtains before furniture."""
    objects = apartment_of(seed).objects
    assert len(objects) > 60
    for index, a in enumerate(objects):
        for b in objects[index + 1 :]:
            if a.room == b.room and not of_one_model(a, b):
                overlap = (np.minimum(a.high, b.high) - np.maximum(a.low, b.low)).min()
                assert overlap <= 0.1, (a, b)


@pytest.mark.parametrize("seed", SEEDS)
def test_things_are_inside_of_their_rooms(apartment_of: Callable[[int], Apartment], seed: int) -> None:
    apartment = apartment_of(seed)
    assert [thing.id for thing in apartment.objects] == list(range(1, len(apartment.objects) + 1))
    for thing in apartment.objects:
        room = apartment.rooms[thing.room]
        reach = WALL_M + 0.05  # door frames go through the wall
        sunk = 0.04 if thing.kind == "laundry" else 0.001  # soft things lie flat
        low = np.array([room.x0 - reach, room.y0 - reach, -sunk])
        high = np.array([room.x1 + reach, room.y1 + reach, room.height + 0.001])
        assert (low <= thing.low).all(), thing
        assert (high >= thing.high).all(), thing
        mine = apartment.faces[apartment.face_object == thing.id]
        corners = apartment.vertices[mine].reshape(-1, 3)
        assert corners.min(axis=0) == pytest.approx(np.array(thing.low), abs=1e-4)
        assert corners.max(axis=0) == pytest.approx(np.array(thing.high), abs=1e-4)


def test_every_class_occurs(apartment_of: Callable[[int], Apartment]) -> None:
    table, names = load_label_map("nyudv2_40", "nyud20"), load_label_space("nyud20").classes
    seen = {names[i] for seed in SEEDS for i in np.unique(table[apartment_of(seed).face_label])}
    assert seen == set(names) - ABSENT


def test_the_building_has_no_object_id(apartment_of: Callable[[int], Apartment]) -> None:
    apartment = apartment_of(0)
    names = load_label_space("nyudv2_40").classes
    building = {names[i] for i in np.unique(apartment.face_label[apartment.face_object == 0])}
    assert building == {"wall", "floor", "ceiling"}


def test_scene_graph_lists_every_room_and_object(apartment_of: Callable[[int], Apartment]) -> None:
    apartment = apartment_of(0)
    graph = scene_graph(apartment)
    assert [room["kind"] for room in graph["rooms"]] == [room.kind for room in apartment.rooms]
    assert [(o["id"], o["kind"], o["room"]) for o in graph["objects"]] == [
        (o.id, o.kind, o.room) for o in apartment.objects
    ]


def test_reserved_apartments_are_in_no_training_split() -> None:
    reserved = reserved_seeds()
    kept = {seed for seeds in reserved.values() for seed in seeds}
    assert set(reserved["test"]).isdisjoint(reserved["val"])
    train = seeds_of("train", 300, first=8900)
    assert len(set(train)) == 300
    assert train[0] == 8900
    assert kept.isdisjoint(train)
    assert seeds_of("test") == reserved["test"]
    assert seeds_of("val", 1) == reserved["val"][:1]
    with pytest.raises(InputError, match=r"split val: has \d+ apartments, not 99"):
        seeds_of("val", 99)
    assert [style_of(seed) for seed in range(4)] == ["handheld", "wheeled", "handheld", "drone"]
