"""Mapping: depth images with poses become one surface with labels and colours, and the space known to be free."""

from m2h_runtime.mapping.mesh import Mesh
from m2h_runtime.mapping.volume import Volume

__all__ = ["Mesh", "Volume"]
