"""A bag of ROS 1 or ROS 2, read without ROS."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from m2h_runtime.errors import CalibrationError, SourceError
from m2h_runtime.frame import Frame
from m2h_runtime.imu.track import ImuTrack
from m2h_runtime.ros.camera_info import camera_model
from m2h_runtime.ros.images import decode_compressed, to_rgb
from m2h_runtime.sources.bag_reader import BagReader
from m2h_runtime.sources.bag_topics import BagTopics
from m2h_runtime.sources.base import EndOfStream
from m2h_runtime.sources.odometry import OdometryTrack
from m2h_runtime.sources.recording import Complaints, Recording

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from m2h_runtime.calibration.camera import CameraModel

PATIENCE_NS = 200_000_000
"""So much recorded time a frame waits for IMU samples and odometry up to its stamp, the first for its camera_info."""
HOPELESS = 30
"""After so many images that cannot be decoded, and none that can, it is the wrong topic."""
BROKEN_IMAGE = "undecodable image"
DEFAULT_FRAME_ID = "camera_optical_frame"


class _Waiting(NamedTuple):
    """An image message, its stamp, and when it was recorded."""

    message: Any
    stamp_ns: int
    log_ns: int


class BagSource(Recording):
    """Images of a bag with the stamps of their headers (the log time where a header has none).

    Each frame has the camera_info of its stamp, or the latest before it. What is broken is passed over, counted in
    `skipped` and told to `health`.

    Args:
        path: a .bag file, a rosbag2 folder, or a lone .mcap or .db3 file.
        topics: which to read; by default they are found.
        imu: gets the samples of the bag's IMU; None makes a track without calibration.
        health: told what is wrong, and None when all is well again.
        imu_health: the same of the samples, where the track is made here.
        odometry: gets the messages of the odometry topic, if one is named; None makes a track without calibration.

    Attributes:
        topics: those that are read; "" where there is none.

    Raises:
        SourceError: no such bag, damaged beyond reading, or its topics leave a choice.
        InputError: rosbags is not installed.
    """

    def __init__(
        self,
        path: str | Path,
        topics: BagTopics | None = None,
        imu: ImuTrack | None = None,
        health: Callable[[str | None], None] = lambda _: None,
        imu_health: Callable[[str | None], None] | None = None,
        odometry: OdometryTrack | None = None,
    ) -> None:
        super().__init__()
        self.path = Path(path)
        self._complaints = Complaints(health)
        self._reader = BagReader(self.path)
        try:
            self.topics = (topics or BagTopics()).chosen(self._reader.types, str(self.path))
        except BaseException:
            self.close()
            raise
        image, info, motion = (self.topics.image or "", self.topics.camera_info or "", self.topics.imu or "")
        way = self.topics.odometry
        self.imu = (imu or ImuTrack(health=imu_health)) if motion else None
        self._odometry = (odometry or OdometryTrack()) if way else None
        if self._odometry is not None:
            self._odometry.reset()  # it may hold the end of the lap before
        self.images = self._reader.count(image)
        duration_s = self._reader.duration_s
        self.fps = (self.images - 1) / duration_s if self.images > 1 and duration_s > 0 else None
        self._handlers = {
            image: self._on_image,
            info: self._on_camera_info,
            motion: self._on_imu,
            way: self._on_odometry,
        }
        self._messages = self._reader.messages(self._handlers.keys() - {""}, self._lose)
        self._waiting: deque[_Waiting] = deque()
        self._cameras: list[tuple[int, CameraModel | None]] = []
        self._log_ns = 0
        self._sequence = 0
        self._undecodable = 0
        self._misfit: str | None = None

    def read(self, timeout_s: float) -> Frame | None:  # noqa: ARG002  # a file waits for nothing
        """The next image of the bag; see `Source.read`. Never None.

        Raises:
            SourceError: none of the images can be decoded, or nothing of the bag can be read.
        """
        while True:
            while not (self._waiting and self._is_complete(self._waiting[0])) and self._advance():
                continue
            if not self._waiting:
                raise EndOfStream
            frame = self._frame(self._waiting.popleft())
            if frame is not None:
                return frame

    def _advance(self) -> bool:
        """Take the next message in; False at the end."""
        topic, self._log_ns, message = next(self._messages, ("", self._log_ns, None))
        if message is None:
            return False
        self._handlers[topic](message)
        return True

    def _is_complete(self, waiting: _Waiting) -> bool:
        if self._log_ns - waiting.log_ns >= PATIENCE_NS:
            return True
        if self.topics.camera_info and not self._cameras:
            return False
        # Of these two only the IMU's samples are shifted.
        samples = waiting.stamp_ns + self.shift_ns
        return _has_come(self.imu, samples) and _has_come(self._odometry, waiting.stamp_ns)

    def _stamp_ns(self, message: Any) -> int:
        stamp = message.header.stamp
        return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec) or self._log_ns

    def _on_image(self, message: Any) -> None:
        self._waiting.append(_Waiting(message, self._stamp_ns(message), self._log_ns))

    def _on_imu(self, message: Any) -> None:
        if self.imu is None:
            return
        self.imu.frame_id = message.header.frame_id or self.imu.frame_id
        gyro, accel = message.angular_velocity, message.linear_acceleration
        self.imu.push(
            self._stamp_ns(message) + self.shift_ns, (gyro.x, gyro.y, gyro.z), (accel.x, accel.y, accel.z)
        )

    def _on_odometry(self, message: Any) -> None:
        if self._odometry is not None:
            self._odometry.push_message(message, self._stamp_ns(message))

    def _on_camera_info(self, message: Any) -> None:
        old = hasattr(message, "K")  # ROS 1
        d, k = (message.D, message.K) if old else (message.d, message.k)
        try:
            camera = camera_model(message.width, message.height, message.distortion_model, d, k)
        except CalibrationError as error:
            camera = None
            self._misfit = f"{self.path}: {self.topics.camera_info}: {error}; the frames have no camera model"
        if not self._cameras or self._cameras[-1][1] != camera:
            self._cameras.append((self._stamp_ns(message), camera))

    def _frame(self, waiting: _Waiting) -> Frame | None:
        message, stamp_ns, _ = waiting
        try:
            image = _decoded(message)
        except SourceError as error:
            self._give_up(error)
            return None
        camera = self._camera(stamp_ns, image)
        self._complaints.say(self._misfit)
        frame_id = message.header.frame_id or DEFAULT_FRAME_ID
        pose = self._odometry.at(stamp_ns, frame_id) if self._odometry is not None else None
        frame = Frame(
            image,
            stamp_ns + self.shift_ns,
            self._sequence,
            frame_id,
            camera=camera,
            world_from_camera=pose,
        )
        self._sequence += 1
        return frame

    def _give_up(self, error: SourceError) -> None:
        """Pass over an image, or over the whole bag."""
        self._undecodable += 1
        if self._sequence == 0 and self._undecodable >= min(HOPELESS, self.images):
            raise SourceError(f"{self.path}: no image of {self.topics.image} can be used: {error}") from error
        self._lose(BROKEN_IMAGE)

    def _lose(self, what: str) -> None:
        self.skipped[what] = self.skipped.get(what, 0) + 1
        self._complaints.say(f"{self.path}: {what}, passed over")

    def _camera(self, stamp_ns: int, image: NDArray[np.uint8]) -> CameraModel | None:
        """The model of the latest camera_info at or before the stamp; of the first one if there is none."""
        before = [camera for info_ns, camera in self._cameras if info_ns <= stamp_ns]
        camera = before[-1] if before else next((camera for _, camera in self._cameras), None)
        if camera is None or camera.size == image.shape[:2]:
            return camera
        height, width = image.shape[:2]
        self._misfit = (
            f"{self.path}: {self.topics.camera_info} is for {camera.width}x{camera.height}, the images are "
            f"{width}x{height}; the frames have no camera model"
        )
        return None

    def describe(self) -> str:
        """File, topics, number of images and rate."""
        rate = f" at {self.fps:.4g} FPS" if self.fps else ""
        motion = f", IMU {self.topics.imu}" if self.topics.imu else ""
        way = f", odometry {self.topics.odometry}" if self.topics.odometry else ""
        return f"bag {self.path}, {self.topics.image}, {self.images} images{rate}{motion}{way}"

    def close(self) -> None:
        """Close the bag."""
        self._reader.close()


def _has_come(track: ImuTrack | OdometryTrack | None, stamp_ns: int) -> bool:
    """What there is to wait for is there, up to `stamp_ns`."""
    return track is None or (track.newest_ns is not None and track.newest_ns >= stamp_ns)


def _decoded(message: Any) -> NDArray[np.uint8]:
    if hasattr(message, "encoding"):
        return to_rgb(message.encoding, message.height, message.width, message.step, message.data)
    return decode_compressed(message.data)
