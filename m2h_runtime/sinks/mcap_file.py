"""A recording of inputs and outputs as ROS 2 messages in one MCAP file. No ROS is needed."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np

from m2h_runtime.errors import InputError, SinkError
from m2h_runtime.files import reason
from m2h_runtime.imu import so3
from m2h_runtime.imu.feed import ImuFeed
from m2h_runtime.libraries import require
from m2h_runtime.ros import cdr
from m2h_runtime.ros.messages import (
    CAMERA_INFO,
    COMPRESSED_IMAGE,
    IMAGE,
    IMU,
    NEED_CAMERA,
    TYPES,
    encode,
    header_of,
    imu_messages,
)
from m2h_runtime.ros.profiles import absolute
from m2h_runtime.sinks.base import Sink, check_writable

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from m2h_runtime.frame import Frame
    from m2h_runtime.imu.window import ImuWindow
    from m2h_runtime.ros.profiles import Profile
    from m2h_runtime.sinks.base import Observation
    from m2h_runtime.view import View

ImageFormat = Literal["raw", "png", "jpeg"]

DERIVED = frozenset({"points", "imu"})
"""Not recorded by default: points follow from depth, image and camera_info; the IMU is an input already."""

TF, TF_TYPE, WORLD = "/tf", "tf2_msgs/msg/TFMessage", "world"
JPEG_QUALITY = 95


class McapSink(Sink):
    """Writes the camera's images, its intrinsics and the IMU, and a profile's outputs, to `path`.

    Messages carry the stamps of what they tell, as log time too, and lie in the topics of the profile. The file
    appears when the run has ended well. Poses that the source or visual odometry knows are on /tf, from `world` to the
    camera.

    Args:
        path: the file *.mcap.
        profile: topics, encodings and size.
        image_format: of the camera's images. "raw" and "png" lose nothing, so a replay sees the very same pixels;
            "png" and "jpeg" go to the topic's `/compressed`.
        outputs: which of the profile's outputs to record; None: all but those in `DERIVED`.

    Raises:
        InputError: the file is not called *.mcap, an output is not in the profile, or mcap or rosbags is missing.
        SinkError: the folder cannot be written.
    """

    name = "record"

    def __init__(
        self,
        path: Path,
        profile: Profile,
        image_format: ImageFormat = "raw",
        outputs: Collection[str] | None = None,
    ) -> None:
        check_mcap_path(path)
        self._path = path
        self._profile = profile
        self._image_format = image_format
        self._outputs = _chosen(profile, outputs)
        self._mcap = require("mcap.writer", "a recording", "record")
        types = require("rosbags.typesys", "a recording", "record")
        self._definitions = types.get_typestore(types.Stores.ROS2_HUMBLE)
        self._temporary: Path | None = None
        self._stream: Any = None
        self._writer: Any = None
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        self._imu = ImuFeed()

    def write(self, observation: Observation) -> None:
        """Append the messages of one frame."""
        view = self._profile.view(
            observation.frame, observation.perception, observation.fit, observation.depth_factor
        )
        try:
            if self._writer is None:
                self._open(view)
            self._write_input(observation.source_frame)
            self._write_pose(observation.frame)
            if observation.imu is not None:
                self._write_imu(self._imu.new(observation.imu, observation.frame.stamp_ns))
            self._write_outputs(view)
        except OSError as error:
            raise self._failed(error) from error

    def _open(self, view: View) -> None:
        handle, name = tempfile.mkstemp(".mcap", f".{self._path.stem}.", self._path.parent)
        self._temporary = Path(name)
        self._stream = os.fdopen(handle, "wb")
        # LZ4 keeps up with a camera on a small CPU; Zstandard takes 8 times longer for a file 10 % smaller.
        self._writer = self._mcap.Writer(self._stream, compression=self._mcap.CompressionType.LZ4)
        self._writer.start("ros2", "m2h-runtime")
        labels = self._profile.labels(view.perception.label_space)
        facts = {"profile": self._profile.name, "label_space": labels.space.name}
        self._writer.add_metadata("m2h", {**facts, "classes": json.dumps(labels.space.classes)})

    def _write_input(self, frame: Frame) -> None:
        header = cdr.Header(frame.stamp_ns, frame.frame_id)
        topic = self._profile.image_topic
        if self._image_format == "raw":
            self._add(topic, IMAGE, frame.stamp_ns, cdr.image(header, frame.image, "rgb8"))
        else:
            message = _compressed(header, frame, self._image_format)
            self._add(f"{topic}/compressed", COMPRESSED_IMAGE, frame.stamp_ns, message)
        if frame.camera is not None:
            message = cdr.camera_info(header, frame.camera)
            self._add(self._profile.camera_info_topic, CAMERA_INFO, frame.stamp_ns, message)

    def _write_pose(self, frame: Frame) -> None:
        if frame.world_from_camera is not None:
            message = _pose(frame.stamp_ns, frame.frame_id, frame.world_from_camera)
            self._add(TF, TF_TYPE, frame.stamp_ns, message)

    def _write_imu(self, samples: ImuWindow | None) -> None:
        if samples is None:
            return
        stamps_ns = samples.stamps_ns.tolist()  # on the camera's clock: in order with the frames
        for stamp_ns, message in zip(stamps_ns, imu_messages(samples), strict=True):
            self._add(self._profile.imu_topic, IMU, stamp_ns, message)

    def _write_outputs(self, view: View) -> None:
        header = header_of(view)
        for output in self._outputs:
            if view.camera is None and output in NEED_CAMERA:
                continue
            message = encode(output, view, self._profile, header)
            self._add(self._profile.outputs[output].topic, TYPES[output], header.stamp_ns, message)

    def _add(self, topic: str, kind: str, stamp_ns: int, message: bytes) -> None:
        if stamp_ns < 0:
            raise SinkError(f"{self._path}: a stamp of {stamp_ns} ns cannot be recorded; stamps start at 0")
        channel = self._channels.get(topic) or self._channel(topic, kind)
        self._writer.add_message(channel, stamp_ns, message, stamp_ns)

    def _channel(self, topic: str, kind: str) -> int:
        """A new channel. It states no QoS: every rosbag2 then takes its default, which is ours (reliable, last 10)."""
        if kind not in self._schemas:
            text, _ = self._definitions.generate_msgdef(kind, ros_version=2)
            self._schemas[kind] = self._writer.register_schema(kind, "ros2msg", text.encode())
        self._channels[topic] = self._writer.register_channel(absolute(topic), "cdr", self._schemas[kind])
        return self._channels[topic]

    def close(self) -> None:
        """Finish the file and put it in place."""
        if self._temporary is None:  # not one frame came
            return
        try:
            self._writer.finish()
            self._stream.close()
            self._temporary.chmod(0o644)  # tempfile makes it private to its owner
            self._temporary.replace(self._path)
        except OSError as error:
            raise self._failed(error) from error
        self._temporary = None

    def abort(self) -> None:
        """Remove the temporary file."""
        if self._stream is not None:
            with suppress(OSError):  # a full disk also fails the last flush
                self._stream.close()
        if self._temporary is not None:
            with suppress(OSError):  # a disk that has become read-only
                self._temporary.unlink(missing_ok=True)

    def _failed(self, error: OSError) -> SinkError:
        return SinkError(
            f"{self._path}: the recording cannot be written ({reason(error)}); free some space or choose another"
        )


def check_mcap_path(path: Path) -> None:
    """Find out before a run whether a recording can be written to `path`.

    Raises:
        InputError: it is not called *.mcap.
        SinkError: it cannot be written.
    """
    if path.suffix.lower() != ".mcap":
        raise InputError(
            f"{path}: recordings of messages are MCAP files; call it {path.with_suffix('.mcap').name}"
        )
    check_writable(path)


def _chosen(profile: Profile, outputs: Collection[str] | None) -> list[str]:
    unknown = sorted(set(outputs or ()) - profile.outputs.keys())
    if unknown:
        raise InputError(
            f"profile {profile.name}: has no output {unknown[0]!r}; it has {', '.join(profile.outputs)}"
        )
    return [name for name in profile.outputs if (name not in DERIVED if outputs is None else name in outputs)]


def _compressed(header: cdr.Header, frame: Frame, kind: Literal["png", "jpeg"]) -> bytes:
    bgr = cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR)
    option = [cv2.IMWRITE_PNG_COMPRESSION, 1] if kind == "png" else [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    _, data = cv2.imencode(f".{kind}", bgr, option)
    return cdr.compressed_image(header, data, f"rgb8; {kind} compressed bgr8")


def _pose(stamp_ns: int, frame_id: str, world_from_camera: NDArray[np.float64]) -> bytes:
    vector = so3.log(world_from_camera[:3, :3])
    half = float(np.linalg.norm(vector)) / 2
    quat_xyzw = (*(vector / 2 * np.sinc(half / np.pi)).tolist(), float(np.cos(half)))
    return cdr.transform((stamp_ns, WORLD), frame_id, world_from_camera[:3, 3].tolist(), quat_xyzw)
