"""The perception as a lifecycle node: configure opens and checks, activate streams."""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import cv2

from m2h_runtime.cli.leaving import leave
from m2h_runtime.errors import M2HError
from m2h_runtime.memory import keep_freed_memory
from m2h_runtime.pipeline.health import Health, Level, Transition
from m2h_runtime.ros.diagnostics import Diagnostics, Status, status_of
from m2h_runtime.ros.lifecycle import make_lifecycle_node
from m2h_runtime.ros.logs import log_transition, logging_through
from m2h_runtime.ros.parameters import changed, declare
from m2h_runtime.ros.session import RosSession, require_ros
from m2h_runtime.ros.signals import noted_signals
from m2h_runtime.ros.streamer import Streamer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

NAME = "m2h_perception"
POLL_S = 0.05
"""How soon a signal or the end of the stream is noticed."""
SHUTDOWN_S, FINISH_S = 1.9, 10.0
"""When a signal has come, a transition in progress gets so long to end, and a recording to be finished."""
RUN, START = "run", "start"
"""Parts of the health: the run as a whole, and configuring and activating."""


class PerceptionNode:
    """Parameters, transitions and diagnostics around a `Streamer`.

    Args:
        context: the rclpy context.
        name: the node's name, unless remapped.
        namespace: its namespace.
        overrides: parameters beside those of files and command line.

    Attributes:
        node: the rclpy lifecycle node.
        settings: its parameters.
        outcome: what the process should return, when nothing more will come by itself; None: go on.
        finalized: the node was shut down.

    Raises:
        InputError: a parameter is unknown or wrong.
    """

    def __init__(self, context: Any, name: str, namespace: str, overrides: list[Any]) -> None:
        self.outcome: int | None = None
        self.finalized = False
        self._streamer: Streamer | None = None
        self._active = False
        self.node = make_lifecycle_node(self, context, name, namespace, overrides)
        self.settings, notes = declare(self.node)
        for note in notes:
            self.node.get_logger().warning(note)
        self.node.add_on_set_parameters_callback(self._change)
        self._health = Health(self._log_transition)
        self._diagnostics = Diagnostics(self.node, self._status, self.settings.source)
        self._health.listen(lambda _: self._diagnostics.changed())

    def start(self) -> None:
        """Configure and activate, as `autostart` has it; what fails ends the process."""
        success = require_ros("rclpy.lifecycle").TransitionCallbackReturn.SUCCESS
        if self.node.trigger_configure() != success or self.node.trigger_activate() != success:
            self.outcome = 2

    def configure(self) -> None:
        """Open engine, calibration and publishers; see `Transitions`."""
        self._attempt(self._configure)

    def _configure(self) -> None:
        self._streamer = Streamer(self.node, self.settings, self._health, self._run_ended)

    def activate(self) -> None:
        """Open the source and stream; see `Transitions`."""
        self._health.ok(RUN)
        self._attempt(self._activate)

    def _activate(self) -> None:
        if self._streamer is not None:  # always, when rclpy asks
            self._streamer.start()
            self._active = True

    def _attempt(self, step: Callable[[], None]) -> None:
        """Do it, and tell /diagnostics why it failed until it succeeds."""
        try:
            step()
        except M2HError as error:
            self._health.report(START, Level.FAILED, str(error))
            raise
        self._health.ok(START)

    def deactivate(self) -> None:
        """Stop streaming; engine and publishers stay; see `Transitions`."""
        self._active = False
        if self._streamer is not None:
            self._streamer.stop()

    def cleanup(self) -> None:
        """Give everything back, from any state; see `Transitions`."""
        self._active = False
        streamer, self._streamer = self._streamer, None
        if streamer is not None:
            streamer.close()

    def shutdown(self) -> None:
        """Give everything back for good; see `Transitions`."""
        self.finalized = True
        self.cleanup()

    def _run_ended(self, error: Exception | None) -> None:
        """In the run's thread: let the node's own thread go on with it."""
        self.node.executor.create_task(partial(self._after_run, error))

    def _after_run(self, error: Exception | None) -> None:
        if not self._active:  # somebody was faster
            return
        self.node.trigger_deactivate()
        if error is not None:
            self._health.report(RUN, Level.FAILED, str(error) or type(error).__name__)
        if error is not None and not isinstance(error, M2HError):
            raise error  # a bug keeps its traceback and ends the node
        if self.settings.autostart:
            self.outcome = 2 if error is not None else 0

    def _change(self, parameters: Iterable[Any]) -> Any:
        """Take these values over, or refuse them; called by rclpy."""
        result = require_ros("rcl_interfaces.msg").SetParametersResult
        try:
            settings = changed(self.settings, parameters)
            if self._streamer is not None:
                self._streamer.change(settings)
        except M2HError as error:
            return result(successful=False, reason=str(error))
        self.settings = settings
        return result(successful=True)

    def _status(self) -> Status:
        figures = self._streamer.figures() if self._streamer is not None else {}
        return status_of(self._health, figures, active=self._active)

    def _log_transition(self, transition: Transition) -> None:
        if transition.part != START:  # the transition's own refusal is logged
            log_transition(self.node.get_logger(), transition)


def main(argv: Sequence[str] | None = None) -> int:
    """The executable; takes ROS arguments. Returns 0, 2 for foreseen failures, 128 + signal number when stopped."""
    cv2.setNumThreads(1)  # the engine has all the cores; our own resizing is short
    keep_freed_memory()
    with noted_signals() as received:
        try:
            return run(sys.argv if argv is None else argv, received)
        except M2HError as error:
            sys.stderr.write(f"{NAME}: {error}\n")
            return 2


def run(args: Sequence[str], received: Sequence[int]) -> int:
    """Serve the node until a signal is in `received`, its stream has ended or it is shut down; returns the exit code.

    Raises:
        M2HError: the node cannot be made.
    """
    made: list[PerceptionNode] = []

    def make_node(context: Any, name: str, namespace: str, overrides: list[Any]) -> Any:
        made.append(PerceptionNode(context, name, namespace, overrides))
        return made[0].node

    with RosSession(NAME, args=args, make_node=make_node) as session:
        perception = made[0]
        with logging_through(perception.node):
            session.node.get_logger().info(session.transport)
            if perception.settings.autostart:
                session.executor.create_task(perception.start)
            while not received and perception.outcome is None and session.alive:
                time.sleep(POLL_S)
            bug = not received and perception.outcome is None and session.context.ok()
            code = 128 + received[0] if received else perception.outcome or int(bug)
            if not bug:
                _shut_down(session, perception, code)
    return code


def _shut_down(session: RosSession, perception: PerceptionNode, code: int) -> None:
    """Take the node to its end, in its own thread; if that thread does not come to it in time, leave with `code`."""
    done = session.executor.create_task(_finalize, perception)
    started = time.monotonic()
    while not done.done() and session.alive:
        if time.monotonic() - started > (FINISH_S if perception.finalized else SHUTDOWN_S):
            _leave(code)
        time.sleep(POLL_S / 5)


def _finalize(perception: PerceptionNode) -> None:
    if not perception.finalized:
        perception.node.trigger_shutdown()


def _leave(code: int) -> None:
    """End the process at once: a thread is in a library that cannot be interrupted, and would not let it end."""
    sys.stderr.write(f"{NAME}: stopped in the middle of a transition\n")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def command() -> NoReturn:
    """The executable."""
    leave(main())


if __name__ == "__main__":
    command()
