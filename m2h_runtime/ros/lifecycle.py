"""An rclpy lifecycle node whose transitions are somebody else's plain methods."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any, Protocol

from m2h_runtime.errors import M2HError
from m2h_runtime.ros.session import require_ros

if TYPE_CHECKING:
    from collections.abc import Callable


class Transitions(Protocol):
    """What a lifecycle node does. An M2HError refuses a transition; anything else resets the node by `cleanup`."""

    def configure(self) -> None:
        """Unconfigured to inactive: take what is needed; all or nothing."""

    def activate(self) -> None:
        """Inactive to active: start."""

    def deactivate(self) -> None:
        """Active to inactive: stop, keep what is needed."""

    def cleanup(self) -> None:
        """From any state: stop, and give everything back."""

    def shutdown(self) -> None:
        """The same, for good."""


def make_lifecycle_node(
    transitions: Transitions, context: Any, name: str, namespace: str, overrides: list[Any]
) -> Any:
    """An `rclpy.lifecycle.LifecycleNode`, made to be read by `parameters.declare`.

    Args:
        transitions: called in the thread that serves the node.
        context: the rclpy context.
        name: the node's name.
        namespace: its namespace.
        overrides: parameters (`rclpy.parameter.Parameter`) beside those of files and command line.
    """
    lifecycle: Any = require_ros("rclpy.lifecycle")
    codes = lifecycle.TransitionCallbackReturn

    class Node(lifecycle.LifecycleNode):  # type: ignore[misc]  # a class of a module that is imported late
        def on_configure(self, _: Any) -> Any:
            return self._do(transitions.configure)

        def on_activate(self, _: Any) -> Any:
            return self._do(transitions.activate)

        def on_deactivate(self, _: Any) -> Any:
            return self._do(transitions.deactivate)

        def on_cleanup(self, _: Any) -> Any:
            return self._do(transitions.cleanup)

        def on_shutdown(self, _: Any) -> Any:
            return self._do(transitions.shutdown)

        def on_error(self, _: Any) -> Any:
            return self._do(transitions.cleanup)

        def _do(self, step: Callable[[], None]) -> Any:
            try:
                step()
            except M2HError as error:
                self.get_logger().error(str(error))
                return codes.FAILURE
            except Exception:
                self.get_logger().fatal(traceback.format_exc())
                return codes.ERROR
            return codes.SUCCESS

    return Node(
        name,
        context=context,
        namespace=namespace,
        parameter_overrides=overrides,
        automatically_declare_parameters_from_overrides=True,
    )
