"""`BlockStore`: voxels in cubes of 8 x 8 x 8, only where something is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import DTypeLike, NDArray

EDGE = 8
"""Voxels along a block."""
VOXELS = EDGE**3
FIRST_CAPACITY = 256
_BITS = 21
_HALF = 1 << (_BITS - 1)
"""Places reach from -2^20 to 2^20 - 1 along each axis: 400 km of 0.4 m blocks."""

OFFSETS = np.stack(np.meshgrid(*[np.arange(EDGE)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
"""int (512, 3): where each voxel of a block lies in it, x slowest."""


def packed(places: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """(N, 3) integer places as one number each, (N,)."""
    shifted = places.astype(np.int64) + _HALF
    return np.asarray(shifted[:, 0] << 2 * _BITS | shifted[:, 1] << _BITS | shifted[:, 2], np.int64)


def unpacked(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """The way back from `packed`, (N, 3)."""
    mask = (1 << _BITS) - 1
    return np.stack([keys >> 2 * _BITS, keys >> _BITS & mask, keys & mask], axis=1) - _HALF


class BlockStore:
    """Blocks by place, in dense arrays that double when they are full.

    Args:
        fields: by name dtype, shape per voxel and the value of voxels that nobody has written.

    Attributes:
        count: blocks in use; rows 0 .. count - 1 of every array.
        arrays: by field (capacity, 512, *shape); replaced when it grows, so do not hold on to one.
        places: int64 (capacity, 3), integer place of each block; its corner is `place * EDGE` voxels.
    """

    def __init__(self, fields: Mapping[str, tuple[DTypeLike, tuple[int, ...], int]]) -> None:
        self.count = 0
        self.places = np.zeros((FIRST_CAPACITY, 3), np.int64)
        self.arrays: dict[str, NDArray[Any]] = {
            name: np.full((FIRST_CAPACITY, VOXELS, *shape), fill, dtype)
            for name, (dtype, shape, fill) in fields.items()
        }
        self._fills = {name: fill for name, (_, _, fill) in fields.items()}
        self._rows: dict[int, int] = {}

    def find(self, places: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Rows of the blocks at integer places (N, 3); -1 where there is none."""
        rows = self._rows
        return np.array([rows.get(key, -1) for key in packed(places).tolist()], np.int64)

    def make(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of the blocks with these `packed` places (N,), each once; those that are missing are made."""
        rows = self._rows
        new = [key for key in keys.tolist() if key not in rows]
        if new:
            self._add(new)
        return np.array([rows[key] for key in keys.tolist()], np.int64)

    def _add(self, keys: list[int]) -> None:
        needed = self.count + len(keys)
        while needed > len(self.places):
            self._double()
        self.places[self.count : needed] = unpacked(np.array(keys, np.int64))
        self._rows.update(zip(keys, range(self.count, needed), strict=True))
        self.count = needed

    def _double(self) -> None:
        self.places = np.concatenate([self.places, np.zeros_like(self.places)])
        for name, array in self.arrays.items():
            more = np.full_like(array, self._fills[name])
            self.arrays[name] = np.concatenate([array, more])

    @property
    def nbytes(self) -> int:
        """Memory of the arrays."""
        return sum(array.nbytes for array in self.arrays.values())
