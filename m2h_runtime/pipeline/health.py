"""How the run is doing, part by part: ok, degraded or failed, each with a text for a person."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

HISTORY = 256
"""So many changes are kept for the report."""


class Level(IntEnum):
    """Ordered: the worst part decides."""

    OK = 0
    DEGRADED = 1
    FAILED = 2


@dataclass(frozen=True, slots=True)
class Condition:
    """Level and what there is to say."""

    level: Level
    text: str = ""


@dataclass(frozen=True, slots=True)
class Transition:
    """`part` came into `condition` at `at_ns` on the health's clock."""

    at_ns: int
    part: str
    condition: Condition


class Health:
    """Collects the conditions of all parts; safe in every thread.

    Args:
        on_change: called with each change, in the thread that reports it, one at a time; must be quick. Saying the
            same again is no change, so texts hold no running numbers.
        clock: monotonic, integer nanoseconds.

    Attributes:
        transitions: the latest `HISTORY` changes, oldest first.
    """

    def __init__(
        self,
        on_change: Callable[[Transition], None] | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.transitions: deque[Transition] = deque(maxlen=HISTORY)
        self._listeners = [on_change] if on_change else []
        self._clock = clock
        self._parts: dict[str, Condition] = {}
        self._lock = threading.RLock()  # a listener may ask how things are

    def listen(self, on_change: Callable[[Transition], None]) -> None:
        """Call `on_change` with each change from now on."""
        with self._lock:
            self._listeners.append(on_change)

    def report(self, part: str, level: Level, text: str = "") -> None:
        """`part` is in this condition now."""
        condition = Condition(level, text)
        with self._lock:
            before = self._parts.get(part, Condition(Level.OK))
            self._parts[part] = condition
            if condition == before or condition.level == before.level == Level.OK:
                return
            transition = Transition(self._clock(), part, condition)
            self.transitions.append(transition)
            for listener in self._listeners:
                listener(transition)

    def ok(self, part: str, text: str = "") -> None:
        """`part` is well."""
        self.report(part, Level.OK, text)

    def parts(self) -> dict[str, Condition]:
        """The condition of every part that has ever reported."""
        with self._lock:
            return dict(self._parts)

    def worst(self) -> Condition:
        """The worst level of all parts, and the texts of those that are not well."""
        ill = {part: condition for part, condition in self.parts().items() if condition.level > Level.OK}
        level = max((condition.level for condition in ill.values()), default=Level.OK)
        return Condition(level, "; ".join(f"{part}: {condition.text}" for part, condition in ill.items()))


class Fault:
    """One thing that can go wrong with single frames. It is over when it has not happened for `calm_s`.

    Without the calm, every other frame would be a change.
    """

    def __init__(self, health: Health, part: str, clock: Callable[[], int], calm_s: float = 1.0) -> None:
        self._health = health
        self._part = part
        self._clock = clock
        self._calm_ns = round(calm_s * 1e9)
        self._last_ns: int | None = None

    def bad(self, text: str, level: Level = Level.DEGRADED) -> None:
        """It happened."""
        self._last_ns = self._clock()
        self._health.report(self._part, level, text)

    def good(self) -> None:
        """It did not happen this time."""
        if self._last_ns is not None and self._clock() - self._last_ns >= self._calm_ns:
            self._last_ns = None
            self._health.ok(self._part)
