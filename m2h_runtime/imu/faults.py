"""What is wrong with the samples, said once when it begins and once when it is over."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

CALM_NS = 2_000_000_000
"""An event is over when it has not happened again for so long. Stamps are the clock, so a recording behaves as live."""


class Faults:
    """Faults by reason. All but `tell` are called under the owner's lock.

    Args:
        health: called with the texts of all present faults in one line when they change, None when all is well.

    Attributes:
        counts: how often each reason has happened.
    """

    def __init__(self, health: Callable[[str | None], None] | None) -> None:
        self.counts: Counter[str] = Counter()
        self._health = health
        self._texts: dict[str, str] = {}
        self._last_ns: dict[str, int] = {}
        self._text: str | None = None
        self._told: str | None = None
        self._telling = threading.Lock()

    def happened(self, reason: str, text: str, stamp_ns: int) -> None:
        """An event; `text` counts only if this reason is not present already."""
        self.counts[reason] += 1
        self._last_ns[reason] = stamp_ns
        self._set(reason, text)

    def state(self, reason: str, text: str | None) -> None:
        """A lasting fault: present with this text until it is set to None."""
        if text is None:
            self._drop(reason)
        elif reason not in self._texts:
            self.counts[reason] += 1
            self._set(reason, text)

    def settle(self, stamp_ns: int) -> None:
        """The IMU's time is `stamp_ns`: drop the events that are over. A clock that went back ends them as well."""
        for reason, last_ns in list(self._last_ns.items()):
            if not 0 <= stamp_ns - last_ns <= CALM_NS:
                del self._last_ns[reason]
                self._drop(reason)

    def clear(self) -> None:
        """Drop all faults, not the counts."""
        self._texts.clear()
        self._last_ns.clear()
        self._text = None

    def tell(self) -> None:
        """Call `health` if there is something new. Outside the owner's lock, since `health` may take its time."""
        if self._text == self._told or self._health is None:
            return
        with self._telling:
            text = self._text
            if text != self._told:
                self._told = text
                self._health(text)

    def _set(self, reason: str, text: str) -> None:
        if reason not in self._texts:
            self._texts[reason] = text
            self._join()

    def _drop(self, reason: str) -> None:
        if self._texts.pop(reason, None) is not None:
            self._join()

    def _join(self) -> None:
        self._text = "; ".join(self._texts.values()) or None
