"""The end of the loop that shows: it takes an observation only while somebody is waiting for one."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING

from m2h_runtime.sinks.base import Sink
from m2h_runtime.sinks.render import DepthRange
from m2h_runtime.web.pictures import encoded, shown_view

if TYPE_CHECKING:
    from collections.abc import Callable

    from m2h_runtime.sinks.base import Observation
    from m2h_runtime.view import View
    from m2h_runtime.web.pace import Pace
    from m2h_runtime.web.pictures import Update


class ViewSink(Sink):
    """Encodes an observation for the viewers that wait for one, once for all of them.

    Args:
        pace: says when the next update is due.
        deliver: called in the pipeline's thread with each update; must be quick.

    Attributes:
        view: of the latest observation that was encoded, for reading single values; None before the first.
    """

    name = "web view"
    queue = 1
    disposable = True
    lossy = True

    def __init__(self, pace: Pace, deliver: Callable[[Update], None]) -> None:
        self.view: View | None = None
        self._pace = pace
        self._deliver = deliver
        self._range = DepthRange()
        self._panes: frozenset[str] = frozenset()
        self._asked: list[Future[Observation]] = []
        self._lock = threading.Lock()

    @property
    def wanted(self) -> bool:
        """Somebody waits: for a single observation, or for an update that is due."""
        return bool(self._asked) or (bool(self._panes) and self._pace.due)

    def show(self, panes: frozenset[str]) -> None:
        """The next update is to have these panes; empty: nobody waits."""
        self._panes = panes

    def next(self) -> Future[Observation]:
        """The next observation, once, whatever the pace. Cancel it to want it no more."""
        future: Future[Observation] = Future()
        with self._lock:
            self._asked = [*(other for other in self._asked if not other.cancelled()), future]
        return future

    def write(self, observation: Observation) -> None:
        """Hand the observation to who asked for one; encode it for who watches."""
        with self._lock:
            asked, self._asked = self._asked, []
        for future in asked:
            if future.set_running_or_notify_cancel():
                future.set_result(observation)
        panes, self._panes = self._panes, frozenset()  # `deliver` leads to the next `show`
        if panes:
            self._encode(observation, panes)

    def _encode(self, observation: Observation, panes: frozenset[str]) -> None:
        began_ns, cpu_ns = time.monotonic_ns(), time.thread_time_ns()
        view = shown_view(observation)
        update = encoded(observation, view, panes, self._range)
        self.view = view
        self._pace.spent(began_ns, time.thread_time_ns() - cpu_ns)
        self._deliver(update)

    def close(self) -> None:
        """Nothing to finish."""

    def abort(self) -> None:
        """Nothing to leave behind."""
