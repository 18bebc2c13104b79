"""Where the camera is, from its own pictures and the network's depth, for robots that do not say."""

from m2h_runtime.odometry.estimate import Estimate
from m2h_runtime.odometry.visual import VisualOdometry

__all__ = ["Estimate", "VisualOdometry"]
