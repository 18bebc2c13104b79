"""A ROS 2 image topic as a source."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from m2h_runtime.errors import CalibrationError, SourceError
from m2h_runtime.frame import Frame
from m2h_runtime.imu.track import ImuTrack
from m2h_runtime.ros.camera_info import camera_model
from m2h_runtime.ros.endpoints import all_reliable, best_effort, make_subscription, reliable
from m2h_runtime.ros.graph import silence
from m2h_runtime.ros.images import decode_compressed, to_rgb
from m2h_runtime.ros.messages import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE, IMU, ODOMETRY
from m2h_runtime.ros.session import require_ros
from m2h_runtime.sources.base import Source
from m2h_runtime.sources.odometry import OdometryTrack

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from m2h_runtime.calibration.camera import CameraModel

SILENT_S = 2.0
"""Nothing for so long is told; the first image waits so long for its camera_info."""
FOLLOW_S = 1.0
"""While nothing comes, the publishers are looked at so often."""
CALM_S = 1.0
"""A fault of single images is over when there was none for so long."""
LOOP_S = 0.5
"""Stamps that jump back further than this are a recording that starts again."""
OLDEST_S = 10.0
"""A stamp further from the node's clock than this is of another clock."""


class _Arrival(NamedTuple):
    message: Any
    at_ns: int
    """On the monotonic clock."""
    age_ns: int | None
    """The node's clock minus the stamp; None in simulated time."""


