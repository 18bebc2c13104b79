"""What every meter shares: the shape check of a prediction against its truth, and divisions that may be empty."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from m2h_runtime.errors import ContractError, InputError

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray


def check_pair(task: str, prediction: NDArray[Any], truth: NDArray[Any]) -> None:
    """Are both of one shape, and is the prediction free of NaN and infinity?

    Raises:
        ContractError: they differ in shape, or a float prediction holds a value that is not finite.
    """
    if prediction.shape != truth.shape:
        raise ContractError(
            f"{task}: prediction {prediction.shape} and truth {truth.shape} differ in shape; resize the prediction"
        )
    if np.issubdtype(prediction.dtype, np.floating) and not np.isfinite(prediction).all():
        raise ContractError(f"{task}: the prediction holds NaN or infinity; look for the layer that made it")


def check_choice(what: str, value: object, known: Collection[str]) -> None:
    """Is `value` one of the names in `known`?

    Raises:
        InputError: it is not; names them.
    """
    if value not in known:
        raise InputError(f"{what} {value!r}: no such variant; there are {', '.join(known)}")


def share(part: float, whole: float) -> float:
    """`part / whole`; NaN where nothing was counted."""
    return float(part) / float(whole) if whole else float("nan")
