"""The robot's side of M2H: engines, sources, the streaming pipeline and its sinks. No torch, no ROS."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from m2h_runtime.engine import Engine, open_engine
    from m2h_runtime.errors import M2HError
    from m2h_runtime.frame import Frame
    from m2h_runtime.perception import Perception

__version__ = "0.1.0"
__all__ = ["Engine", "Frame", "M2HError", "Perception", "__version__", "open_engine"]

_HOMES = {
    "Engine": "m2h_runtime.engine",
    "Frame": "m2h_runtime.frame",
    "M2HError": "m2h_runtime.errors",
    "Perception": "m2h_runtime.perception",
    "open_engine": "m2h_runtime.engine",
}


def __getattr__(name: str) -> object:
    """Import what is asked for when it is asked for: `m2h-run --help` needs no numpy."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
