"""What every backend shares: the public `infer` checks, names and shapes; a backend fills in `_infer`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import cv2
import numpy as np

from m2h_runtime.arrays import check_array
from m2h_runtime.engine.contract import FEATURES, input_specs, output_specs, single_view
from m2h_runtime.errors import ContractError, EngineError
from m2h_runtime.perception import Perception

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray
    from typing_extensions import Self

    from m2h_runtime.engine.contract import Neighbours, Outputs
    from m2h_runtime.engine.manifest import Manifest


class Engine(ABC):
    """An opened engine: uint8 RGB in, a `Perception` out. Use it from one thread at a time.

    Attributes:
        manifest: the engine's sidecar.
        choice: one line that says which backend runs and why it was chosen; set by `open_engine`.
        device_ns: time of the latest inference on the GPU, copies included, by its own events; None without one.
        features: float32 (1, K, h, w), of the latest frame, the caller's own; None before, and of single-view engines.
    """

    backend: ClassVar[str]
    """The backend's name, as `open_engine` and `--backend` take it."""
    numerics: ClassVar[str | None] = None
    """What the backend computes in, where it overrides the graph's own precision."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.choice = ""
        self.device_ns: int | None = None
        self.features: NDArray[np.float32] | None = None
        self._specs = output_specs(*manifest.size, manifest.views)
        self._input_specs = input_specs(*manifest.size, manifest.views)
        self._alone = None if manifest.views is None else single_view(*manifest.size, manifest.views)

    @classmethod
    @abstractmethod
    def unavailable(cls) -> str | None:
        """Why this backend cannot run on this machine and what would add it, in one line; None if it can."""

    @classmethod
    @abstractmethod
    def open(cls, folder: Path, manifest: Manifest, threads: int | None) -> Self:
        """Load the engine of a checked folder; the files' hashes and the manifest are known to be right."""

    @abstractmethod
    def _infer(self, image: NDArray[np.uint8], views: Neighbours | None = None) -> Outputs:
        """Run the graph; the outputs may be views of engine buffers.

        Args:
            image: C-contiguous uint8 (1, H, W, 3).
            views: checked; of a cross-view engine always, of another never.
        """

    def close(self) -> None:  # noqa: B027 (a backend without resources need not override it)
        """Give back what the engine holds. May be called twice."""

    def infer(self, rgb: NDArray[np.uint8], views: Neighbours | None = None) -> Perception:
        """Depth, semantics, confidence, normals and edges of one image.

        Args:
            rgb: uint8 (H, W, 3), RGB, at the engine's size.
            views: earlier frames, for a cross-view engine; None: the image alone.

        Raises:
            ContractError: the image or the neighbours have another size or dtype, a single-view engine was given
                neighbours, or the engine broke the contract.
            EngineError: the backend failed.
        """
        height, width = self.manifest.size
        check_array("image", rgb, np.uint8, (height, width, 3))
        image = np.ascontiguousarray(rgb)[None]
        views = self._checked(views)
        outputs = self._infer(image, views)
        arrays = {
            spec.name: check_array(spec.name, outputs[spec.name], spec.dtype, spec.shape)[0]
            for spec in self._specs
        }
        # Copies: the arrays are the caller's for as long as it likes, and the engine's buffers are used again.
        if views is not None:
            self.features = _own(arrays[FEATURES])[None]
        return Perception(
            depth=_own(arrays["depth"]),
            semantics=_own(arrays["semantics"]),
            confidence=_own(arrays["confidence"]),
            normals=cv2.merge(list(arrays["normals"])),  # ten times as fast as a transposed copy
            edges=_own(arrays["edges"]),
            label_space=self.manifest.label_space,
        )

    def _checked(self, views: Neighbours | None) -> Neighbours | None:
        """The neighbours to infer with; None of a single-view engine."""
        if self._alone is None:
            if views is not None:
                raise ContractError(f"{self.manifest.name}: is a single-view engine; give it no neighbours")
            return None
        if views is None:
            return self._alone
        tensors = views.tensors
        for spec in self._input_specs[1:]:
            check_array(spec.name, tensors[spec.name], spec.dtype, spec.shape)
        return views

    def __enter__(self) -> Self:
        """Use the engine in a `with` block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the engine."""
        self.close()


def _own(view: NDArray[Any]) -> NDArray[Any]:
    return np.array(view, order="C", copy=True)


def failed(backend: str, error: Exception) -> EngineError:
    """A backend library's exception as one line of ours."""
    what = " ".join(str(error).split())[:300] or type(error).__name__
    return EngineError(f"{backend}: the engine failed: {what}")
