"""Bags as they lie there: with depth and labels recorded, or with images alone, and poses on /tf or odometry."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from m2h_runtime.calibration.fit import stretched
from m2h_runtime.errors import CalibrationError, SourceError
from m2h_runtime.label_space import default_label_space, load_label_space
from m2h_runtime.libraries import require
from m2h_runtime.ros.camera_info import camera_info_beside, camera_model
from m2h_runtime.ros.images import decode_compressed, to_rgb
from m2h_runtime.scene_graph.sightings import Sighting
from m2h_runtime.scene_graph.transforms import TF, TF_STATIC, Transforms
from m2h_runtime.sources.bag import BagSource
from m2h_runtime.sources.bag_reader import BagReader
from m2h_runtime.sources.bag_topics import CAMERA_INFO, IMAGES, BagTopics

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from m2h_runtime.calibration.camera import CameraModel
    from m2h_runtime.frame import Frame
    from m2h_runtime.label_space import LabelSpace

_DEPTH = {"32FC1": (np.float32, 1.0), "16UC1": (np.uint16, 0.001), "mono16": (np.uint16, 0.001)}
_LABELS = {"mono8": np.uint8, "8UC1": np.uint8, "16SC1": np.int16, "16UC1": np.uint16, "32SC1": np.int32}
_NO_IDS = ("color", "confidence")
"""What topics are called that show labels without being class ids."""
SAME_FRAME_NS = 1_000_000
"""Depth, labels and image with stamps that are so near belong together."""
UNKNOWN_SPACE = "nyud20"
"""Label space of bags that do not say it: Mono-Hydra's."""


class OutputTopics(NamedTuple):
    """Topics of what a perception published."""

    depth: str
    labels: str
    camera_info: str
    image: str


def output_topics(types: Mapping[str, str]) -> OutputTopics | None:
    """Where a bag has depth, labels, their intrinsics and an image; None if it lacks one of these."""
    images = sorted(topic for topic, kind in types.items() if kind in IMAGES)
    exact = [topic for topic in images if not topic.endswith("/compressed")]
    depth = next((topic for topic in exact if "depth" in topic), None)
    ids = [topic for topic in exact if not any(word in topic.rpartition("label")[2] for word in _NO_IDS)]
    labels = next((topic for word in ("label", "semantic") for topic in ids if word in topic), None)
    infos = sorted(topic for topic, kind in types.items() if kind == CAMERA_INFO)
    # With a name that begins as cameras' do, so that no other output is taken for the camera's image.
    pictures = [t for t in images if any(word in t for word in ("camera/color", "camera/rgb", "image_raw"))]
    image = next((t for t in pictures if not any(w in t for w in ("depth", "label", "semantic"))), None)
    if depth is None or labels is None or image is None or not infos:
        return None
    beside = camera_info_beside(depth)
    return OutputTopics(depth, labels, beside if beside in infos else infos[0], image)


