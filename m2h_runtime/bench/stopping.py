"""Ctrl-C ends a benchmark early; what was measured until then is written."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType


class Stop:
    """Asked between two inferences: shall this end now?

    Attributes:
        signal_number: of the signal that came; None while there was none.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._calls: list[Callable[[], None]] = []

    @property
    def requested(self) -> bool:
        """True once a signal came."""
        return self.signal_number is not None

    def request(self, number: int = signal.SIGINT) -> None:
        """End soon; safe in a signal handler."""
        self.signal_number = number
        for call in self._calls:
            call()

    @contextmanager
    def calling(self, call: Callable[[], None]) -> Iterator[None]:
        """Within the block a stop also calls `call`, at once if it has been requested already."""
        self._calls.append(call)
        if self.requested:
            call()
        try:
            yield
        finally:
            self._calls.remove(call)


@contextmanager
def stopped_by_signals(stop: Stop) -> Iterator[None]:
    """SIGINT and SIGTERM request `stop`; a second one interrupts at once, for an engine that hangs."""

    def handle(number: int, _frame: FrameType | None) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.request(number)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
