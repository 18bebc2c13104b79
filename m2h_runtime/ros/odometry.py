"""Poses of visual odometry or of the source: nav_msgs/Odometry, and /tf where tf2_msgs is there."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from m2h_runtime.errors import InputError
from m2h_runtime.imu import so3
from m2h_runtime.ros import cdr
from m2h_runtime.ros.endpoints import make_publisher, message_class
from m2h_runtime.ros.messages import ODOMETRY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_runtime.odometry.estimate import Estimate

TOPIC, WORLD = "odometry", "odom"
TF, TF_TYPE, TF_DEPTH = "/tf", "tf2_msgs/msg/TFMessage", 100
DEPTH = 10
UNKNOWN = 1e6
"""Variance, m^2 or rad^2 (and per s^2), of what nobody should use."""

log = logging.getLogger("m2h")


class OdometryPublisher:
    """Publishes the pose and the motion of the camera's optical frame in the frame "odom", which has z up.

    While tracking is lost the message's variances are `UNKNOWN`, and there is no transform: who waits for one drops
    the frame, which is right.

    Args:
        node: the node that publishes.
        topic: of the odometry.
        tf: also send the transform, where tf2_msgs is installed; says once if it is not.

    Raises:
        InputError: nav_msgs is missing, or the topic's name is wrong.
    """

    def __init__(self, node: Any, topic: str = TOPIC, *, tf: bool = True) -> None:
        self._node = node
        self._before: Estimate | None = None
        self._odometry = make_publisher(node, ODOMETRY, topic, DEPTH)
        self._tf = _tf_publisher(node) if tf else None
        self.topic = str(self._odometry.topic_name)

    def publish(self, estimate: Estimate) -> None:
        """Send one frame's; nothing before tracking has begun."""
        if estimate.state == "starting":
            return
        self._odometry.publish(odometry(estimate, self._before))
        self._before = estimate
        if self._tf is not None and estimate.tracking:
            self._tf.publish(transform(estimate))

    def close(self) -> None:
        """Take the publishers away."""
        for publisher in (self._odometry, self._tf):
            with suppress(Exception):  # the node may be gone already
                self._node.destroy_publisher(publisher)


def odometry(estimate: Estimate, before: Estimate | None = None) -> bytes:
    """A serialized nav_msgs/Odometry.

    Args:
        estimate: of a frame.
        before: of the frame before, for the twist; None: the twist is unknown.
    """
    writer = cdr.Writer().header((estimate.stamp_ns, WORLD)).text(estimate.frame_id)
    writer.pack("d", *estimate.world_from_camera[:3, 3].tolist(), *_quat_xyzw(estimate.world_from_camera))
    writer.pack("d", *(estimate.covariance if estimate.tracking else np.eye(6) * UNKNOWN).ravel().tolist())
    moving = _twist(estimate, before)
    writer.pack("d", *((0.0,) * 6 if moving is None else moving.tolist()))
    variance = 0.0 if moving is not None else UNKNOWN  # all zero: not known, as ROS has it
    return writer.pack("d", *(np.eye(6) * variance).ravel().tolist()).bytes()


def transform(estimate: Estimate) -> bytes:
    """A serialized tf2_msgs/TFMessage: the camera's optical frame in "odom"."""
    pose = estimate.world_from_camera
    return cdr.transform(
        (estimate.stamp_ns, WORLD), estimate.frame_id, pose[:3, 3].tolist(), _quat_xyzw(pose)
    )


def _twist(estimate: Estimate, before: Estimate | None) -> NDArray[np.float64] | None:
    """float64 (6,), m/s and rad/s in the camera's optical frame; None: unknown."""
    if before is None or not (estimate.tracking and before.tracking) or before.segment != estimate.segment:
        return None
    passed_s = (estimate.stamp_ns - before.stamp_ns) / 1e9
    if passed_s <= 0:
        return None
    now, then = estimate.world_from_camera, before.world_from_camera
    step = now[:3, :3].T @ (now[:3, 3] - then[:3, 3])
    return np.concatenate((step, so3.log(then[:3, :3].T @ now[:3, :3]))) / passed_s


def _quat_xyzw(pose: NDArray[np.float64]) -> tuple[float, ...]:
    vector = so3.log(pose[:3, :3])
    half = float(np.linalg.norm(vector)) / 2
    return (*(vector / 2 * np.sinc(half / np.pi)).tolist(), float(np.cos(half)))


def _tf_publisher(node: Any) -> Any:
    try:
        message_class(TF_TYPE)
    except InputError:
        log.warning("odometry: there is no tf2_msgs, so nothing on /tf; the topic has the same poses")
        return None
    return make_publisher(node, TF_TYPE, TF, TF_DEPTH)
