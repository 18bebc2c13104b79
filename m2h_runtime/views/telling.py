"""Tells health about a state that may change with every frame, without a change at every frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m2h_runtime.pipeline.health import Level

if TYPE_CHECKING:
    from collections.abc import Callable

    from m2h_runtime.pipeline.health import Health

CALM_NS = 1_000_000_000


class Teller:
    """Says at once that it is ill, that it is well when it has been for a second, and at most one ill text a second.

    What is well may be said with running numbers: that is no change.

    Args:
        health: is told.
        part: about this part.
        clock: monotonic, integer nanoseconds.
    """

    def __init__(self, health: Health, part: str, clock: Callable[[], int]) -> None:
        self._health = health
        self._part = part
        self._clock = clock
        self._ill_ns: int | None = None  # the latest ill frame
        self._text, self._said_ns = "", 0  # the latest ill text, and when it was true last

    def say(self, level: Level, text: str) -> None:
        """This is how it is with the latest frame."""
        now_ns = self._clock()
        if level == Level.OK:
            if self._ill_ns is None or now_ns - self._ill_ns >= CALM_NS:
                self._ill_ns = None
                self._health.ok(self._part, text)
            return
        if self._ill_ns is None or text == self._text or now_ns - self._said_ns >= CALM_NS:
            self._text, self._said_ns = text, now_ns
            self._health.report(self._part, level, text)
        self._ill_ns = now_ns
