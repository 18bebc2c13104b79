"""`GraphSink`: maps what a pipeline perceives, beside it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from m2h_runtime.errors import SinkError
from m2h_runtime.scene_graph.builder import SceneGraphBuilder
from m2h_runtime.scene_graph.sightings import sighting_of
from m2h_runtime.sinks.base import Sink

if TYPE_CHECKING:
    from collections.abc import Callable

    from m2h_runtime.mapping.volume import Volume
    from m2h_runtime.scene_graph.layers import SceneGraph
    from m2h_runtime.sinks.base import Observation

log = logging.getLogger("m2h")

PERIOD_S = 0.2
"""A camera that is carried sees little that is new in less time, and the engine keeps the cores."""
UPDATE_S = 2.0
UNPLACED = (
    "graph: a frame has no pose or no intrinsics and is not mapped; poses come from a simulation, a recording's /tf, "
    "--odometry or --visual-odometry"
)


class GraphSink(Sink):
    """Fuses every perception that is at least `period_s` after the one before, and makes a graph now and then.

    Frames without a pose or without intrinsics cannot be mapped; they are counted, and the first is told.

    Args:
        volume: to fill; None: one made for the label space of the first perception.
        period_s: between two images that are mapped, by their stamps.
        update_s: between two graphs, by the same; None: only one, at the end.
        on_graph: gets each graph, in the sink's thread; must be quick.
        on_mapped: is told the stamp of each image that was mapped.

    Attributes:
        builder: None before the first perception.
        mapped: images in the map.
        unplaced: images without a pose or without intrinsics.
    """

    name = "graph"

    def __init__(
        self,
        volume: Volume | None = None,
        period_s: float = PERIOD_S,
        update_s: float | None = UPDATE_S,
        on_graph: Callable[[SceneGraph], None] = lambda _: None,
        on_mapped: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.builder: SceneGraphBuilder | None = None
        self.mapped = self.unplaced = 0
        self._volume = volume
        self._period_ns = round(1e9 * period_s)
        self._update_ns = None if update_s is None else round(1e9 * update_s)
        self._on_graph = on_graph
        self._on_mapped = on_mapped
        self._mapped_ns: int | None = None
        self._updated_ns: int | None = None

    def write(self, observation: Observation) -> None:
        """Map it, if it is time to.

        Raises:
            InputError: the engine's label space has no roles, or a library is missing.
        """
        if self.builder is None:
            self.builder = SceneGraphBuilder(observation.perception.label_space, self._volume)
        stamp_ns = observation.frame.stamp_ns
        if self._mapped_ns is not None and 0 <= stamp_ns - self._mapped_ns < self._period_ns:
            return
        sighting = sighting_of(observation)
        if sighting is None or not np.isfinite(sighting.world_from_camera).all():
            if (
                self.unplaced == 0 and observation.odometry is None
            ):  # visual odometry says itself why it has none
                log.warning(UNPLACED)
            self.unplaced += 1
            return
        self._mapped_ns = stamp_ns
        self.builder.add(sighting.thinned())
        self.mapped += 1
        self._on_mapped(stamp_ns)
        self._update(stamp_ns)

    def _update(self, stamp_ns: int) -> None:
        if self.builder is None or self._update_ns is None:
            return
        if self._updated_ns is None:
            self._updated_ns = stamp_ns
        elif not 0 <= stamp_ns - self._updated_ns < self._update_ns:
            self._updated_ns = stamp_ns
            self._on_graph(self.builder.update())

    def close(self) -> None:
        """Make the last graph.

        Raises:
            SinkError: not one frame could be mapped.
        """
        if self.builder is None or self.mapped == 0:
            raise SinkError(
                f"graph: nothing was mapped: {self.unplaced} frames had no pose or no intrinsics; give --odometry or "
                "--visual-odometry, or record poses on /tf, and a camera_info"
                if self.unplaced
                else "graph: nothing was mapped: not one frame came"
            )
        self._on_graph(self.builder.update())

    def abort(self) -> None:
        """Nothing to undo."""
