"""Publishers and subscriptions as the contract wants them: outputs reliable, inputs best effort."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from m2h_runtime.errors import InputError
from m2h_runtime.ros.session import require_ros

if TYPE_CHECKING:
    from collections.abc import Callable


def message_class(kind: str) -> Any:
    """The rclpy class of a message type such as "sensor_msgs/msg/Image"."""
    package, _, name = kind.partition("/msg/")
    return getattr(require_ros(f"{package}.msg"), name)


def reliable(depth: int) -> Any:
    """QoSProfile: reliable, volatile, keep last. Of a publisher, every reader hears it; of a reader, it is strict."""
    return _volatile(depth, "RELIABLE")


def best_effort(depth: int) -> Any:
    """QoSProfile: best effort, volatile, keep last. A reader that hears reliable publishers, too."""
    return _volatile(depth, "BEST_EFFORT")


def _volatile(depth: int, reliability: str) -> Any:
    qos = require_ros("rclpy.qos")
    return qos.QoSProfile(
        depth=depth,
        history=qos.HistoryPolicy.KEEP_LAST,
        reliability=qos.ReliabilityPolicy[reliability],
        durability=qos.DurabilityPolicy.VOLATILE,
    )


def make_publisher(node: Any, kind: str, topic: str, depth: int) -> Any:
    """A reliable publisher; history, depth and reliability can be set by `qos_overrides` parameters.

    Raises:
        InputError: the topic's name or an override is wrong.
    """
    return _made(
        topic,
        lambda: node.create_publisher(
            message_class(kind), topic, reliable(depth), qos_overriding_options=_overridable()
        ),
    )


def make_subscription(node: Any, kind: str, topic: str, callback: Callable[[Any], None], depth: int) -> Any:
    """A best-effort subscription; history, depth and reliability can be set by `qos_overrides` parameters.

    Raises:
        InputError: the topic's name or an override is wrong.
    """
    return _made(
        topic,
        lambda: node.create_subscription(
            message_class(kind), topic, callback, best_effort(depth), qos_overriding_options=_overridable()
        ),
    )


def _overridable() -> Any:
    return require_ros("rclpy.qos_overriding_options").QoSOverridingOptions.with_default_policies()


def _made(topic: str, make: Callable[[], Any]) -> Any:
    exceptions = require_ros("rclpy.exceptions")
    overriding = require_ros("rclpy.qos_overriding_options")
    try:
        return make()
    except exceptions.InvalidTopicNameException as error:
        raise InputError(f"topic {topic!r}: {str(error).partition(chr(10))[0].rstrip(':')}") from error
    except (overriding.InvalidQosOverridesError, exceptions.InvalidParameterTypeException) as error:
        raise InputError(f"topic {topic}: a qos_overrides parameter is wrong ({error})") from error
