"""The last step of a command that streamed."""

from __future__ import annotations

import os
import sys
import threading
from typing import NoReturn


def leave(code: int) -> NoReturn:
    """End the process with exit code `code`; everything is closed and written by now.

    A thread that is still inside a library (a camera that does not answer) would make the interpreter abort on its own
    way out: it ends such threads by force, and C++ takes that for an error.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if threading.active_count() > 1:
        os._exit(code)
    sys.exit(code)
