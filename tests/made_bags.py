"""Bags as robots record them, made by rosbags from a few numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import cv2
import numpy as np
from rosbags import rosbag1, rosbag2
from rosbags.typesys import Stores, get_typestore

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

Format = Literal["ros1", "sqlite3", "mcap", "lone-mcap"]
FORMATS: tuple[Format, ...] = get_args(Format)
START_NS = 1_700_000_000_000_000_000
MS = 1_000_000


class BagMaker:
    """Collects messages in order of log time, then `write`s them. Stamps and log times are in nanoseconds."""

    def __init__(self, kind: Format) -> None:
        self.kind = kind
        self.store = get_typestore(Stores.ROS1_NOETIC if kind == "ros1" else Stores.ROS2_HUMBLE)
        self.messages: list[tuple[str, str, int, Any]] = []

    def _make(self, name: str, *values: Any) -> Any:
        return self.store.types[name](*values)

    def header(self, stamp_ns: int, frame_id: str) -> Any:
        stamp = self._make("builtin_interfaces/msg/Time", *divmod(stamp_ns, 10**9))
        first = (0,) if self.kind == "ros1" else ()  # seq
        return self._make("std_msgs/msg/Header", *first, stamp, frame_id)

    def add(self, topic: str, name: str, log_ns: int, *values: Any) -> None:
        self.messages.append((topic, name, log_ns, self._make(name, *values)))

    def image(
        self,
        topic: str,
        stamp_ns: int,
        rgb: NDArray[np.uint8],
        log_ns: int | None = None,
        encoding: str = "rgb8",
        frame_id: str = "eye",
    ) -> None:
        height, width = rgb.shape[:2]
        data = np.frombuffer(rgb.tobytes(), np.uint8)
        header = self.header(stamp_ns, frame_id)
        step = len(data) // height
        self.add(
            topic, "sensor_msgs/msg/Image", log_ns or stamp_ns, header, height, width, encoding, 0, step, data
        )

    def compressed(self, topic: str, stamp_ns: int, data: bytes, kind: str = "jpeg") -> None:
        header = self.header(stamp_ns, "eye")
        self.add(
            topic, "sensor_msgs/msg/CompressedImage", stamp_ns, header, kind, np.frombuffer(data, np.uint8)
        )

    def camera_info(self, topic: str, stamp_ns: int, size: tuple[int, int], focal: float) -> None:
        k = np.array([focal, 0, size[1] / 2, 0, focal, size[0] / 2, 0, 0, 1.0])
        p = np.insert(k, [3, 6, 9], 0)
        roi = self._make("sensor_msgs/msg/RegionOfInterest", 0, 0, 0, 0, False)
        self.add(
            topic,
            "sensor_msgs/msg/CameraInfo",
            stamp_ns,
            self.header(stamp_ns, "eye"),
            *size,
            "plumb_bob",
            np.array([0.1, 0.0, 0.0, 0.0, 0.0]),
            k,
            np.eye(3).ravel(),
            p,
            0,
            0,
            roi,
        )

    def imu(self, topic: str, stamp_ns: int, rate: float, log_ns: int | None = None) -> None:
        unknown = np.zeros(9)
        vector = "geometry_msgs/msg/Vector3"
        self.add(
            topic,
            "sensor_msgs/msg/Imu",
            log_ns or stamp_ns,
            self.header(stamp_ns, "imu"),
            self._make("geometry_msgs/msg/Quaternion", 0.0, 0.0, 0.0, 1.0),
            unknown,
            self._make(vector, 0.0, 0.0, rate),
            unknown,
            self._make(vector, 0.0, 0.0, 9.81),
            unknown,
        )

    def write(self, folder: Path, compressed: bool = False) -> Path:
        """Write the bag; returns what a user would name. Only compressed chunks show that they are broken."""
        folder.mkdir(parents=True, exist_ok=True)
        if self.kind == "ros1":
            path = folder / "made.bag"
            first = rosbag1.Writer(path)
            if compressed:
                first.set_compression(rosbag1.Writer.CompressionFormat.LZ4)
            with first as writer:
                self._write(writer, self.store.serialize_ros1)
            return path
        storage = rosbag2.StoragePlugin.SQLITE3 if self.kind == "sqlite3" else rosbag2.StoragePlugin.MCAP
        second = rosbag2.Writer(folder / "made", version=8, storage_plugin=storage)
        if compressed:
            second.set_compression(rosbag2.CompressionMode.STORAGE, rosbag2.CompressionFormat.ZSTD)
        with second as writer:
            self._write(writer, self.store.serialize_cdr)
        return folder / "made" / "made.mcap" if self.kind == "lone-mcap" else folder / "made"

    def _write(self, writer: Any, serialize: Any) -> None:
        connections = {
            topic: writer.add_connection(topic, name, typestore=self.store)
            for topic, name in dict.fromkeys((topic, name) for topic, name, _, _ in self.messages)
        }
        for topic, name, log_ns, message in sorted(self.messages, key=lambda entry: entry[2]):
            writer.write(connections[topic], log_ns, serialize(message, name))


def jpeg(rgb: NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].tobytes())


def png(rgb: NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].tobytes())
