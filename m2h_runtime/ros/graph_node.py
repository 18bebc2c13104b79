"""The scene graph as a node: depth, labels and poses as topics in; a graph, its markers and its files out."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import cv2

from m2h_runtime.cli.graph import check_libraries
from m2h_runtime.cli.leaving import leave
from m2h_runtime.errors import M2HError
from m2h_runtime.memory import keep_freed_memory
from m2h_runtime.pipeline.health import Health, Level
from m2h_runtime.ros.diagnostics import Diagnostics, Status, status_of
from m2h_runtime.ros.graph_mapper import Mapper
from m2h_runtime.ros.graph_outlets import GraphOutlets
from m2h_runtime.ros.graph_poses import Poses
from m2h_runtime.ros.graph_settings import GraphSettings
from m2h_runtime.ros.graph_topics import OutputReader
from m2h_runtime.ros.logs import log_transition, logging_through
from m2h_runtime.ros.parameters import declare_all
from m2h_runtime.ros.profiles import load_profile
from m2h_runtime.ros.session import RosSession, require_ros
from m2h_runtime.ros.signals import noted_signals
from m2h_runtime.scene_graph.outputs import check_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "m2h_graph"
POLL_S = 0.05
"""How soon a signal is noticed."""
LOOK_S = 1.0
"""How often somebody asks whether anything comes."""
FINISH_S = 10.0
"""The last graph gets so long to be made and saved."""
INPUTS = "inputs"
"""Part of the health: whether the topics speak."""


class GraphNode:
    """Parameters, topics and diagnostics around a `Mapper`.

    Args:
        context: the rclpy context.
        name: the node's name, unless remapped.
        namespace: its namespace.
        overrides: parameters beside those of files and command line.

    Attributes:
        node: the rclpy node.
        mapper: not started yet.

    Raises:
        InputError: a parameter is unknown or wrong, or a library is missing.
    """

    def __init__(self, context: Any, name: str, namespace: str, overrides: list[Any]) -> None:
        self.node = require_ros("rclpy.node").Node(
            name,
            context=context,
            namespace=namespace,
            parameter_overrides=overrides,
            automatically_declare_parameters_from_overrides=True,
        )
        with logging_through(self.node):  # the parts tell what they have to do without
            self._open()

    def _open(self) -> None:
        settings, _ = declare_all(self.node, GraphSettings)
        profile = load_profile(settings.profile)
        out = Path(settings.out).expanduser() if settings.out else None
        if out is not None:
            check_folder(out)
        logger = self.node.get_logger()
        self._health = Health(lambda transition: log_transition(logger, transition))
        poses = Poses(self.node, settings.odometry_topic, settings.fixed_frame)
        outlets = GraphOutlets(self.node)
        self.mapper = Mapper(settings.space(profile), poses, settings, out, self._health, outlets.offer)
        self._reader = OutputReader(self.node, settings.topics(profile), self.mapper.put)
        depth = self._reader.topics["depth"]
        self._diagnostics = Diagnostics(self.node, self._status, depth, whole="graph")
        self._health.listen(lambda _: self._diagnostics.changed())
        clock = require_ros("rclpy.clock")
        steady = clock.Clock(clock_type=clock.ClockType.STEADY_TIME)
        self.node.create_timer(LOOK_S, self._look, clock=steady)
        logger.info(f"reading {', '.join(self._reader.topics.values())}")

    def _look(self) -> None:
        lack = self._reader.lack()
        self._health.report(INPUTS, Level.FAILED if lack else Level.OK, lack or "")

    def _status(self) -> Status:
        return status_of(self._health, self.mapper.figures())


def main(argv: Sequence[str] | None = None) -> int:
    """The executable; takes ROS arguments. Returns 2 for foreseen failures, 128 + signal number when stopped."""
    cv2.setNumThreads(1)  # perception runs beside it
    keep_freed_memory()
    with noted_signals() as received:
        try:
            return run(sys.argv if argv is None else argv, received)
        except M2HError as error:
            sys.stderr.write(f"{NAME}: {error}\n")
            return 2


def run(args: Sequence[str], received: Sequence[int]) -> int:
    """Serve the node until a signal is in `received`; returns the exit code.

    Raises:
        M2HError: the node cannot be made.
    """
    check_libraries()
    made: list[GraphNode] = []

    def make_node(context: Any, name: str, namespace: str, overrides: list[Any]) -> Any:
        made.append(GraphNode(context, name, namespace, overrides))
        return made[0].node

    with RosSession(NAME, args=args, make_node=make_node) as session:
        mapper = made[0].mapper
        with logging_through(session.node):
            session.node.get_logger().info(session.transport)
            mapper.start()
            while not received and mapper.alive and session.alive:
                time.sleep(POLL_S)
            bug = not received and session.context.ok()
            mapper.stop(FINISH_S)
    return 128 + received[0] if received else int(bug)


def command() -> NoReturn:
    """The executable."""
    leave(main())


if __name__ == "__main__":
    command()
