"""Where a camera is, live: from /tf and /tf_static, or from odometry and /tf_static."""

from __future__ import annotations

import logging
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from m2h_runtime.errors import InputError
from m2h_runtime.ros.endpoints import latched, make_subscription, message_class, reliable
from m2h_runtime.ros.messages import ODOMETRY
from m2h_runtime.ros.odometry import TF_DEPTH, TF_TYPE
from m2h_runtime.scene_graph.messages import stamp_of
from m2h_runtime.scene_graph.transforms import TF, TF_STATIC, Transforms
from m2h_runtime.sources.odometry import KEPT_NS, LOST_M2

if TYPE_CHECKING:
    from m2h_runtime.scene_graph.transforms import Found

log = logging.getLogger("m2h")


class Poses:
    """Poses of optical frames. Messages come in the node's thread, `at` waits for them in another one.

    Args:
        node: a node that somebody spins.
        odometry_topic: nav_msgs/Odometry, of the optical frame or of one from which /tf_static leads to it; "": /tf.
        fixed_frame: the frame that poses are in; "": the uppermost one when the first pose is found.

    Attributes:
        frame: the frame that poses are in; "" while it is not known.

    Raises:
        InputError: there is no tf2_msgs and no odometry, or the topic's name is wrong.
    """

    def __init__(self, node: Any, odometry_topic: str = "", fixed_frame: str = "") -> None:
        self.frame = fixed_frame
        self._odometry_topic = odometry_topic
        self._child = ""  # what the odometry is of
        self._lost = False
        self._transforms = Transforms(kept_ns=KEPT_NS)
        self._arrived = threading.Condition()
        if odometry_topic:
            make_subscription(node, ODOMETRY, odometry_topic, self._push_odometry, reliable(50))
        if _tf_is_there(odometry_topic):
            take = partial(self._push_transforms, fixed=True)
            make_subscription(node, TF_TYPE, TF_STATIC, take, latched(TF_DEPTH))
            if not odometry_topic:
                take = partial(self._push_transforms, fixed=False)
                make_subscription(node, TF_TYPE, TF, take, reliable(TF_DEPTH))

    def at(self, frame: str, stamp_ns: int, timeout_s: float) -> Found:
        """The pose of an optical frame at an image's stamp, waited for; without one the reason."""
        end = time.monotonic() + timeout_s
        with self._arrived:
            while True:
                found = self._look_up(frame, stamp_ns)
                left = end - time.monotonic()
                if found.pose is not None or left <= 0:
                    break
                self._arrived.wait(left)
        if found.pose is not None and not self.frame:
            self.frame = found.root
            log.info("the scene graph is in frame %s", self.frame)
        return found

    def _look_up(self, frame: str, stamp_ns: int) -> Found:
        found = self._transforms.look_up(frame, stamp_ns, self.frame)
        if found.pose is None:
            return found._replace(why=self._said_better(frame) or found.why)
        if not (
            found.moving or self.frame
        ):  # as before the first odometry: everything would lie in one place
            why = f"only {TF_STATIC} leads to {frame}, so nothing says that it moves; if it stands, name fixed_frame"
            return found._replace(pose=None, why=why)
        return found

    def _said_better(self, frame: str) -> str:
        """Why odometry gives no pose."""
        topic = self._odometry_topic
        if topic and self._lost:
            return f"{topic}: says that it is lost"
        if topic and not self._child:
            return f"{topic}: no odometry has come that names its child frame"
        if topic and self._transforms.look_up(frame, 0, self._child).root != self._child:
            return f"{topic}: is of {self._child}, and {TF_STATIC} does not lead from there to {frame}"
        return ""

    def _push_transforms(self, message: Any, *, fixed: bool) -> None:
        with self._arrived:
            self._transforms.push_message(message, fixed=fixed)
            self._arrived.notify_all()

    def _push_odometry(self, message: Any) -> None:
        place, turn = message.pose.pose.position, message.pose.pose.orientation
        lost = max(message.pose.covariance[0], message.pose.covariance[7]) > LOST_M2
        with self._arrived:
            self._child, self._lost = message.child_frame_id, lost
            if self._child and not lost:
                self._transforms.push(
                    message.header.frame_id,
                    self._child,
                    stamp_of(message),
                    (place.x, place.y, place.z),
                    (turn.w, turn.x, turn.y, turn.z),
                )
            self._arrived.notify_all()


def _tf_is_there(odometry_topic: str) -> bool:
    """Whether /tf can be read; without it odometry has to do.

    Raises:
        InputError: it cannot, and there is no odometry.
    """
    try:
        message_class(TF_TYPE)
    except InputError as error:
        if not odometry_topic:
            raise InputError(
                "tf2_msgs: cannot be imported, so there are no poses from /tf; install ros-$ROS_DISTRO-tf2-msgs, or "
                "give odometry_topic"
            ) from error
        log.warning("there is no tf2_msgs, so %s must be of the optical frame itself", odometry_topic)
        return False
    return True
