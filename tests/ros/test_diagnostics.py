"""`Diagnostics` as another node hears it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from ros_helpers import wait_for

from m2h_runtime.pipeline.health import Health, Level
from m2h_runtime.ros.diagnostics import Diagnostics, status_of
from m2h_runtime.ros.endpoints import message_class, reliable
from m2h_runtime.ros.session import RosSession

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def heard(session: RosSession) -> Iterator[list[Any]]:
    """The arrays that a node "monitor" receives."""
    arrays: list[Any] = []
    with RosSession("monitor") as monitor:
        kind = message_class("diagnostic_msgs/msg/DiagnosticArray")
        monitor.node.create_subscription(kind, "/diagnostics", arrays.append, reliable(10))
        yield arrays


def levels(array: Any) -> dict[str, tuple[int, str]]:
    return {status.name: (status.level[0], status.message) for status in array.status}


def test_parts_and_figures_are_told_once_a_second(session: RosSession, heard: list[Any]) -> None:
    health = Health()
    health.ok("source")
    health.report("imu", Level.DEGRADED, "no samples")
    values = {"fps": "29.7", "engine": "m2h-small"}
    diagnostics = Diagnostics(session.node, lambda: status_of(health, values), "/dev/video0", period_s=0.1)
    wait_for(lambda: len(heard) > 2)
    assert levels(heard[-1]) == {
        "m2h: perception": (1, "imu: no samples"),
        "m2h: source": (0, "ok"),
        "m2h: imu": (1, "no samples"),
    }
    whole = heard[-1].status[0]
    assert {pair.key: pair.value for pair in whole.values} == values
    assert {status.hardware_id for status in heard[-1].status} == {"/dev/video0"}
    stamp = heard[-1].header.stamp
    assert abs(stamp.sec + stamp.nanosec / 1e9 - time.time()) < 2
    diagnostics.close()
    diagnostics.close()


def test_a_change_is_told_at_once(session: RosSession, heard: list[Any]) -> None:
    health = Health()
    diagnostics = Diagnostics(session.node, lambda: status_of(health, {}), "camera", period_s=30.0)
    health.listen(lambda _: diagnostics.changed())
    topic = diagnostics._publisher
    wait_for(topic.get_subscription_count)
    health.report("source", Level.FAILED, "the camera is gone")
    wait_for(lambda: heard)
    assert levels(heard[-1])["m2h: source"] == (2, "the camera is gone")
    diagnostics.close()
    health.ok("source")  # nobody to tell, and no error


def test_an_inactive_node_is_stale(session: RosSession, heard: list[Any]) -> None:
    diagnostics = Diagnostics(
        session.node, lambda: status_of(Health(), {}, active=False), "camera", period_s=0.1
    )
    wait_for(lambda: heard)
    assert levels(heard[-1]) == {"m2h: perception": (3, "inactive")}
    diagnostics.close()
