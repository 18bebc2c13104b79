"""A node of our own with a thread that serves it, from start to a bounded end."""

from __future__ import annotations

import importlib
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from m2h_runtime.errors import InputError
from m2h_runtime.ros.transport import prepare_transport

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from typing_extensions import Self

CLOSE_S = 1.5
"""Closing takes no longer than this, whatever DDS does."""
_MESSAGES = ("sensor", "nav", "geometry", "diagnostic", "rosgraph", "visualization")
WHEELS = " ".join(f"ros-{name}-msgs" for name in _MESSAGES)
"""The wheels of ROS 2 that we use, beside rclpy and a middleware."""


def require_ros(module: str = "rclpy") -> Any:
    """Import a module of ROS 2.

    Args:
        module: "rclpy", "sensor_msgs.msg" and so on.

    Raises:
        InputError: it is not there; says how to get it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"{module}: cannot be imported ({error}); `source /opt/ros/<distro>/setup.bash` with the Python of that "
            f"distro, or without an installation: pip install ros-rclpy ros-rmw-fastrtps-cpp {WHEELS}"
        ) from error


class RosSession:
    """One ROS context, one node, and a daemon thread that runs its callbacks. No signal handlers.

    Args:
        name: the node's name, unless `args` remaps it.
        namespace: the node's namespace.
        args: ROS arguments ("--ros-args", "-r", "image:=/camera/image", ...); None takes none.
        use_sim_time: the node's clock follows /clock.
        make_node: makes the node in this context; None makes a plain `rclpy.node.Node`. It gets the context, the
            name, the namespace and the parameter overrides.

    Attributes:
        context: the `rclpy.context.Context`.
        node: the node.
        executor: runs the node's callbacks, one at a time.
        transport: one line on how messages travel, to be told the user.

    Raises:
        InputError: ROS is missing, or does not accept the name, the namespace or the arguments.
    """

    def __init__(
        self,
        name: str,
        *,
        namespace: str = "",
        args: Sequence[str] | None = None,
        use_sim_time: bool = False,
        make_node: Callable[[Any, str, str, list[Any]], Any] | None = None,
    ) -> None:
        rclpy = require_ros()
        executors = require_ros("rclpy.executors")
        self._closing = False
        self.transport = prepare_transport()
        self.context = rclpy.context.Context()
        try:
            self.context.init(args=list(args or ()))
            overrides = [rclpy.parameter.Parameter("use_sim_time", value=True)] if use_sim_time else []
            self.node = (make_node or plain_node)(self.context, name, namespace, overrides)
        except _refusals() as error:
            self.context.try_shutdown()
            raise InputError(
                f"ROS node {name!r}: {_first_line(error)}; see its name and --ros-args"
            ) from error
        except BaseException:
            self.context.try_shutdown()
            raise
        self.executor = executors.SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self._stop = self.node.create_guard_condition(lambda: None)  # ends a wait at once
        self._thread = threading.Thread(target=self._spin, name=f"ros {name}", daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        while not self._closing and self.context.ok():
            try:
                self.executor.spin_once()
            except Exception:
                if self._closing or not self.context.ok():  # what was waited for is gone
                    return
                raise

    @property
    def alive(self) -> bool:
        """The callbacks are being served; False after `close`, a shutdown from outside, or a bug in a callback."""
        return self._thread.is_alive() and bool(self.context.ok())

    def now_ns(self) -> int:
        """The node's clock: Unix epoch, or simulated time."""
        return int(self.node.get_clock().now().nanoseconds)

    def close(self) -> None:
        """Stop the thread, destroy the node, leave ROS; `CLOSE_S` at most. May be called twice."""
        self._closing = True
        if not self.context.ok():
            return
        closing = threading.Thread(target=self._close, name="ros close", daemon=True)
        closing.start()
        closing.join(CLOSE_S)

    def _close(self) -> None:
        with suppress(Exception):  # nothing is left that an error could be told to
            self._stop.trigger()
            self._thread.join(CLOSE_S)
            self.executor.shutdown(timeout_sec=0.5)
            self.node.destroy_node()
        with suppress(Exception):
            self.context.try_shutdown()

    def __enter__(self) -> Self:
        """Use the session in a `with` block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the session."""
        self.close()


def plain_node(context: Any, name: str, namespace: str, overrides: list[Any]) -> Any:
    """An `rclpy.node.Node` without the services for parameters that nobody declares."""
    return require_ros("rclpy.node").Node(
        name, context=context, namespace=namespace, parameter_overrides=overrides
    )


def _refusals() -> tuple[type[Exception], ...]:
    """What rclpy raises about names and arguments."""
    exceptions = require_ros("rclpy.exceptions")
    return (
        exceptions.InvalidNodeNameException,
        exceptions.InvalidNamespaceException,
        exceptions.InvalidTopicNameException,
        require_ros("rclpy.impl.implementation_singleton").rclpy_implementation.RCLError,
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
