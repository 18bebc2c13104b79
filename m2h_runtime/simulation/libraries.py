"""The optional libraries of the simulation, imported when they are first needed."""

from __future__ import annotations

import importlib
import platform
from typing import Any

from m2h_runtime.errors import InputError


def require(module: str) -> Any:
    """Import an optional library.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        library, machine = module.partition(".")[0], platform.machine()
        hint = "pip install 'm2h-runtime[simulation]'"
        if library == "embreex" and machine not in ("x86_64", "AMD64"):
            hint = f"it has no wheel for {machine}, so render on an x86-64 machine"
        raise InputError(f"{library}: is not installed, and the simulation needs it; {hint}") from error
