"""Clocks for work on a device: CUDA events where there is a GPU, the wall clock on a CPU."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager


class Clock:
    """Times calls one by one, each waited for, as a camera's frames come.

    Attributes:
        stream: the CUDA stream that the work is enqueued on; None on a CPU.
    """

    def __init__(self, device: str) -> None:
        self.stream: Any = torch.cuda.Stream() if device == "cuda" else None

    def on_stream(self) -> AbstractContextManager[object]:
        """The context in which torch enqueues its work on the stream."""
        return nullcontext() if self.stream is None else torch.cuda.stream(self.stream)

    def times(self, step: Callable[[], object], repeats: int, warm_up: int) -> list[float]:
        """Milliseconds that the device takes for each of `repeats` calls, first kernel to last."""
        with self.on_stream():
            for _ in range(warm_up):
                step()
            self.wait()
            return [self._wall(step) if self.stream is None else self._events(step) for _ in range(repeats)]

    def wait(self) -> None:
        """Until all that was enqueued is done."""
        if self.stream is not None:
            self.stream.synchronize()

    def wall(self, step: Callable[[], object], repeats: int, warm_up: int) -> list[float]:
        """Milliseconds by the wall clock of a call that waits for its result by itself."""
        with self.on_stream():
            for _ in range(warm_up):
                step()
            return [self._wall(step) for _ in range(repeats)]

    def _events(self, step: Callable[[], object]) -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record(self.stream)
        step()
        end.record(self.stream)
        end.synchronize()
        return float(begin.elapsed_time(end))

    @staticmethod
    def _wall(step: Callable[[], object]) -> float:
        start = time.perf_counter()
        step()
        return 1e3 * (time.perf_counter() - start)
