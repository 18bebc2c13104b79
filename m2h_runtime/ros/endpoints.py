"""Publishers and subscriptions as the contract wants them: outputs reliable, inputs as their publishers are."""

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
    return _qos(depth, "RELIABLE")


def best_effort(depth: int) -> Any:
    """QoSProfile: best effort, volatile, keep last. A reader that hears reliable publishers, too."""
    return _qos(depth, "BEST_EFFORT")


def latched(depth: int) -> Any:
    """QoSProfile: reliable, transient local, keep last: who comes later gets the last ones all the same."""
    return _qos(depth, "RELIABLE", "TRANSIENT_LOCAL")


def all_reliable(node: Any, topic: str) -> bool:
    """Somebody publishes `topic` (resolved), and everybody who does is reliable."""
    policy = require_ros("rclpy.qos").ReliabilityPolicy.RELIABLE
    endpoints = node.get_publishers_info_by_topic(topic)
    return bool(endpoints) and all(endpoint.qos_profile.reliability == policy for endpoint in endpoints)


def _qos(depth: int, reliability: str, durability: str = "VOLATILE") -> Any:
    qos = require_ros("rclpy.qos")
    return qos.QoSProfile(
        depth=depth,
        history=qos.HistoryPolicy.KEEP_LAST,
        reliability=qos.ReliabilityPolicy[reliability],
        durability=qos.DurabilityPolicy[durability],
    )


def make_publisher(node: Any, kind: str, topic: str, depth: int, *, for_latecomers: bool = False) -> Any:
    """A reliable publisher; history, depth and reliability can be set by `qos_overrides` parameters.

    Args:
        node: the node.
        kind: message type, as "sensor_msgs/msg/Image".
        topic: its name.
        depth: of the queue.
        for_latecomers: see `latched`.

    Raises:
        InputError: the message type is not installed, or the topic's name or an override is wrong.
    """
    return _made(
        topic,
        lambda: node.create_publisher(
            message_class(kind),
            topic,
            latched(depth) if for_latecomers else reliable(depth),
            qos_overriding_options=_overridable("HISTORY", "DEPTH", "RELIABILITY"),
        ),
    )


def make_subscription(node: Any, kind: str, topic: str, callback: Callable[[Any], None], qos: Any) -> Any:
    """A subscription; history and depth of `qos` can be overruled by `qos_overrides` parameters.

    Reliability cannot: such a parameter, once declared, would keep it as it was.

    Raises:
        InputError: the topic's name or an override is wrong.
    """
    return _made(
        topic,
        lambda: node.create_subscription(
            message_class(kind), topic, callback, qos, qos_overriding_options=_overridable("HISTORY", "DEPTH")
        ),
    )


def resolved(node: Any, topic: str) -> str:
    """The full name of `topic` for this node, remappings applied.

    Raises:
        InputError: it is no topic's name.
    """
    validate = require_ros("rclpy.validate_topic_name").validate_topic_name
    _made(topic, lambda: validate(topic))
    return str(node.resolve_topic_name(topic))


def _overridable(*policies: str) -> Any:
    kind = require_ros("rclpy.qos").QoSPolicyKind
    options = require_ros("rclpy.qos_overriding_options").QoSOverridingOptions
    return options([kind[name] for name in policies])


def _made(topic: str, make: Callable[[], Any]) -> Any:
    exceptions = require_ros("rclpy.exceptions")
    overriding = require_ros("rclpy.qos_overriding_options")
    try:
        return make()
    except exceptions.InvalidTopicNameException as error:
        raise InputError(f"topic {topic!r}: {str(error).partition(chr(10))[0].rstrip(':')}") from error
    except (overriding.InvalidQosOverridesError, exceptions.InvalidParameterTypeException) as error:
        raise InputError(f"topic {topic}: a qos_overrides parameter is wrong ({error})") from error
