"""The slot of one frame between the capture thread and the engine."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Slot(Generic[T]):
    """Room for one item.

    Args:
        lossless: False, for live sources: a newcomer replaces an item that nobody took, and is counted.
            True, for recordings: the newcomer waits.

    Attributes:
        replaced: how many items were replaced before anybody took them.
    """

    def __init__(self, *, lossless: bool) -> None:
        self.replaced = 0
        self._lossless = lossless
        self._item: T | None = None
        self._ended = False
        self._changed = threading.Condition()

    def put(self, item: T, timeout_s: float) -> bool:
        """Leave `item`; False if a lossless slot stayed full for `timeout_s`. Newest-wins never waits."""
        with self._changed:
            if self._lossless:
                if not self._changed.wait_for(lambda: self._item is None, timeout_s):
                    return False
            else:
                self.replaced += self._item is not None
            self._item = item
            self._changed.notify_all()
            return True

    def take(self, timeout_s: float) -> T | None:
        """The item, which leaves the slot; None if there was none for `timeout_s` or the slot has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self._ended, timeout_s)
            item, self._item = self._item, None
            self._changed.notify_all()
            return item

    def end(self) -> None:
        """Nothing more will be put. What lies here can still be taken."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def drained(self) -> bool:
        """Nothing lies here and nothing more will come."""
        with self._changed:
            return self._ended and self._item is None