class RecordedOutputs:
    """Depth and labels that are in a bag already: nothing is computed again.

    Args:
        path: of a bag with `output_topics` and /tf.

    Attributes:
        label_space: of the labels.
        count: images.
        unplaced: images so far that had no pose.

    Raises:
        SourceError: it cannot be read, or has no depth, labels, intrinsics, images or poses.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = BagReader(path)
        topics = output_topics(self._reader.types)
        if topics is None or TF not in self._reader.types:
            missing = "depth, labels, camera_info and an image" if topics is None else "poses (/tf)"
            self.close()
            raise SourceError(f"{path}: has no {missing}; name an --engine to perceive its images anew")
        self.topics = topics
        self.label_space = _label_space(path)
        self.count = self._reader.count(topics.depth)
        self.unplaced = 0
        self._transforms = _transforms(self._reader)

    def sightings(self) -> Iterator[Sighting | None]:
        """One per depth image, in order; None where its labels, image or pose are missing.

        Raises:
            SourceError: an image has an encoding that is no depth or no labels.
        """
        wanted = {self.topics.depth, self.topics.labels, self.topics.image}
        held: dict[str, Any] = {}
        camera: CameraModel | None = None
        everything = self._reader.messages(wanted | {self.topics.camera_info}, lambda _: None)
        for topic, _, message in everything:
            if topic == self.topics.camera_info:
                camera = _camera(message) or camera
                continue
            held[topic] = message
            stamps = [_stamp_ns(held[t]) for t in wanted if t in held]
            if len(stamps) == len(wanted) and max(stamps) - min(stamps) <= SAME_FRAME_NS:
                yield self._sighting(held, camera)
                held.clear()

    def _sighting(self, held: Mapping[str, Any], camera: CameraModel | None) -> Sighting | None:
        message = held[self.topics.depth]
        stamp_ns = _stamp_ns(message)
        pose = self._transforms.world_from(message.header.frame_id, stamp_ns)
        if pose is None or camera is None:
            self.unplaced += 1
            return None
        kind, scale = _encoding(message, _DEPTH, self.topics.depth)
        depth = (_pixels(message, kind) * scale).astype(np.float32)
        labels = held[self.topics.labels]
        ids = _pixels(labels, _encoding(labels, _LABELS, self.topics.labels)).astype(np.int64)
        known = np.where((ids >= 0) & (ids < 255), ids, 255).astype(np.uint8)
        return _fitted(depth, known, _rgb(held[self.topics.image]), camera, pose, stamp_ns)

    def close(self) -> None:
        """Close the bag."""
        self._reader.close()


class PlacedBagSource(BagSource):
    """A bag whose frames get their pose from /tf, where odometry gives none; see `BagSource`."""

    def __init__(self, path: Path, topics: BagTopics) -> None:
        super().__init__(path, topics)
        reader = BagReader(path)
        try:
            self._transforms = _transforms(reader)
        finally:
            reader.close()

    def read(self, timeout_s: float) -> Frame | None:
        """The next image of the bag with its pose, if anybody knows it."""
        frame = super().read(timeout_s)
        if frame is None or frame.world_from_camera is not None:
            return frame
        pose = self._transforms.world_from(frame.frame_id, frame.stamp_ns - self.shift_ns)
        return replace(frame, world_from_camera=pose)


def _fitted(
    depth: NDArray[np.float32],
    labels: NDArray[np.uint8],
    rgb: NDArray[np.uint8],
    camera: CameraModel,
    pose: NDArray[np.float64],
    stamp_ns: int,
) -> Sighting:
    if labels.shape != depth.shape:
        raise SourceError(
            f"depth is {depth.shape[1]}x{depth.shape[0]}, labels are {labels.shape[1]}x{labels.shape[0]}; record "
            "both at one size"
        )
    height, width = depth.shape
    image = stretched(rgb, (height, width))
    return Sighting(depth, labels, image, camera.resized((height, width)), pose, stamp_ns)


def _transforms(reader: BagReader) -> Transforms:
    return Transforms(
        (topic, message) for topic, _, message in reader.messages((TF, TF_STATIC), lambda _: None)
    )


def _label_space(path: Path) -> LabelSpace:
    """As the recording says, else Mono-Hydra's."""
    if path.suffix != ".mcap":
        return load_label_space(UNKNOWN_SPACE)
    make_reader = require("mcap.reader", "reading a recording", "record").make_reader
    with path.open("rb") as stream:
        said: dict[str, str] = next(
            (m.metadata for m in make_reader(stream).iter_metadata() if m.name == "m2h"), {}
        )
    name = said.get("label_space", UNKNOWN_SPACE)
    if name.startswith("classes_"):
        return default_label_space(int(name.removeprefix("classes_")))
    return load_label_space(name)


def _camera(message: Any) -> CameraModel | None:
    old = hasattr(message, "K")  # ROS 1
    d, k = (message.D, message.K) if old else (message.d, message.k)
    try:
        return camera_model(message.width, message.height, message.distortion_model, d, k)
    except CalibrationError:
        return None


def _stamp_ns(message: Any) -> int:
    return int(message.header.stamp.sec) * 1_000_000_000 + int(message.header.stamp.nanosec)


def _encoding(message: Any, known: Mapping[str, Any], topic: str) -> Any:
    if message.encoding not in known:
        raise SourceError(
            f"{topic}: its encoding is {message.encoding!r}; expected one of {', '.join(known)}"
        )
    return known[message.encoding]


def _pixels(message: Any, kind: Any) -> NDArray[Any]:
    dtype = np.dtype(kind).newbyteorder(">" if message.is_bigendian else "<")
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    used = np.ascontiguousarray(rows[:, : message.width * dtype.itemsize])
    return np.asarray(used.view(dtype).reshape(message.height, message.width))


def _rgb(message: Any) -> NDArray[np.uint8]:
    if hasattr(message, "encoding"):
        return to_rgb(message.encoding, message.height, message.width, message.step, message.data)
    return decode_compressed(message.data)
