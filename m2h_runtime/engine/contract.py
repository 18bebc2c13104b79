"""The border between robot code and an engine: names, dtypes and shapes of its tensors.

Everything that can be part of the graph is in the graph, so what crosses is small and typed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from m2h_runtime.arrays import check_array
from m2h_runtime.errors import ContractError

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONTRACT_VERSION = 2
"""Raised whenever a tensor of the contract changes; a runtime reads every version up to its own.

1: one image in, five outputs. 2: the same, and cross-view engines: three more inputs and the features.
"""
IMAGE, FEATURES = "image", "features"


@dataclass(frozen=True)
class TensorSpec:
    """One graph tensor of an engine of size H × W."""

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Views:
    """What a cross-view engine compares a frame with.

    Attributes:
        neighbours: N, earlier frames that are handed in with each frame.
        channels: K, of the spatial features.
        stride: pixels of the image to one of the features.
        near_m: nearest depth that is searched, metres.
        far_m: farthest depth that is searched, metres.

    Raises:
        ContractError: a number is not positive, or the range is empty.
    """

    neighbours: int = 1
    channels: int = 128
    stride: int = 8
    near_m: float = 0.25
    far_m: float = 10.0

    def __post_init__(self) -> None:
        whole = (self.neighbours, self.channels, self.stride)
        if any(type(number) is not int or number < 1 for number in whole):
            raise ContractError(f"views: neighbours, channels and stride are {whole}; they count from 1")
        if not 0 < self.near_m < self.far_m < np.inf:
            raise ContractError(f"views: {self.near_m} m to {self.far_m} m is no range of depths")

    def feature_size(self, height: int, width: int) -> tuple[int, int]:
        """(h, w) of the features of an image of (H, W); what is left over at the edge counts as a whole."""
        return -(-height // self.stride), -(-width // self.stride)


def contract_version(views: Views | None) -> int:
    """The oldest contract that has the tensors of such an engine, so that older runtimes still read what they can."""
    return 1 if views is None else 2


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """What a cross-view engine is told about N earlier frames. The arrays are read-only.

    A pose of exactly [I | 0] stands for the frame itself; its features are not read.

    Attributes:
        features: float32 (N, K, h, w), what the engine's `features` were at each of those frames.
        neighbour_from_camera: float32 (N, 3, 4), takes points of this frame's optical frame to the neighbour's, metres.
        intrinsics: float32 (4,), fx, fy, cx, cy of the engine's image in pixels, pixel centres at integers.

    Raises:
        ContractError: a shape or dtype is wrong, a number not finite or a focal length not positive.
    """

    features: NDArray[np.float32]
    neighbour_from_camera: NDArray[np.float32]
    intrinsics: NDArray[np.float32]

    def __post_init__(self) -> None:
        count = len(check_array("neighbour_features", self.features, np.float32, (None, None, None, None)))
        check_array("neighbour_from_camera", self.neighbour_from_camera, np.float32, (count, 3, 4))
        check_array("intrinsics", self.intrinsics, np.float32, (4,))
        if not np.isfinite(self.neighbour_from_camera.sum() + self.intrinsics.sum()):
            raise ContractError("neighbours: a pose or the intrinsics are not finite")
        if self.intrinsics[:2].min() <= 0:
            raise ContractError("neighbours: a focal length is not positive")
        for array in (self.features, self.neighbour_from_camera, self.intrinsics):
            array.setflags(write=False)

    @property
    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """By the names of the graph; C-contiguous."""
        named = {
            "neighbour_features": self.features,
            "neighbour_from_camera": self.neighbour_from_camera,
            "intrinsics": self.intrinsics,
        }
        return {name: np.ascontiguousarray(array) for name, array in named.items()}

    def rounded(self) -> Neighbours:
        """With features as a golden file stores them, in half precision."""
        features = self.features.astype(np.float16).astype(np.float32)
        return Neighbours(features, self.neighbour_from_camera, self.intrinsics)


def single_view(height: int, width: int, views: Views) -> Neighbours:
    """The frame is its own neighbour: identity poses, features that are not read, any camera."""
    features = np.zeros((views.neighbours, views.channels, *views.feature_size(height, width)), np.float32)
    poses = np.tile(np.eye(3, 4, dtype=np.float32), (views.neighbours, 1, 1))
    camera = np.array((width, width, (width - 1) / 2, (height - 1) / 2), np.float32)
    return Neighbours(features, poses, camera)


def input_spec(height: int, width: int) -> TensorSpec:
    """`image`: uint8 (1, H, W, 3), RGB."""
    return TensorSpec(IMAGE, np.dtype(np.uint8), (1, height, width, 3))


def input_specs(height: int, width: int, views: Views | None = None) -> tuple[TensorSpec, ...]:
    """All inputs, in graph order: `image`, and of a cross-view engine those of `Neighbours`."""
    if views is None:
        return (input_spec(height, width),)
    real, count = np.dtype(np.float32), views.neighbours
    maps = (count, views.channels, *views.feature_size(height, width))
    return (
        input_spec(height, width),
        TensorSpec("neighbour_features", real, maps),
        TensorSpec("neighbour_from_camera", real, (count, 3, 4)),
        TensorSpec("intrinsics", real, (4,)),
    )


def output_specs(height: int, width: int, views: Views | None = None) -> tuple[TensorSpec, ...]:
    """The outputs, in graph order: five, and of a cross-view engine the features.

    `depth` float32 (1, H, W) metres along the optical axis; `semantics` uint8 (1, H, W) class ids;
    `confidence` uint8 (1, H, W) top class probability × 255; `normals` float32 (1, 3, H, W) unit vectors in
    the camera optical frame; `edges` uint8 (1, H, W) boundary probability × 255; `features` float32
    (1, K, h, w), the spatial features of this frame, to be handed back in with a later one.
    """
    plane = (1, height, width)
    byte, real = np.dtype(np.uint8), np.dtype(np.float32)
    five = (
        TensorSpec("depth", real, plane),
        TensorSpec("semantics", byte, plane),
        TensorSpec("confidence", byte, plane),
        TensorSpec("normals", real, (1, 3, height, width)),
        TensorSpec("edges", byte, plane),
    )
    if views is None:
        return five
    return (*five, TensorSpec(FEATURES, real, (1, views.channels, *views.feature_size(height, width))))


OUTPUT_NAMES = tuple(spec.name for spec in output_specs(1, 1))
"""Of every engine; a cross-view engine has `FEATURES`, too."""

Outputs = dict[str, "NDArray[np.generic]"]
"""What a backend returns: every output of the contract by name, in the contract's shape."""
