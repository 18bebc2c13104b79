"""The one check that every array crossing a border goes through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from m2h_runtime.errors import ContractError

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray


def check_array(name: str, array: Any, dtype: DTypeLike, shape: tuple[int | None, ...]) -> NDArray[Any]:
    """Return `array` if it is a numpy array of `dtype` and `shape`; `None` in `shape` fits any length.

    Raises:
        ContractError: one line that names the array, what was expected and what came.
    """
    if not isinstance(array, np.ndarray):
        raise ContractError(f"{name}: expected a numpy array, got {type(array).__name__}")
    fits = array.ndim == len(shape) and all(
        want is None or want == have for want, have in zip(shape, array.shape, strict=True)
    )
    if array.dtype != np.dtype(dtype) or not fits:
        wanted = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"
        raise ContractError(
            f"{name}: expected {wanted} {np.dtype(dtype).name}, got {array.shape} {array.dtype.name}"
        )
    return array
