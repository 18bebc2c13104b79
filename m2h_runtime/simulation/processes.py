"""Helper processes that Ctrl-C leaves to their parent."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Processes that this thread starts in the block never see SIGINT, which a terminal sends to all of them.

    Their parent tells them to end, so that they neither die half-way nor print a traceback each.
    """
    resource_tracker.ensure_running()  # as it starts it would unblock SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
