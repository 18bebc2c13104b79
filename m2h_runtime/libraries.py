"""Optional libraries, imported when they are first needed."""

from __future__ import annotations

import importlib
from typing import Any

from m2h_runtime.errors import InputError


def require(module: str, purpose: str, extra: str) -> Any:
    """Import an optional library.

    Args:
        module: dotted name.
        purpose: who needs it, as in "the bag source".
        extra: of m2h-runtime, which installs it.

    Raises:
        InputError: it is not installed, or cannot be loaded.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        library = module.partition(".")[0]
        raise InputError(
            f"{library}: is not installed, and {purpose} needs it; pip install 'm2h-runtime[{extra}]'"
        ) from error
    except ImportError as error:  # it is there, and a system library that it needs is not
        raise InputError(f"{module}: cannot be loaded ({' '.join(str(error).split())})") from error
