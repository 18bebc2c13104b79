"""A scene graph as topics: each is made for who reads it, and as often as that is good for."""

from __future__ import annotations

import itertools
import logging
import time
from typing import TYPE_CHECKING, Any

from m2h_runtime.errors import InputError
from m2h_runtime.ros import graph_markers
from m2h_runtime.ros.endpoints import make_publisher

if TYPE_CHECKING:
    from collections.abc import Callable

    from m2h_runtime.scene_graph.layers import SceneGraph

MESH_S = 5.0
"""Megabytes, for something that changes slowly."""

log = logging.getLogger("m2h")


class GraphOutlets:
    """Publishes `~/dsg` for Hydra's tools, `~/markers` and `~/mesh` for RViz and Foxglove, all for latecomers too.

    What nobody reads is not made. A message package that is not installed is told once, with what it means.

    Args:
        node: the node.
    """

    def __init__(self, node: Any) -> None:
        numbers = itertools.count()

        def update(graph: SceneGraph, frame: str) -> bytes:
            return graph_markers.update(graph, frame, next(numbers))

        made = (
            _outlet(node, graph_markers.UPDATE, "~/dsg", update),
            _outlet(node, graph_markers.MARKERS, "~/markers", graph_markers.markers),
            _outlet(node, graph_markers.MARKER, "~/mesh", graph_markers.mesh, MESH_S),
        )
        self._outlets = [outlet for outlet in made if outlet is not None]

    def offer(self, graph: SceneGraph, frame: str) -> None:
        """Publish what is wanted of the newest graph, which lies in `frame`; to be called again and again."""
        for outlet in self._outlets:
            outlet.offer(graph, frame)


class _Outlet:
    """One topic."""

    def __init__(self, publisher: Any, make: Callable[[SceneGraph, str], bytes], period_s: float) -> None:
        self._publisher = publisher
        self._make = make
        self._period_ns = round(1e9 * period_s)
        self._sent: SceneGraph | None = None
        self._sent_ns: int | None = None

    def offer(self, graph: SceneGraph, frame: str) -> None:
        now_ns = time.monotonic_ns()
        early = self._sent_ns is not None and now_ns - self._sent_ns < self._period_ns
        if graph is self._sent or early or not self._publisher.get_subscription_count():
            return
        self._publisher.publish(self._make(graph, frame))
        self._sent, self._sent_ns = graph, now_ns


def _outlet(
    node: Any, kind: str, topic: str, make: Callable[[SceneGraph, str], bytes], period_s: float = 0.0
) -> _Outlet | None:
    """None where the message is not installed."""
    try:
        publisher = make_publisher(node, kind, topic, 1, for_latecomers=True)
    except InputError:
        package = kind.partition("/")[0]
        log.warning(
            "there is no %s, so nothing on %s; install it where its readers are to be served", package, topic
        )
        return None
    return _Outlet(publisher, make, period_s)
