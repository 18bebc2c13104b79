"""A scene graph of what was mapped: objects, places, rooms and the building, as Hydra has them."""

from m2h_runtime.scene_graph.builder import SceneGraphBuilder
from m2h_runtime.scene_graph.layers import Building, Object, Place, Room, SceneGraph

__all__ = ["Building", "Object", "Place", "Room", "SceneGraph", "SceneGraphBuilder"]
