"""What Hydra makes of each class: objects, parts of the building, what moves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from m2h_runtime.errors import InputError
from m2h_runtime.label_space import load_label_map

if TYPE_CHECKING:
    from m2h_runtime.label_space import LabelSpace


@dataclass(frozen=True)
class Roles:
    """Class ids of one label space by what becomes of them.

    Attributes:
        objects: become object nodes.
        dynamic: make no surface.
        floor: what one stands on.
        ceiling: what is above; empty where the label space does not tell.
        movable: stand before walls and hang from ceilings, and bound no room: objects, and shelves and cloth besides.
    """

    objects: frozenset[int]
    dynamic: frozenset[int]
    floor: frozenset[int]
    ceiling: frozenset[int]
    movable: frozenset[int]


_PUBLISHED = {
    # Objects and dynamic labels as in Hydra's label spaces of these names.
    "nyud20": Roles(
        objects=frozenset({4, *range(8, 18)}),
        dynamic=frozenset({19, 20}),
        floor=frozenset({2}),
        ceiling=frozenset({3}),
        movable=frozenset({4, *range(6, 19)}),
    ),
    "scannet20": Roles(
        objects=frozenset(range(2, 20)),
        dynamic=frozenset(),
        floor=frozenset({1}),
        ceiling=frozenset(),
        movable=frozenset(range(2, 20)) - {8},  # a window is in its wall
    ),
}


@lru_cache
def roles_of(space: LabelSpace) -> Roles:
    """The roles of a label space: published, or by way of its table to NYUD20.

    Raises:
        InputError: nobody has said what its classes are.
    """
    if space.name in _PUBLISHED:
        return _PUBLISHED[space.name]
    try:
        table = load_label_map(space.name, "nyud20")[: len(space.classes)]
    except InputError as error:
        raise InputError(
            f"label space {space.name}: no roles are known for its classes (object, floor, what moves); a scene graph "
            f"needs an engine of nyudv2_40 or of {', '.join(_PUBLISHED)}"
        ) from error
    known = _PUBLISHED["nyud20"]

    def mapped(ids: frozenset[int]) -> frozenset[int]:
        return frozenset(np.flatnonzero(np.isin(table, list(ids))).tolist())

    return Roles(
        mapped(known.objects),
        mapped(known.dynamic),
        mapped(known.floor),
        mapped(known.ceiling),
        mapped(known.movable),
    )
