"""A reader as strict as Hydra: reliable, a queue of one per topic, and every message judged."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from m2h_runtime.ros.endpoints import best_effort, message_class, reliable
from m2h_runtime.ros.messages import IMAGE, TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping

_DTYPES = {
    "mono8": np.uint8,
    "8UC1": np.uint8,
    "16SC1": np.int16,
    "16UC1": np.uint16,
    "32FC1": np.float32,
}
ENOUGH = 20
"""Frames, counted on the topic that is behind, after which reading ends early."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What is kept of one message.

    Attributes:
        stamp_ns: of its header.
        frame_id: of its header.
        size: (H, W) that it states.
        encoding: of an image; "" of a camera_info.
        age_s: when it arrived, on the node's clock, since its stamp.
        low: smallest value of a one-channel image; NaN if any is not finite, 0 of others.
        high: largest value.
        intrinsics: fx, fy, cx, cy of a camera_info.
    """

    stamp_ns: int
    frame_id: str
    size: tuple[int, int]
    encoding: str
    age_s: float
    low: float = 0.0
    high: float = 0.0
    intrinsics: tuple[float, float, float, float] | None = None


class StrictReader:
    """Reads until it has enough.

    Args:
        node: a node that somebody spins.
        topics: resolved name by output.

    Attributes:
        samples: by output, in the order of arrival.
        complaints: what the perception node itself says is wrong, from /diagnostics.
    """

    def __init__(self, node: Any, topics: Mapping[str, str]) -> None:
        self.samples: dict[str, list[Sample]] = {output: [] for output in topics}
        self.complaints: dict[str, str] = {}
        self._node = node
        diagnostics = message_class("diagnostic_msgs/msg/DiagnosticArray")
        self._subscriptions = [
            node.create_subscription(
                message_class(TYPES[output]), topic, partial(self._take, output), reliable(1)
            )
            for output, topic in topics.items()
        ]
        self._subscriptions.append(
            node.create_subscription(diagnostics, "/diagnostics", self._listen, best_effort(10))
        )

    def read(self, timeout_s: float) -> None:
        """Wait for `ENOUGH` messages of each output, `timeout_s` at most."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end and min(map(len, self.samples.values())) < ENOUGH:
            time.sleep(0.05)

    def close(self) -> None:
        """Leave the topics."""
        for subscription in self._subscriptions:
            with suppress(Exception):  # ROS may be gone already
                self._node.destroy_subscription(subscription)

    def _take(self, output: str, message: Any) -> None:
        stamp = message.header.stamp
        stamp_ns = int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)
        age_s = (self._node.get_clock().now().nanoseconds - stamp_ns) / 1e9
        image = TYPES[output] == IMAGE
        low, high = _span(message) if image else (0.0, 0.0)
        intrinsics = None if image else tuple(float(message.k[index]) for index in (0, 4, 2, 5))
        self.samples[output].append(
            Sample(
                stamp_ns,
                message.header.frame_id,
                (message.height, message.width),
                message.encoding if image else "",
                age_s,
                low,
                high,
                intrinsics,  # type: ignore[arg-type]
            )
        )

    def _listen(self, message: Any) -> None:
        for status in message.status:
            if status.name.startswith("m2h: ") and status.level != b"\x00":
                self.complaints[status.name] = status.message


def _span(message: Any) -> tuple[float, float]:
    """Smallest and largest value of a one-channel image; NaN where one is not finite."""
    dtype = _DTYPES.get(message.encoding)
    if dtype is None or len(message.data) != message.step * message.height or not len(message.data):
        return 0.0, 0.0
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    values = np.ascontiguousarray(rows[:, : message.width * np.dtype(dtype).itemsize]).view(dtype)
    low, high = float(values.min()), float(values.max())
    return (low, high) if np.isfinite(low + high) else (float("nan"), float("nan"))
