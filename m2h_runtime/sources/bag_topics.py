"""Which topics of a bag are the camera's images, its intrinsics and the IMU, where nobody says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from m2h_runtime.errors import SourceError
from m2h_runtime.ros.camera_info import camera_info_beside

if TYPE_CHECKING:
    from collections.abc import Mapping

IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
IMU = "sensor_msgs/msg/Imu"
ODOMETRY = "nav_msgs/msg/Odometry"
NO_COLOUR = ("depth", "disparity", "theora")
COLOUR = ("color", "colour", "rgb")


@dataclass(frozen=True, slots=True)
class BagTopics:
    """The topics to read.

    Attributes:
        image: sensor_msgs Image or CompressedImage; None: the only one, or the only colour image.
        camera_info: of those images; None: the one beside them, or the only one, or none; "" leaves it out.
        imu: None: the only one, or none; "" leaves it out.
        odometry: "": none; a robot may have several, and only its owner knows which is good.
    """

    image: str | None = None
    camera_info: str | None = None
    imu: str | None = None
    odometry: str = ""

    def chosen(self, types: Mapping[str, str], where: str) -> BagTopics:
        """With every None replaced by a topic of the bag, or by "" where it has none.

        Args:
            types: message type by topic.
            where: the bag, for the errors.

        Raises:
            SourceError: a topic is not in the bag or is of another type, or there are several to choose from.
        """
        image = self.image or _image_topic(types, where)
        info = _camera_info_topic(types, image) if self.camera_info is None else self.camera_info
        imu = _imu_topic(types, where) if self.imu is None else self.imu
        _check(types, where, image, IMAGES)
        _check(types, where, info, (CAMERA_INFO,))
        _check(types, where, imu, (IMU,))
        _check(types, where, self.odometry, (ODOMETRY,))
        return BagTopics(image, info, imu, self.odometry)


def _of(types: Mapping[str, str], *wanted: str) -> list[str]:
    return sorted(topic for topic, kind in types.items() if kind in wanted)


def _image_topic(types: Mapping[str, str], where: str) -> str:
    topics = _of(types, *IMAGES)
    usable = [topic for topic in topics if not any(word in topic.lower() for word in NO_COLOUR)]
    # Where an image is there raw and compressed, the raw one is exact.
    usable = [topic for topic in usable if topic == _raw(topic) or _raw(topic) not in usable]
    colour = [topic for topic in usable if any(part in COLOUR for part in topic.lower().split("/"))]
    for candidates in (usable, colour):
        if len(candidates) == 1:
            return candidates[0]
    if not topics:
        raise SourceError(f"{where}: has no image topic; it has {_listed(types)}")
    raise SourceError(f"{where}: which image topic? Name one of {', '.join(usable or topics)}")


def _raw(topic: str) -> str:
    return topic.removesuffix("/compressed")


def _camera_info_topic(types: Mapping[str, str], image: str) -> str:
    topics = _of(types, CAMERA_INFO)
    beside = camera_info_beside(image)
    if beside in topics:
        return beside
    return topics[0] if len(topics) == 1 else ""


def _imu_topic(types: Mapping[str, str], where: str) -> str:
    topics = _of(types, IMU)
    if len(topics) > 1:
        raise SourceError(f"{where}: which IMU topic? Name one of {', '.join(topics)}, or none")
    return topics[0] if topics else ""


def _check(types: Mapping[str, str], where: str, topic: str, wanted: tuple[str, ...]) -> None:
    if topic and topic not in types:
        raise SourceError(f"{where}: has no topic {topic}; it has {_listed(types)}")
    if topic and types[topic] not in wanted:
        raise SourceError(f"{where}: {topic} is {types[topic]}; name a topic of {' or '.join(wanted)}")


def _listed(types: Mapping[str, str]) -> str:
    return ", ".join(f"{topic} ({kind})" for topic, kind in sorted(types.items())) or "no topics at all"
