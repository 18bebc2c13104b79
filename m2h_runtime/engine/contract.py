"""The border between robot code and an engine: names, dtypes and shapes of its tensors.

Everything that can be part of the graph is in the graph, so what crosses is small and typed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONTRACT_VERSION = 1
"""Raised whenever a tensor of the contract changes; a runtime reads every version up to its own."""


@dataclass(frozen=True)
class TensorSpec:
    """One graph tensor of an engine of size H × W."""

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]


def input_spec(height: int, width: int) -> TensorSpec:
    """`image`: uint8 (1, H, W, 3), RGB."""
    return TensorSpec("image", np.dtype(np.uint8), (1, height, width, 3))


def output_specs(height: int, width: int) -> tuple[TensorSpec, ...]:
    """The five outputs, in graph order.

    `depth` float32 (1, H, W) metres along the optical axis; `semantics` uint8 (1, H, W) class ids;
    `confidence` uint8 (1, H, W) top class probability × 255; `normals` float32 (1, 3, H, W) unit vectors in
    the camera optical frame; `edges` uint8 (1, H, W) boundary probability × 255.
    """
    plane = (1, height, width)
    byte, real = np.dtype(np.uint8), np.dtype(np.float32)
    return (
        TensorSpec("depth", real, plane),
        TensorSpec("semantics", byte, plane),
        TensorSpec("confidence", byte, plane),
        TensorSpec("normals", real, (1, 3, height, width)),
        TensorSpec("edges", byte, plane),
    )


OUTPUT_NAMES = tuple(spec.name for spec in output_specs(1, 1))

Outputs = dict[str, "NDArray[np.generic]"]
"""What a backend returns: every output of the contract by name, in the contract's shape."""
