"""What a node sees of the others: who publishes a topic, of which type, and whether a reader would hear it."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from m2h_runtime.ros.session import require_ros

if TYPE_CHECKING:
    from collections.abc import Collection


def silence(node: Any, topic: str, types: Collection[str], reader_qos: Any) -> str | None:
    """Why nothing can come from `topic`; None if by the graph something could.

    Args:
        node: asks its own view of the graph; no daemon is needed.
        topic: resolved name.
        types: the types that would do, as "sensor_msgs/msg/Image".
        reader_qos: the QoSProfile of who wants to read.
    """
    endpoints = node.get_publishers_info_by_topic(topic)
    if not endpoints:
        return f"nobody publishes {topic}{_neighbour(node, topic, types)}"
    fitting = [endpoint for endpoint in endpoints if endpoint.topic_type in types]
    if not fitting:
        return f"{topic} is {endpoints[0].topic_type}, wanted is {' or '.join(types)}"
    reasons = [_refusal(endpoint.qos_profile, reader_qos) for endpoint in fitting]
    if all(reasons):
        return f"{topic}: the publisher {fitting[0].node_name} has QoS that does not fit: {reasons[0]}"
    return None


def _refusal(publisher: Any, reader: Any) -> str:
    """Why these two do not connect; "" if they do."""
    qos = require_ros("rclpy.qos")
    compatibility, reason = qos.qos_check_compatible(publisher, reader)
    return str(reason).strip() if compatibility == qos.QoSCompatibility.ERROR else ""


def _neighbour(node: Any, topic: str, types: Collection[str]) -> str:
    there = [
        name for name, its in node.get_topic_names_and_types() if name != topic and set(its) & set(types)
    ]
    there = [name for name in there if node.count_publishers(name)]
    if not there:
        return "; no such topic has a publisher in this ROS domain"
    near = get_close_matches(topic, there, 1, 0.0)[0]
    return f"; the nearest is {near}"
