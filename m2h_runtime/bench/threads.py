"""CPU time by thread, of this very process."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from typing_extensions import Self

PERIOD_S = 0.2
LIBRARIES = "libraries"


def cpu_seconds(tasks: Path, ticks_per_s: float) -> dict[int, float]:
    """Seconds of CPU time by thread id, from a folder like /proc/self/task; threads that end meanwhile are left out."""
    found = {}
    for folder in tasks.iterdir():
        try:
            stat = (folder / "stat").read_text()
        except OSError:
            continue
        fields = stat.rpartition(")")[2].split()  # the name before it may hold blanks
        found[int(folder.name)] = (int(fields[11]) + int(fields[12])) / ticks_per_s
    return found


def python_threads() -> dict[int, str]:
    """Names by thread id of the threads that Python knows."""
    return {thread.native_id: thread.name for thread in threading.enumerate() if thread.native_id is not None}


class ThreadShares:
    """Watches how busy each thread is, in a `with` block.

    A thread may end before the run does, and its time is gone with it, so they are looked at every `PERIOD_S`. Threads
    that Python did not start belong to the libraries (engine, BLAS) and are counted together.

    Args:
        tasks: /proc/self/task, or a folder like it.
        names: names of Python's own threads by id.
        clock: monotonic, integer nanoseconds.
    """

    def __init__(
        self,
        tasks: Path = Path("/proc/self/task"),
        names: Callable[[], Mapping[int, str]] = python_threads,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._tasks = tasks
        self._names = names
        self._clock = clock
        self._known: dict[int, str] = {}
        self._before: dict[int, float] = {}
        self._latest: dict[int, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="bench watch", daemon=True)
        self._began_ns = self._ended_ns = 0

    def __enter__(self) -> Self:
        """Begin."""
        self._began_ns = self._clock()
        if self._tasks.is_dir():
            self._before = self._look()
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End; the shares stand from now on."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()
            self._look()
        self._ended_ns = self._clock()

    def shares(self) -> dict[str, float] | None:
        """Cores used on average by thread name, largest first: 1.0 is one core all the time. None: not Linux."""
        wall_s = (self._ended_ns - self._began_ns) / 1e9
        if not self._latest or wall_s <= 0:
            return None
        sums: defaultdict[str, float] = defaultdict(float)
        for number, seconds in self._latest.items():
            sums[self._known.get(number, LIBRARIES)] += seconds - self._before.get(number, 0.0)
        ranked = sorted(sums.items(), key=lambda item: -item[1])
        return {name: round(seconds / wall_s, 4) for name, seconds in ranked}

    def _watch(self) -> None:
        while not self._ended.wait(PERIOD_S):
            self._look()

    def _look(self) -> dict[int, float]:
        self._known.update(self._names())
        now = cpu_seconds(self._tasks, os.sysconf("SC_CLK_TCK"))
        self._latest.update(now)
        return now
