"""An engine that is slower by a known share: what a benchmark must be able to find."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from m2h_runtime.engine.base import Engine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Self

    from m2h_runtime.engine.contract import Neighbours, Outputs
    from m2h_runtime.engine.manifest import Manifest
    from m2h_runtime.perception import Perception


class SlowedEngine(Engine):
    """`engine`, each inference prolonged by `share` of the time that it took.

    Args:
        engine: an opened engine; closed with this one.
        share: 0.1 makes it take 10 % longer.
        clock: monotonic, integer nanoseconds.
    """

    def __init__(self, engine: Engine, share: float, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        super().__init__(engine.manifest)
        self.backend = engine.backend  # type: ignore[misc]  # whose name it bears
        self.choice = f"{engine.choice}; slowed by {100 * share:g} %"
        self._engine = engine
        self._share = share
        self._clock = clock

    @classmethod
    def unavailable(cls) -> str | None:
        """It runs wherever an engine is open."""
        return None

    @classmethod
    def open(cls, folder: Path, manifest: Manifest, threads: int | None) -> Self:
        """Never by name: it is wrapped around an opened engine."""
        raise NotImplementedError

    def infer(self, rgb: NDArray[np.uint8], views: Neighbours | None = None) -> Perception:
        """As the engine, and some time more; it turns instead of sleeping, as sleeping overshoots."""
        began_ns = self._clock()
        perception = self._engine.infer(rgb, views)
        ended_ns = self._clock()
        until_ns = ended_ns + round(self._share * (ended_ns - began_ns))
        while self._clock() < until_ns:
            pass
        self.features = self._engine.features
        return perception

    def _infer(self, image: NDArray[np.uint8], views: Neighbours | None = None) -> Outputs:
        return self._engine._infer(image, views)

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()