class TopicSource(Source):
    """The newest image of a topic. Hears reliable and best-effort publishers, raw and compressed images.

    Decoding is done by whoever reads; the node's thread only keeps the newest message. A topic that falls silent is
    reported and waited for. Stamps that jump back by more than `LOOP_S` begin a new run; other stamps that do not
    rise are passed over.

    Args:
        node: a node that somebody spins (`RosSession`).
        image_topic: sensor_msgs/Image or CompressedImage; which of the two, the graph says.
        camera_info_topic: sensor_msgs/CameraInfo of those images; None: the frames have no camera model.
        imu_topic: sensor_msgs/Imu; None: no IMU.
        imu: gets the samples; None with an `imu_topic` makes a track without calibration.
        odometry_topic: nav_msgs/Odometry of the robot; None or "": the frames have no pose.
        odometry: gets its messages; None with an `odometry_topic` makes a track without calibration.
        health: told what is wrong, and None when all is well again.
        clock: monotonic, integer nanoseconds.

    Raises:
        InputError: ROS is missing, or a topic's name is not one.
    """

    live = True

    def __init__(
        self,
        node: Any,
        image_topic: str,
        *,
        camera_info_topic: str | None = None,
        imu_topic: str | None = None,
        imu: ImuTrack | None = None,
        odometry_topic: str | None = None,
        odometry: OdometryTrack | None = None,
        health: Callable[[str | None], None] = lambda _: None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        super().__init__()
        self._node = node
        self._health = health
        self._clock = clock
        self._camera = _CameraInfos(self._warn)
        self._counts: Counter[str] = Counter()
        self.skipped = self._counts
        self._arrived = threading.Condition()
        self._newest: _Arrival | None = None
        self._heard_ns = self._asked_ns = clock()  # the latest image; the latest look at the graph
        self._ill_ns: int | None = None
        self._warned: set[str] = set()
        self._last_stamp_ns: int | None = None
        self._first_ns: int | None = None
        self._sequence = 0
        self._subscriptions: list[Any] = []
        self._kind = COMPRESSED_IMAGE if image_topic.endswith("/compressed") else IMAGE
        self._firm = False
        self._followed_ns = 0
        self._image = self._subscribe(self._kind, image_topic, self._put, 1)
        self.topic: str = self._image.topic_name
        if camera_info_topic:
            self._subscribe(CAMERA_INFO, camera_info_topic, self._camera.put, 1)
        if imu_topic:
            self.imu = imu or ImuTrack()
            self._subscribe(IMU, imu_topic, partial(_push, self.imu), 200)
        self._odometry = (odometry or OdometryTrack()) if odometry_topic else None
        if self._odometry is not None and odometry_topic:
            self._subscribe(ODOMETRY, odometry_topic, partial(_push_odometry, self._odometry), 50)
        self._wants_camera = bool(camera_info_topic)

    def _subscribe(self, kind: str, topic: str, callback: Callable[[Any], None], depth: int) -> Any:
        subscription = make_subscription(self._node, kind, topic, callback, best_effort(depth))
        self._subscriptions.append(subscription)
        return subscription

    def _put(self, message: Any) -> None:
        """In the node's thread: keep the newest."""
        clock = self._node.get_clock()
        age_ns = None if clock.ros_time_is_active else clock.now().nanoseconds - _stamp_ns(message)
        with self._arrived:
            self._newest = _Arrival(message, self._clock(), age_ns)
            self._arrived.notify_all()

    def read(self, timeout_s: float) -> Frame | None:
        """The newest image that nobody has read yet; see `Source.read`."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._newest is not None, timeout_s)
            arrival, self._newest = self._newest, None
        if arrival is None:
            self._listen()
            return None
        self._heard_ns = self._clock()
        try:
            return self._frame(arrival)
        except SourceError as error:
            self._counts["not decodable"] += 1
            self._ill(f"{self.topic}: {error}")
            return None

    def _listen(self) -> None:
        """Nothing came: is it us?"""
        if not self._node.context.ok():
            raise SourceError(f"{self.topic}: ROS was shut down")
        now_ns = self._clock()
        if self._first_ns is None or now_ns - self._followed_ns > FOLLOW_S * 1e9:
            self._followed_ns = now_ns
            self._follow_publishers()
        if min(now_ns - self._heard_ns, now_ns - self._asked_ns) < SILENT_S * 1e9:
            return
        self._asked_ns = now_ns
        why = silence(
            self._node,
            self.topic,
            (IMAGE, COMPRESSED_IMAGE),
            reliable(1) if self._firm else best_effort(1),
        )
        self._ill(
            why or f"{self.topic}: has a publisher, but no image has come for {SILENT_S:g} s; is it paused?"
        )

    def _follow_publishers(self) -> None:
        """Read the kind of image that is published, and as reliably as it is.

        A best-effort reader hears everybody, but of images larger than Fast DDS's shared memory (512 kB in a camera
        driver without settings) it gets next to nothing: 1 of 360 at 640x480. A reliable one gets them all.
        """
        kinds = {endpoint.topic_type for endpoint in self._node.get_publishers_info_by_topic(self.topic)}
        usable = kinds & {IMAGE, COMPRESSED_IMAGE}
        kind = usable.pop() if self._kind not in usable and len(usable) == 1 else self._kind
        firm = all_reliable(self._node, self.topic)
        if (kind, firm) == (self._kind, self._firm) or not kinds:
            return
        if self._image in self._subscriptions:
            self._subscriptions.remove(self._image)
            self._node.destroy_subscription(self._image)
        with suppress(_rcl_error()):  # the executor has not let go of the other subscription yet: next time
            qos = reliable(1) if firm else best_effort(1)
            self._image = make_subscription(self._node, kind, self.topic, self._put, qos)
            self._subscriptions.append(self._image)
            self._kind, self._firm = kind, firm

    def _frame(self, arrival: _Arrival) -> Frame | None:
        message = arrival.message
        stamp_ns = self._stamp(arrival)
        if not self._in_order(stamp_ns):
            return None
        if hasattr(message, "encoding"):  # a CompressedImage has a format instead
            image = to_rgb(message.encoding, message.height, message.width, message.step, message.data)
        else:
            image = decode_compressed(message.data)
        camera = self._camera.model(image.shape[:2])
        if self._first_ns is None:
            self._first_ns = arrival.at_ns
        if camera is None and self._awaits_camera(arrival.at_ns):
            self._counts["before the first camera_info"] += 1
            return None
        self._well()
        return self._made(image, stamp_ns, arrival, camera)

    def _made(
        self, image: NDArray[Any], stamp_ns: int, arrival: _Arrival, camera: CameraModel | None
    ) -> Frame:
        self._last_stamp_ns = stamp_ns
        frame_id = arrival.message.header.frame_id or "camera_optical_frame"
        frame = Frame(
            image,
            stamp_ns,
            self._sequence,
            frame_id,
            taken_ns=self._taken_ns(arrival),
            camera=camera,
            world_from_camera=self._odometry.at(stamp_ns, frame_id) if self._odometry is not None else None,
        )
        self._sequence += 1
        return frame

    def _stamp(self, arrival: _Arrival) -> int:
        stamp_ns = _stamp_ns(arrival.message)
        if stamp_ns:
            return stamp_ns
        self._warn(f"{self.topic}: images without a stamp; they get the time of their arrival")
        return int(self._node.get_clock().now().nanoseconds) - (self._clock() - arrival.at_ns)

    def _taken_ns(self, arrival: _Arrival) -> int:
        """When the image was taken, on the monotonic clock; its arrival where the stamp cannot tell."""
        if arrival.age_ns is None:
            return arrival.at_ns
        if 0 <= arrival.age_ns < OLDEST_S * 1e9:
            return arrival.at_ns - arrival.age_ns
        self._warn(
            f"{self.topic}: its stamps are not of this machine's clock ({arrival.age_ns / 1e9:.3g} s old), so ages "
            "count from arrival; for a replayed bag use `ros2 bag play --clock` and use_sim_time"
        )
        return arrival.at_ns

    def _in_order(self, stamp_ns: int) -> bool:
        """False for a stamp that does not rise."""
        last_ns = self._last_stamp_ns
        if last_ns is None or stamp_ns > last_ns:
            return True
        if last_ns - stamp_ns <= LOOP_S * 1e9:
            self._counts["stamp not later than the one before"] += 1
            return False
        self._last_stamp_ns = None
        for track in (self.imu, self._odometry):
            if track is not None and (track.newest_ns or 0) - stamp_ns > LOOP_S * 1e9:
                track.reset()  # unless the samples of the new run came first
        self._ill(f"{self.topic}: the stamps jumped back; a new run begins (does a bag play in a loop?)")
        return True

    def _awaits_camera(self, now_ns: int) -> bool:
        if not self._wants_camera or self._camera.seen or self._first_ns is None:
            return False
        if now_ns - self._first_ns < SILENT_S * 1e9:
            return True
        self._warn(f"{self.topic}: no camera_info with it; the frames go on without intrinsics")
        return False

    def _ill(self, text: str) -> None:
        self._ill_ns = self._clock()
        self._health(text)

    def _well(self) -> None:
        if self._ill_ns is not None and self._clock() - self._ill_ns >= CALM_S * 1e9:
            self._ill_ns = None
            self._health(None)

    def _warn(self, text: str) -> None:
        """Once for each text up to its first number, which runs."""
        key = text.partition("(")[0]
        if key not in self._warned:
            self._warned.add(key)
            self._node.get_logger().warning(text)

    def describe(self) -> str:
        """The topic."""
        return f"topic {self.topic}"

    def close(self) -> None:
        """Leave the topics."""
        while self._subscriptions:
            with suppress(Exception):  # the node may be gone already
                self._node.destroy_subscription(self._subscriptions.pop())


class _CameraInfos:
    """The newest CameraInfo, and its model while the message stays the same."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._message: Any = None
        self._key: tuple[Any, ...] = ()
        self._model: CameraModel | None = None

    @property
    def seen(self) -> bool:
        """One has come."""
        return self._message is not None

    def put(self, message: Any) -> None:
        """In the node's thread."""
        self._message = message

    def model(self, size: tuple[int, ...]) -> CameraModel | None:
        """The intrinsics of images of `size` = (H, W); None if there are none that fit."""
        message = self._message
        if message is None:
            return None
        if (message.height, message.width) != size:
            self._warn(f"camera_info: is for another size ({message.width}x{message.height}) and not used")
            return None
        key = (*size, message.distortion_model, tuple(message.d), tuple(message.k))
        if key != self._key:
            self._key, self._model = key, self._made(message)
        return self._model

    def _made(self, message: Any) -> CameraModel | None:
        try:
            return camera_model(message.width, message.height, message.distortion_model, message.d, message.k)
        except CalibrationError as error:
            self._warn(f"camera_info: not used; {error}")
            return None


def _push(track: ImuTrack, message: Any) -> None:
    """In the node's thread: one IMU sample."""
    turn, force = message.angular_velocity, message.linear_acceleration
    track.frame_id = message.header.frame_id or track.frame_id
    track.push(_stamp_ns(message), (turn.x, turn.y, turn.z), (force.x, force.y, force.z))


def _push_odometry(track: OdometryTrack, message: Any) -> None:
    """In the node's thread: one pose."""
    track.push_message(message, _stamp_ns(message))


def _rcl_error() -> type[Exception]:
    error: type[Exception] = require_ros("rclpy.impl.implementation_singleton").rclpy_implementation.RCLError
    return error


def _stamp_ns(message: Any) -> int:
    stamp = message.header.stamp
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)
