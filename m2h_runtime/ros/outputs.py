"""Perceptions as ROS 2 topics."""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from m2h_runtime.errors import SinkError
from m2h_runtime.imu.feed import ImuFeed
from m2h_runtime.odometry.estimate import Estimate
from m2h_runtime.ros import cdr
from m2h_runtime.ros.endpoints import make_publisher
from m2h_runtime.ros.messages import NEED_CAMERA, TYPES, encode, header_of, imu_messages
from m2h_runtime.ros.session import require_ros
from m2h_runtime.sinks.base import Sink

if TYPE_CHECKING:
    from collections.abc import Callable

    from m2h_runtime.ros.odometry import OdometryPublisher
    from m2h_runtime.ros.profiles import Profile
    from m2h_runtime.sinks.base import Observation
    from m2h_runtime.view import View

DEPTH = 10
"""Queue of every publisher, as the contract's upstream has it."""
IMU_DEPTH = 200
LAST_S = 0.3
"""At the end, readers get so long to take what was published last."""

_log = logging.getLogger(__name__)


class RosSink(Sink):
    """One publisher for each output of a profile. What nobody reads is neither computed nor sent.

    All messages of a frame have the same header: the frame's stamp and frame id. IMU samples keep their own.

    Args:
        node: the node that publishes; relative topics are under its namespace and can be remapped.
        profile: topics, encodings, size, label space.
        publish_clock: also send /clock with each frame's stamp, for a recording that no other clock goes with.
        health: told what cannot be published, and None when it can again; by default the log has it.
        odometry: publishes the poses of visual odometry, else of the source, and is closed with the rest; None:
            nothing does.

    Attributes:
        profile: may be replaced between frames by one with the same outputs (another depth range).
        topics: resolved name by output.

    Raises:
        InputError: a topic's name or a QoS override is wrong.
    """

    name = "ros"
    queue: ClassVar[int] = 1
    disposable: ClassVar[bool] = True

    def __init__(
        self,
        node: Any,
        profile: Profile,
        *,
        publish_clock: bool = False,
        health: Callable[[str | None], None] | None = None,
        odometry: OdometryPublisher | None = None,
    ) -> None:
        self.profile = profile
        self._node = node
        self._health = health or _to_log
        self._without_camera = False
        self._imu = ImuFeed()
        self._publishers: dict[str, Any] = {}
        self._clock: Any = None
        self._odometry = odometry
        try:
            for output, (topic, _) in profile.outputs.items():
                depth = IMU_DEPTH if output == "imu" else DEPTH
                self._publishers[output] = make_publisher(node, TYPES[output], topic, depth)
            if publish_clock:
                self._clock = make_publisher(node, "rosgraph_msgs/msg/Clock", "/clock", DEPTH)
        except BaseException:
            self.abort()
            raise
        self.topics = {output: str(publisher.topic_name) for output, publisher in self._publishers.items()}

    def subscribed(self) -> list[str]:
        """The outputs that somebody reads now."""
        return [name for name, its in self._publishers.items() if its.get_subscription_count()]

    def write(self, observation: Observation) -> None:
        """Publish one frame.

        Raises:
            SinkError: ROS has been shut down.
        """
        try:
            self._publish(observation)
        except Exception as error:
            if self._node.context.ok():
                raise
            raise SinkError("ros: ROS was shut down while frames were published") from error

    def _publish(self, observation: Observation) -> None:
        frame = observation.frame
        if self._clock is not None:
            self._clock.publish(cdr.clock(frame.stamp_ns))
        samples = self._imu.new(observation.imu, frame.stamp_ns) if observation.imu is not None else None
        if (
            self._odometry is not None
            and (estimate := observation.odometry or Estimate.given(frame)) is not None
        ):
            self._odometry.publish(estimate)
        if not (wanted := self.subscribed()):
            return
        view = self.profile.view(frame, observation.perception, observation.fit, observation.depth_factor)
        header = header_of(view)
        messages = [
            (output, encode(output, view, self.profile, header)) for output in self._possible(wanted, view)
        ]
        if "imu" in wanted and samples is not None:
            messages += [("imu", message) for message in imu_messages(samples)]
        for output, message in messages:  # all at once: each one wakes readers, who want the CPU, too
            self._publishers[output].publish(message)

    def _possible(self, wanted: list[str], view: View) -> list[str]:
        """Without the IMU, which has stamps of its own, and what needs intrinsics that are unknown."""
        lacking = [output for output in wanted if output in NEED_CAMERA and view.camera is None]
        if lacking:  # said with each frame: whoever listens knows what is new
            self._health(_no_camera([self.topics[output] for output in lacking]))
        elif self._without_camera:
            self._health(None)
        self._without_camera = bool(lacking)
        return [output for output in wanted if output != "imu" and output not in lacking]

    def close(self) -> None:
        """Let readers take the last messages, then take the publishers away."""
        with suppress(Exception):  # a reader that is stuck, or ROS is gone: nothing to wait for
            duration = require_ros("rclpy.duration").Duration(seconds=LAST_S / max(1, len(self._publishers)))
            for publisher in self._publishers.values():
                publisher.wait_for_all_acked(duration)
        self.abort()

    def abort(self) -> None:
        """Take the publishers away."""
        publishers = [*self._publishers.values(), self._clock]
        self._publishers, self._clock = {}, None
        for publisher in publishers:
            with suppress(Exception):  # the node may be gone already
                self._node.destroy_publisher(publisher)
        if self._odometry is not None:
            self._odometry.close()
            self._odometry = None


def _no_camera(topics: list[str]) -> str:
    return (
        f"nothing on {', '.join(topics)}, since the camera's intrinsics are unknown; "
        "give --calibration or a camera_info topic"
    )


@lru_cache(maxsize=32)  # once for each text
def _to_log(text: str | None) -> None:
    if text:
        _log.warning("%s", text)
