"""What every data set yields, so that losses, metrics and panels need to know nothing about files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from m2h_runtime.arrays import check_array

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

IGNORE = 255
"""Label of a pixel without truth, in every integer map."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture with whatever truth its data set has; a task without truth is None.

    Attributes:
        name: unique in its data set, as the files call it.
        image: (H, W, 3) uint8, RGB.
        depth: (H, W) float32, metres along the optical axis; 0 where nothing was measured.
        semantics: (H, W) uint8, class index of the data set's own classes; `IGNORE` where unlabelled.
        normals: (H, W, 3) float32, unit vectors, camera optical frame (x right, y down, z forward), facing the
            camera; exactly zero where unknown.
        edges: (H, W) uint8, 1 on a semantic boundary, 0 off it, `IGNORE` where unknown.
        extra: further (H, W) uint8 maps by name ("human_parts", "saliency"), `IGNORE` where unknown.
        intrinsics: (3, 3) float64 camera matrix in pixels of `image`, pixel centres at integers.
        world_from_camera: (4, 4) float64 pose of the optical frame.
    """

    name: str
    image: NDArray[np.uint8]
    depth: NDArray[np.float32] | None = None
    semantics: NDArray[np.uint8] | None = None
    normals: NDArray[np.float32] | None = None
    edges: NDArray[np.uint8] | None = None
    extra: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    intrinsics: NDArray[np.float64] | None = None
    world_from_camera: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        check_array("image", self.image, np.uint8, (None, None, 3))
        size = self.image.shape[:2]
        for name, dtype in (("depth", np.float32), ("semantics", np.uint8), ("edges", np.uint8)):
            if (value := getattr(self, name)) is not None:
                check_array(name, value, dtype, size)
        if self.normals is not None:
            check_array("normals", self.normals, np.float32, (*size, 3))
        for name, value in self.extra.items():
            check_array(name, value, np.uint8, size)


@runtime_checkable
class DenseDataset(Protocol):
    """A list of samples that is read from disk one at a time; safe to use from several processes."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of `Sample.semantics`, in the order of its indices."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...
