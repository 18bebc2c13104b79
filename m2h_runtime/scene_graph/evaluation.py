"""How much of a simulated apartment's true scene graph was found."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from m2h_runtime.label_space import load_label_map
from m2h_runtime.libraries import require
from m2h_runtime.scene_graph.objects import overlap

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from m2h_runtime.label_space import LabelSpace
    from m2h_runtime.scene_graph.builder import SceneGraphBuilder
    from m2h_runtime.scene_graph.layers import Object
    from m2h_runtime.simulation.apartment import Apartment, SceneObject

ROOM_IOU = 0.5
OBJECT_IOU = 0.25
LEAST_PIXELS = 2000
"""An object that was seen with fewer pixels in all images together is not asked for."""
THINNEST_M = 0.1
"""Boxes are compared as if no side were shorter: a picture is 3 cm thick and a voxel 5 cm."""
DOOR = {"door", "door_frame"}
TOUCHING_M = 0.05
INSIDE_M = 0.5
"""A look through the door is no visit."""
TRUE_SPACE = "nyudv2_40"


@dataclass(frozen=True)
class Score:
    """How many were found.

    Attributes:
        matched: pairs of one found and one true node.
        found: nodes found.
        true: nodes to be found.
    """

    matched: int
    found: int
    true: int

    @property
    def precision(self) -> float:
        """Share of the found that are true; 0 if nothing was found."""
        return self.matched / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        """Share of the true that were found; 0 if there are none."""
        return self.matched / self.true if self.true else 0.0


def score_rooms(
    builder: SceneGraphBuilder, apartment: Apartment, entered: Collection[int], least_iou: float = ROOM_IOU
) -> Score:
    """Rooms against the plan, one to one by overlap of their floors.

    Only columns that were mapped as free floor count, in truth as well: what stands in a room is in neither.

    Args:
        builder: with a graph.
        apartment: the truth.
        entered: ids of the rooms in which the camera was; the others need not be found, and do no harm if they are.
        least_iou: of a pair.
    """
    if builder.floor is None or builder.room_cut is None:
        return Score(0, 0, len(entered))
    rows, columns = np.nonzero(builder.floor.free)
    x, y = builder.floor.positions(rows, columns).T
    found = builder.room_cut.of_cell[rows, columns]
    iou = np.zeros((builder.room_cut.count, len(apartment.rooms)))
    for room in apartment.rooms:
        inside = (x > room.x0) & (x < room.x1) & (y > room.y0) & (y < room.y1)
        for number in range(builder.room_cut.count):
            mine = found == number
            iou[number, room.id] = (mine & inside).sum() / max((mine | inside).sum(), 1)
    pairs = _pairs(iou, least_iou)
    asked = [(number, room) for number, room in pairs if room in entered]
    return Score(len(asked), builder.room_cut.count - (len(pairs) - len(asked)), len(entered))


def score_objects(
    objects: Collection[Object], true: Collection[SceneObject], least_iou: float = OBJECT_IOU
) -> Score:
    """Objects against the truth, one to one, by label and overlap of their boxes."""
    if not objects or not true:
        return Score(0, len(objects), len(true))
    boxes = [_boxes([(thing.low, thing.high) for thing in things]) for things in (objects, true)]
    labels = [np.array([thing.label for thing in things]) for things in (objects, true)]
    iou = overlap(*boxes[0], *boxes[1]) * (labels[0][:, None] == labels[1][None])
    return Score(len(_pairs(iou, least_iou)), len(objects), len(true))


def objects_to_find(
    apartment: Apartment, seen: NDArray[np.int64], labels: Collection[int], space: LabelSpace
) -> list[SceneObject]:
    """The true objects that a map can hold, with labels of `space`.

    A door's frame and its leaf are one, and so are parts of one piece of furniture that have the same label there (bed
    and pillow in NYUD20): nothing that sees labels can tell them apart.

    Args:
        apartment: the truth.
        seen: int (objects + 1,), pixels by object id in all images together, within the mapped depth.
        labels: class ids of `space` that make objects.
        space: of the perception.
    """
    table = np.arange(256) if space.name == TRUE_SPACE else load_label_map(TRUE_SPACE, space.name)
    whole: list[SceneObject] = []
    for thing in apartment.objects:
        if seen[thing.id] < LEAST_PIXELS or int(table[thing.label]) not in labels:
            continue
        named = replace(thing, label=int(table[thing.label]))
        part = next((i for i, other in enumerate(whole) if _are_one(named, other)), None)
        if part is None:
            whole.append(named)
        else:
            whole[part] = _joined(whole[part], named)
    return whole


def entered_rooms(apartment: Apartment, places: NDArray[np.float64]) -> set[int]:
    """Rooms in which the camera was, by its places in the world (N, 3), farther than `INSIDE_M` from their walls."""
    x, y = places[:, 0], places[:, 1]
    return {
        room.id
        for room in apartment.rooms
        if (
            (np.minimum(x - room.x0, room.x1 - x) > INSIDE_M)
            & (np.minimum(y - room.y0, room.y1 - y) > INSIDE_M)
        ).any()
    }


def _pairs(iou: NDArray[np.float64], least: float) -> list[tuple[int, int]]:
    optimize = require("scipy.optimize", "judging a scene graph", "mapping")
    rows, columns = optimize.linear_sum_assignment(-np.where(iou >= least, iou, 0))
    return [(r, c) for r, c in zip(rows.tolist(), columns.tolist(), strict=True) if iou[r, c] >= least]


def _boxes(
    corners: list[tuple[tuple[float, ...], tuple[float, ...]]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    low, high = (np.array(side, np.float64) for side in zip(*corners, strict=True))
    more = np.maximum(THINNEST_M - (high - low), 0) / 2
    return low - more, high + more


def _are_one(one: SceneObject, other: SceneObject) -> bool:
    kinds = {thing.kind.partition("/")[0] for thing in (one, other)}
    same = len(kinds) == 1 or kinds == DOOR
    low, high = np.maximum(one.low, other.low), np.minimum(one.high, other.high)
    return one.label == other.label and same and bool((low <= high + TOUCHING_M).all())


def _joined(one: SceneObject, other: SceneObject) -> SceneObject:
    low, high = np.minimum(one.low, other.low).tolist(), np.maximum(one.high, other.high).tolist()
    return replace(one, low=tuple(low), high=tuple(high))
