"""The robot's side of M2H: engines, sources, the streaming pipeline and its sinks. No torch, no ROS."""

from m2h_runtime.engine import Engine, open_engine
from m2h_runtime.errors import M2HError
from m2h_runtime.frame import Frame
from m2h_runtime.perception import Perception

__version__ = "0.1.0"
__all__ = ["Engine", "Frame", "M2HError", "Perception", "__version__", "open_engine"]
