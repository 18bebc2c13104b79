"""Where things that can be made again are kept between runs."""

from __future__ import annotations

import logging
import os
from functools import lru_cache
from pathlib import Path

from m2h_runtime.files import reason

log = logging.getLogger("m2h")


@lru_cache
def cache_folder(name: str) -> Path | None:
    """A writable folder for `name` under $M2H_CACHE, else $XDG_CACHE_HOME/m2h, else ~/.cache/m2h.

    None, with one warning, when it cannot be written: starts are slower then, nothing else.
    """
    base = os.environ.get("M2H_CACHE")
    root = Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "m2h"
    folder = root / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        log.warning(
            "%s: no cache there (%s), so every start is a cold one; set M2H_CACHE", folder, reason(error)
        )
        return None
    return folder
