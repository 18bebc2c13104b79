"""`Perception`: what an engine says about one frame."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from m2h_runtime.arrays import check_array

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from m2h_runtime.frame import Frame
    from m2h_runtime.label_space import LabelSpace


@dataclass(frozen=True, slots=True)
class Perception:
    """The five outputs for one frame, at the engine's size H × W. The arrays are read-only.

    Attributes:
        depth: float32 (H, W), metres along the optical axis (z-depth), > 0.
        semantics: uint8 (H, W), class id in `label_space`.
        confidence: uint8 (H, W), probability of that class × 255.
        normals: float32 (H, W, 3), unit vectors in the camera optical frame (x right, y down, z forward).
        edges: uint8 (H, W), boundary probability × 255.
        label_space: names and colours of the class ids.
        stamp_ns: the frame's stamp, integer nanoseconds on the sensor's clock.
        sequence: the frame's sequence number.
        frame_id: the frame's optical frame.
        latencies_ns: nanoseconds spent per stage so far, by stage name.
    """

    depth: NDArray[np.float32]
    semantics: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    normals: NDArray[np.float32]
    edges: NDArray[np.uint8]
    label_space: LabelSpace
    stamp_ns: int = 0
    sequence: int = 0
    frame_id: str = ""
    latencies_ns: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        """Check every output against the contract and freeze it."""
        height, width = check_array("depth", self.depth, np.float32, (None, None)).shape
        check_array("semantics", self.semantics, np.uint8, (height, width))
        check_array("confidence", self.confidence, np.uint8, (height, width))
        check_array("normals", self.normals, np.float32, (height, width, 3))
        check_array("edges", self.edges, np.uint8, (height, width))
        for array in (self.depth, self.semantics, self.confidence, self.normals, self.edges):
            array.setflags(write=False)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of all outputs."""
        height, width = self.depth.shape
        return height, width

    def stamped(self, frame: Frame, latencies_ns: Mapping[str, int] | None = None) -> Perception:
        """The same outputs with `frame`'s stamp, sequence and frame id, and the stage latencies so far."""
        return replace(
            self,
            stamp_ns=frame.stamp_ns,
            sequence=frame.sequence,
            frame_id=frame.frame_id,
            latencies_ns=MappingProxyType({**self.latencies_ns, **(latencies_ns or {})}),
        )
