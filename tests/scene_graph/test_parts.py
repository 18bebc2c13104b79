from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from m2h_runtime.mapping import Mesh
from m2h_runtime.mapping.free_space import CELL_M
from m2h_runtime.scene_graph.floor import FloorGrid, _distance
from m2h_runtime.scene_graph.identity import Identities, nearness
from m2h_runtime.scene_graph.objects import find_objects
from m2h_runtime.scene_graph.places import find_places
from m2h_runtime.scene_graph.rooms import cut_rooms
from m2h_runtime.scene_graph.transforms import TF, TF_STATIC, Transforms


def floor(free: np.ndarray, walls: np.ndarray | None = None) -> FloorGrid:
    """A plan drawn in cells of 0.1 m; `walls` also stop what is above the furniture."""
    free = np.pad(free, 2)
    above = free if walls is None else ~np.pad(walls, 2, constant_values=True)
    return FloorGrid(np.zeros(2, np.int64), free, _distance(free), _distance(above), 0.0, 2.5)


def rooms_of(grid: FloorGrid) -> int:
    return cut_rooms(grid, find_places(grid.clearance)).count


def two_rooms(door_cells: int) -> np.ndarray:
    """Two rooms of 3 m x 3 m beside each other."""
    plan = np.ones((30, 61), bool)
    plan[:, 30] = False
    plan[15 - door_cells // 2 : 15 - door_cells // 2 + door_cells, 30] = True
    return plan


@pytest.mark.parametrize(("door_cells", "rooms"), [(0, 2), (9, 2), (24, 1)])
def test_a_door_parts_rooms_and_a_wide_opening_does_not(door_cells: int, rooms: int) -> None:
    assert rooms_of(floor(two_rooms(door_cells))) == rooms


def test_furniture_parts_no_room() -> None:
    """A sofa right across leaves a gap of 0.6 m on the floor; above it the room is one."""
    plan = np.ones((30, 60), bool)
    plan[6:, 28:34] = False
    assert rooms_of(floor(plan)) == 2
    assert rooms_of(floor(plan, walls=np.zeros_like(plan))) == 1


def test_a_lintel_parts_rooms_that_a_wide_passage_joins() -> None:
    plan = two_rooms(20)
    walls = np.zeros_like(plan)
    walls[:, 30] = True
    assert rooms_of(floor(plan)) == 1
    assert rooms_of(floor(plan, walls)) == 2


def test_a_corner_is_no_room() -> None:
    plan = np.ones((30, 40), bool)
    plan[:10, 25:] = False
    assert rooms_of(floor(plan)) == 1


def test_a_closet_too_small_to_turn_in_is_no_room() -> None:
    plan = np.zeros((30, 45), bool)
    plan[:, :30] = True
    plan[10:18, 31:38] = True  # 0.56 m^2 behind a door
    plan[12:16, 30] = True
    assert rooms_of(floor(plan)) == 1


def test_places_know_how_much_room_there_is() -> None:
    places = find_places(floor(np.ones((20, 60), bool)).clearance)
    assert places.clearance.max() == pytest.approx(1.0, abs=0.1)
    assert len(places.edges) == len(places.rows) - 1  # a corridor: one after the other
    assert (places.edge_clearance <= places.clearance.max()).all()


def blob(centre: tuple[float, float, float], label: int, count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    points = np.random.default_rng(label).uniform(-0.2, 0.2, (count, 3)) + centre
    return points.astype(np.float32), np.full(count, label, np.uint8)


def mesh_of(*blobs: tuple[np.ndarray, np.ndarray]) -> Mesh:
    points, labels = (np.concatenate(part) for part in zip(*blobs, strict=True))
    return Mesh(points, np.empty((0, 3), np.int32), np.zeros((len(points), 3), np.uint8), labels)


def test_things_of_one_label_apart_are_two_and_of_two_labels_together_are_two() -> None:
    mesh = mesh_of(blob((0, 0, 0), 5), blob((2, 0, 0), 5), blob((0.1, 0, 0), 6), blob((9, 9, 9), 1))
    found = find_objects(mesh, {5, 6}, 0.05)
    assert sorted(cluster.label for cluster in found) == [5, 5, 6]
    assert all(np.allclose(c.high - c.low, 0.4, atol=0.05) for c in found)


def test_specks_are_no_objects() -> None:
    assert find_objects(mesh_of(blob((0, 0, 0), 5, 20)), {5}, 0.05) == []


def test_ids_go_to_the_most_alike_and_are_never_given_again() -> None:
    ids = Identities()
    points = np.array([[0.0, 0], [5, 5]])
    first = ids.assign(np.zeros((2, 0)), np.empty(0, np.int64))
    assert first.tolist() == [0, 1]
    moved = np.array([[5.1, 5], [9, 9]])
    second = ids.assign(nearness(moved, points, 0.5), first)
    assert second.tolist() == [1, 2]
    third = ids.assign(nearness(points, moved, 0.5), second)
    assert third.tolist() == [3, 1]


def transform(parent: str, child: str, stamp_ns: int, x: float, yaw: float = 0.0) -> SimpleNamespace:
    point = SimpleNamespace
    return point(
        header=point(frame_id=parent, stamp=point(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)),
        child_frame_id=child,
        transform=point(
            translation=point(x=x, y=0.0, z=0.0),
            rotation=point(w=np.cos(yaw / 2), x=0.0, y=0.0, z=np.sin(yaw / 2)),
        ),
    )


def test_poses_climb_from_the_camera_to_the_world_and_lie_between_messages() -> None:
    moving = [transform("world", "base", t, x) for t, x in ((0, 0.0), (100_000_000, 1.0))]
    fixed = [transform("base", "camera", 0, 0.2, np.pi / 2)]
    tree = Transforms(
        [(TF, SimpleNamespace(transforms=moving)), (TF_STATIC, SimpleNamespace(transforms=fixed))]
    )
    pose = tree.world_from("camera", 50_000_000)
    assert pose is not None
    assert pose[:3, 3] == pytest.approx((0.7, 0, 0))
    assert pose[:3, 0] == pytest.approx((0, 1, 0))


def test_poses_that_nobody_knows_are_none() -> None:
    moving = [transform("world", "base", t, 0.0) for t in (0, 1_000_000_000)]
    tree = Transforms([(TF, SimpleNamespace(transforms=moving))])
    assert tree.world_from("camera", 0) is None
    assert tree.world_from("base", 500_000_000) is None  # a gap of a second
    assert tree.world_from("base", 2_000_000_000) is None
    loop = [transform("a", "b", 0, 0.0), transform("b", "a", 0, 0.0)]
    assert Transforms([(TF_STATIC, SimpleNamespace(transforms=loop))]).world_from("a", 0) is None


def test_cells_are_a_tenth_of_a_metre() -> None:
    """The plans above are drawn in them."""
    assert CELL_M == 0.1
