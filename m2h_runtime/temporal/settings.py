"""What a user may want to have otherwise."""

from __future__ import annotations

from dataclasses import dataclass

from m2h_runtime.errors import InputError
from m2h_runtime.label_space import MOVING


@dataclass(frozen=True, slots=True)
class AlignmentSettings:
    """How much history counts.

    Attributes:
        memory: the history counts as so many frames at most. More is steadier and slower to follow.
        masked: depth 0, "no depth", on depth edges, where a network draws ramps from an object to what is behind.
        moving: names of classes that are never fused; those that a label space does not have are passed over.

    Raises:
        InputError: `memory` is below one frame.
    """

    memory: float = 6.0
    masked: bool = False
    moving: frozenset[str] = MOVING

    def __post_init__(self) -> None:
        if not self.memory >= 1:
            raise InputError(
                f"alignment: memory is {self.memory:g} frames; give 1 or more, or leave alignment off"
            )
