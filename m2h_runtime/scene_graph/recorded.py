"""Bags as they lie there: with depth and labels recorded, or with images alone, and poses on /tf or odometry."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from m2h_runtime.errors import SourceError
from m2h_runtime.label_space import default_label_space, load_label_space
from m2h_runtime.libraries import require
from m2h_runtime.ros.camera_info import camera_info_beside
from m2h_runtime.scene_graph.messages import SAME_FRAME_NS, camera_of, sighting_from, stamp_of
from m2h_runtime.scene_graph.transforms import TF, TF_STATIC, Transforms
from m2h_runtime.sources.bag import BagSource
from m2h_runtime.sources.bag_reader import BagReader
from m2h_runtime.sources.bag_topics import CAMERA_INFO, IMAGES, BagTopics

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from m2h_runtime.calibration.camera import CameraModel
    from m2h_runtime.frame import Frame
    from m2h_runtime.label_space import LabelSpace
    from m2h_runtime.scene_graph.sightings import Sighting

_NO_IDS = ("color", "confidence")
"""What topics are called that show labels without being class ids."""
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
            SourceError: see `sighting_from`.
        """
        wanted = {self.topics.depth, self.topics.labels, self.topics.image}
        held: dict[str, Any] = {}
        camera: CameraModel | None = None
        everything = self._reader.messages(wanted | {self.topics.camera_info}, lambda _: None)
        for topic, _, message in everything:
            if topic == self.topics.camera_info:
                camera = camera_of(message) or camera
                continue
            held[topic] = message
            stamps = [stamp_of(held[t]) for t in wanted if t in held]
            if len(stamps) == len(wanted) and max(stamps) - min(stamps) <= SAME_FRAME_NS:
                yield self._sighting(held, camera)
                held.clear()

    def _sighting(self, held: Mapping[str, Any], camera: CameraModel | None) -> Sighting | None:
        message = held[self.topics.depth]
        stamp_ns = stamp_of(message)
        pose = self._transforms.world_from(message.header.frame_id, stamp_ns)
        if pose is None or camera is None:
            self.unplaced += 1
            return None
        rgb, labels = held[self.topics.image], held[self.topics.labels]
        return sighting_from(message, labels, rgb, camera, pose, self.label_space)

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
