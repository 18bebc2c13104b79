"""SIGINT and SIGTERM, noted for whoever waits."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType


@contextmanager
def noted_signals() -> Iterator[list[int]]:
    """While the block lasts, the two do nothing but get into the list that it yields. For the main thread."""
    received: list[int] = []
    before = {number: signal.signal(number, _noting(received)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _noting(received: list[int]) -> Callable[[int, FrameType | None], None]:
    """A handler that may run in the middle of anything: it takes no lock."""

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    return note
