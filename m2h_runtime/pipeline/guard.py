"""An engine whose failures a live run survives."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from m2h_runtime.errors import M2HError
from m2h_runtime.pipeline.health import Fault, Level
from m2h_runtime.pipeline.sanity import nonsense

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from m2h_runtime.engine.base import Engine
    from m2h_runtime.engine.contract import Neighbours
    from m2h_runtime.perception import Perception
    from m2h_runtime.pipeline.health import Health

PATIENCE = 3
"""After so many failures in a row the engine is opened anew."""
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0
PART = "engine"
FAILED = "the engine failed"
NONSENSE = "the engine's output was nonsense"
AWAY = "the engine was away"


class FrameLost(Exception):  # noqa: N818  # a frame's fate, not an error: the run goes on
    """This frame has no perception; the text is the reason, which drops are counted by."""


class EngineGuard:
    """Runs an engine and judges what it says.

    Args:
        engine: an opened engine; the caller closes `self.engine`, which may be another one by then.
        health: told of failures as part "engine".
        reopen: opens the same engine anew; None: it is never reopened.
        forgiving: False, for recordings: a failure of the engine is raised. Nonsense is never passed on.
        clock: monotonic, integer nanoseconds.

    Attributes:
        engine: the engine in use; None while it cannot be opened anew.
        busy_since_ns: when the inference in progress began; None while there is none.
    """

    def __init__(
        self,
        engine: Engine,
        health: Health,
        reopen: Callable[[], Engine] | None = None,
        *,
        forgiving: bool = True,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.engine: Engine | None = engine
        self.busy_since_ns: int | None = None
        self._depth_range_m = engine.manifest.depth_range_m
        self._health = health
        self._fault = Fault(health, PART, clock)
        self._reopen = reopen
        self._forgiving = forgiving
        self._clock = clock
        self._in_a_row = 0
        self._wait_s = FIRST_WAIT_S
        self._retry_ns = 0

    def infer(self, image: NDArray[np.uint8], views: Neighbours | None = None) -> Perception:
        """The engine's perception.

        Args:
            image: uint8 (H, W, 3) RGB at its size.
            views: earlier frames, for a cross-view engine; None: the image alone.

        Raises:
            FrameLost: there is none that may be passed on.
            M2HError: the engine failed, and this guard does not forgive.
        """
        engine = self.engine or self._opened_again()
        self.busy_since_ns = self._clock()
        try:
            perception = engine.infer(image) if views is None else engine.infer(image, views)
        except M2HError as error:
            if not self._forgiving:
                raise
            self._count(engine, str(error))
            raise FrameLost(FAILED) from error
        finally:
            self.busy_since_ns = None
        if (wrong := nonsense(perception, image, self._depth_range_m)) is not None:
            self._count(engine, f"{wrong}; nothing is published from it")
            raise FrameLost(NONSENSE)
        self._in_a_row, self._wait_s = 0, FIRST_WAIT_S
        self._fault.good()
        return perception

    def _count(self, engine: Engine, text: str) -> None:
        self._fault.bad(text, Level.FAILED)
        self._in_a_row += 1
        if self._in_a_row >= PATIENCE and self._reopen is not None and self._forgiving:
            self._give_up(engine)

    def _give_up(self, engine: Engine) -> None:
        """Close it; the next frame, after a wait, opens it anew."""
        engine.close()
        self.engine = None
        self._in_a_row = 0
        self._retry_ns = self._clock() + round(1e9 * self._wait_s)
        self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)

    def _opened_again(self) -> Engine:
        if self._reopen is None or self._clock() < self._retry_ns:
            raise FrameLost(AWAY)
        self.busy_since_ns = self._clock()
        try:
            self.engine = self._reopen()
        except M2HError as error:
            self._fault.bad(str(error), Level.FAILED)
            self._retry_ns = self._clock() + round(1e9 * self._wait_s)
            self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)
            raise FrameLost(AWAY) from error
        finally:
            self.busy_since_ns = None
        return self.engine
