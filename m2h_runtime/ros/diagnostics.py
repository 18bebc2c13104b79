"""/diagnostics: how the run is doing, once a second and at once when it changes."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from m2h_runtime.ros import cdr
from m2h_runtime.ros.endpoints import make_publisher
from m2h_runtime.ros.session import require_ros

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from m2h_runtime.pipeline.health import Condition, Health

TOPIC = "/diagnostics"
NAMES = ("ok", "degraded", "failed", "inactive")
"""What a level says that has no text of its own."""
STALE = 3


@dataclass(frozen=True, slots=True)
class Status:
    """What is told about the run at one moment.

    Attributes:
        worst: the worst level of all parts, with the text.
        parts: the condition of each part.
        values: figures by name: fps, age p50/p99, drops by reason, engine, backend.
        active: False while nothing streams (an inactive lifecycle node): the whole is then reported as STALE.
    """

    worst: Condition
    parts: Mapping[str, Condition] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)
    active: bool = True


def status_of(health: Health, values: Mapping[str, str], *, active: bool = True) -> Status:
    """The status that `health` and these figures give."""
    return Status(health.worst(), health.parts(), values, active)


Entry = tuple[int, str, str, str, list[tuple[str, str]]]
"""Level, name, message, hardware id, figures."""


class Diagnostics:
    """Publishes a `Status` as diagnostic_msgs/DiagnosticArray, from the node's own executor.

    One entry "m2h: <whole>" with the figures, and one "m2h: <part>" for each part.

    Args:
        node: the node.
        status: gives the status now; called in the executor's thread.
        hardware_id: what is watched: the camera or the topic.
        whole: what all parts together are called.
        period_s: seconds between two, on the steady clock: simulated time may stand still.
    """

    def __init__(
        self,
        node: Any,
        status: Callable[[], Status],
        hardware_id: str,
        *,
        whole: str = "perception",
        period_s: float = 1.0,
    ) -> None:
        clock = require_ros("rclpy.clock")
        self._node = node
        self._status = status
        self._hardware_id = hardware_id
        self._whole = whole
        self._lock = threading.Lock()
        self._closed = False
        self._publisher = make_publisher(node, "diagnostic_msgs/msg/DiagnosticArray", TOPIC, 10)
        steady = clock.Clock(clock_type=clock.ClockType.STEADY_TIME)
        self._timer = node.create_timer(period_s, self.publish, clock=steady)
        self._changed = node.create_guard_condition(self.publish)

    def changed(self) -> None:
        """Publish soon, from any thread; returns at once. For `Health.listen`."""
        with self._lock:
            if not self._closed:
                self._changed.trigger()

    def publish(self) -> None:
        """Publish the status now."""
        status = self._status()
        level, text = (
            int(status.worst.level),
            status.worst.text,
        )  # 0, 1 and 2 are OK, WARN and ERROR there too
        if not status.active:
            level = STALE
        entries = [self._entry(self._whole, level, text, status.values)]
        entries += [self._entry(part, int(its.level), its.text, {}) for part, its in status.parts.items()]
        now_ns = self._node.get_clock().now().nanoseconds
        message = cdr.diagnostics((now_ns, ""), entries)
        with self._lock:  # the status was asked for before: whoever gives it may be in `changed` just now
            if not self._closed:
                self._publisher.publish(message)

    def _entry(self, part: str, level: int, text: str, values: Mapping[str, str]) -> Entry:
        return level, f"m2h: {part}", text or NAMES[level], self._hardware_id, list(values.items())

    def close(self) -> None:
        """Take timer and publisher away."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._node.destroy_timer(self._timer)
        self._node.destroy_guard_condition(self._changed)
        self._node.destroy_publisher(self._publisher)
