"""Messages of a perception become a map and a graph, in a thread of its own: the node never waits for it."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from m2h_runtime.errors import ContractError, InputError, SourceError
from m2h_runtime.pipeline.health import Fault, Level
from m2h_runtime.pipeline.slot import Slot
from m2h_runtime.scene_graph import SceneGraphBuilder
from m2h_runtime.scene_graph.messages import camera_of, sighting_from, stamp_of
from m2h_runtime.scene_graph.outputs import write_outputs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from m2h_runtime.label_space import LabelSpace
    from m2h_runtime.pipeline.health import Health
    from m2h_runtime.ros.graph_poses import Poses
    from m2h_runtime.ros.graph_settings import GraphSettings
    from m2h_runtime.ros.graph_topics import Outputs
    from m2h_runtime.scene_graph.layers import SceneGraph
    from m2h_runtime.scene_graph.sightings import Sighting

POLL_S = 0.1
"""How soon somebody who wants the graph gets it."""
WAIT_S = 0.3
"""For a transform: images are there before their odometry."""
SLACK_NS = 5_000_000
"""Stamps of a steady camera waver a little."""
POSES, OUTPUTS, FILES = "poses", "outputs", "files"
"""Parts of the health."""

log = logging.getLogger("m2h")


class Mapper:
    """The newest image wins: one that is still waiting when the next comes is dropped, and counted.

    Args:
        space: label space of the labels.
        poses: says where the camera was.
        settings: the node's.
        out: folder to save in; None: nothing is saved.
        health: told what is wrong.
        offer: gets the newest graph and its frame again and again, in the mapper's thread.

    Raises:
        InputError: nobody knows what the classes of this label space are.
    """

    def __init__(
        self,
        space: LabelSpace,
        poses: Poses,
        settings: GraphSettings,
        out: Path | None,
        health: Health,
        offer: Callable[[SceneGraph, str], None],
    ) -> None:
        self._builder = SceneGraphBuilder(space)
        self._poses = poses
        self._settings = settings
        self._out = out
        self._health = health
        self._offer = offer
        self._placing = Fault(health, POSES, time.monotonic_ns)
        self._reading = Fault(health, OUTPUTS, time.monotonic_ns)
        self._slot: Slot[Outputs] = Slot(lossless=False)
        self._counts: Counter[str] = Counter()
        self._mapped_ns: int | None = None
        self._new = False  # something was mapped since the latest graph
        self._saved: SceneGraph | None = None
        self._updated_s = self._saved_s = time.monotonic()
        self._update_s = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="mapper", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """False after `stop`, or if a bug ended it."""
        return self._thread.is_alive()

    def put(self, outputs: Outputs) -> None:
        """Take the messages of one image, if it is time for one; returns at once."""
        since = self._mapped_ns
        period_ns = 1e9 * self._settings.period_s - SLACK_NS
        if since is None or not 0 <= stamp_of(outputs.depth) - since < period_ns:
            self._slot.put(outputs, 0.0)

    def stop(self, timeout_s: float) -> None:
        """Make the last graph, save it and end; what is not done in time is left behind."""
        self._stopping.set()
        self._slot.end()
        self._thread.join(timeout_s)
        if self.alive:
            log.error("the last graph was not ready in %g s and is not saved", timeout_s)

    def figures(self) -> dict[str, str]:
        """For /diagnostics, as text."""
        graph = self._builder.graph
        layers = ("rooms", "objects", "places") if graph is not None else ()
        return {
            **{name: str(self._counts[name]) for name in ("mapped", "unplaced", "unusable")},
            "dropped": str(self._slot.replaced),
            "seconds per update": f"{self._update_s:.2f}",
            **{layer: str(len(getattr(graph, layer))) for layer in layers},
        }

    def _work(self) -> None:
        while not self._stopping.is_set():
            outputs = self._slot.take(POLL_S)
            if outputs is not None:
                self._map(outputs)
            self._refresh()
        if self._new:
            self._update()
        self._save()
        if self._builder.graph is None:
            log.warning("nothing was mapped, so there is no graph")

    def _map(self, outputs: Outputs) -> None:
        stamp_ns, frame = stamp_of(outputs.depth), outputs.depth.header.frame_id
        found = self._poses.at(frame, stamp_ns, WAIT_S)
        if found.pose is None:
            self._counts["unplaced"] += 1
            self._placing.bad(found.why, Level.DEGRADED if self._counts["mapped"] else Level.FAILED)
            return
        self._placing.good()
        try:
            self._builder.add(self._sighting(outputs, found.pose).thinned())
        except (SourceError, ContractError) as error:
            self._counts["unusable"] += 1
            self._reading.bad(str(error), Level.FAILED)
            return
        self._reading.good()
        self._counts["mapped"] += 1
        self._mapped_ns, self._new = stamp_ns, True

    def _sighting(self, outputs: Outputs, pose: NDArray[np.float64]) -> Sighting:
        camera = camera_of(outputs.camera_info)
        if camera is None:
            raise SourceError("camera_info: says nothing that is a camera (is k 0?); calibrate the camera")
        space = self._builder.label_space
        return sighting_from(outputs.depth, outputs.labels, outputs.rgb, camera, pose, space)

    def _refresh(self) -> None:
        """What is due: a new graph, its topics, its files."""
        if self._new and time.monotonic() - self._updated_s >= self._settings.update_s:
            self._update()
        if (graph := self._builder.graph) is not None:
            self._offer(graph, self._poses.frame)
        if time.monotonic() - self._saved_s >= self._settings.save_s:
            self._save()

    def _update(self) -> None:
        began = time.monotonic()
        self._builder.update()
        self._new = False
        self._updated_s = time.monotonic()  # counted from its end, or a slow machine would do nothing else
        self._update_s = self._updated_s - began

    def _save(self) -> None:
        graph = self._builder.graph
        if self._out is not None and graph is not None and graph is not self._saved:
            try:
                write_outputs(graph, self._out, f"ROS 2, {self._settings.perception}")
            except InputError as error:
                self._health.report(FILES, Level.FAILED, str(error))
            else:
                self._saved = graph
                self._health.ok(FILES)
        self._saved_s = time.monotonic()
