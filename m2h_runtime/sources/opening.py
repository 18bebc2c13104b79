"""From what a user names to an opened source: the one place that knows them all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

from m2h_runtime.errors import InputError
from m2h_runtime.imu.calibration import ImuCalibration
from m2h_runtime.imu.track import ImuTrack
from m2h_runtime.pipeline.health import Level
from m2h_runtime.pipeline.reconnect import ReconnectingSource
from m2h_runtime.sources.odometry import OdometryTrack

if TYPE_CHECKING:
    from collections.abc import Callable

    from m2h_runtime.calibration.calibration import Calibration
    from m2h_runtime.pipeline.health import Health
    from m2h_runtime.sources.base import Source
    from m2h_runtime.sources.recording import Recording

Device = Literal["camera", "csi", "gstreamer", "stream", "realsense", "oak"]
Recorded = Literal["video", "images", "euroc", "bag", "simulate"]
Kind = Literal[Device, Recorded, "topic"]
DEVICES: tuple[Device, ...] = get_args(Device)
RECORDED: tuple[Recorded, ...] = get_args(Recorded)
KINDS: tuple[Kind, ...] = get_args(Kind)
STAMPED = ("euroc", "bag")
"""Recordings whose stamps mean something and are kept. The others' start at 0, and live ones take their place."""
POSED = ("simulate", "euroc")
WALK_S, WALK_FPS, WALK_SIZE = 60.0, 30.0, (240, 320)
"""Of a simulated walk: seconds, frames a second, (H, W)."""
CSI_SIZE, CSI_FPS = (720, 1280), 30.0


@dataclass(frozen=True)
class SourceSpec:
    """What to open.

    Attributes:
        kind: which source.
        name: device, file, pattern, folder, URL, topic or walk; "" is the first or only one.
        size: (H, W) to ask a camera for; None takes its default.
        fps: rate to ask a camera for; None takes its default.
        pixel_format: V4L2 format to ask a camera for.
        image_topic: of a bag with several.
        camera_info_topic: of a bag or topic; None: the one beside the images, "" none.
        imu_topic: of a bag (None: the only one) or topic (None: none).
        odometry_topic: of a bag or topic; None or "": none.
        realtime: play a recording at its own pace, like a camera.
        loop: start a recording again at its end.
        duration_s: length of a simulated walk.
    """

    kind: Kind
    name: str
    size: tuple[int, int] | None = None
    fps: float | None = None
    pixel_format: str | None = None
    image_topic: str | None = None
    camera_info_topic: str | None = None
    imu_topic: str | None = None
    odometry_topic: str | None = None
    realtime: bool = False
    loop: bool = False
    duration_s: float = WALK_S

    @property
    def recorded(self) -> bool:
        """It has an end, and waits for its reader."""
        return self.kind in RECORDED

    @property
    def named(self) -> bool:
        """Its frames name the camera's optical frame themselves."""
        return self.kind in ("topic", "bag")

    @property
    def keeps_stamps(self) -> bool:
        """The frames keep the stamps of another time."""
        return self.kind in STAMPED

    @property
    def posed(self) -> bool:
        """It knows where the camera is, and nobody else tells."""
        return self.kind in POSED


def open_source(
    spec: SourceSpec, health: Health, calibration: Calibration | None = None, node: Any = None
) -> Source:
    """Open what `spec` says. A device that goes away is opened again when it comes back.

    Args:
        spec: what to open.
        health: told what is wrong with source and IMU.
        calibration: of the camera and its IMU; takes the place of what the source says.
        node: the ROS node that subscribes; for topics.

    Raises:
        InputError: the name is wrong, or a library that the source needs is missing.
        SourceError: it cannot be opened.
    """
    track = _track(calibration, health)
    odometry = _odometry(calibration, health) if spec.odometry_topic else None
    if spec.kind == "topic":
        return _topic(spec, node, track, odometry, health)
    if not spec.recorded:
        return ReconnectingSource(partial(_device, spec, health, track if calibration else None), health)
    # Without a calibration of ours, recordings know their own.
    opener = partial(_recording, spec, health, track if calibration else None, odometry)
    if spec.loop:
        from m2h_runtime.sources.loop import LoopedSource

        recording: Recording = LoopedSource(opener)
    else:
        recording = opener()
    if not spec.realtime:
        return recording
    from m2h_runtime.sources.paced import PacedSource

    return PacedSource(recording, restamp=not spec.keeps_stamps)


def teller(health: Health, part: str) -> Callable[[str | None], None]:
    """Tells `health` what is wrong with `part`: a text, or None when all is well again."""

    def tell(text: str | None) -> None:
        health.report(part, Level.DEGRADED if text else Level.OK, text or "")

    return tell


def _track(calibration: Calibration | None, health: Health) -> ImuTrack:
    tell = teller(health, "imu")
    if calibration is None:
        return ImuTrack(health=tell)
    return ImuTrack(ImuCalibration(calibration.camera_from_imu, calibration.imu_time_offset_s), tell)


def _odometry(calibration: Calibration | None, health: Health) -> OdometryTrack:
    return OdometryTrack(calibration.camera_from_imu if calibration else None, teller(health, "odometry"))


def _topic(
    spec: SourceSpec, node: Any, track: ImuTrack, odometry: OdometryTrack | None, health: Health
) -> Source:
    from m2h_runtime.ros.camera_info import camera_info_beside
    from m2h_runtime.ros.endpoints import resolved
    from m2h_runtime.ros.topic_source import TopicSource

    beside = spec.camera_info_topic is None  # beside where the images really are: they may be remapped
    return TopicSource(
        node,
        spec.name,
        camera_info_topic=camera_info_beside(resolved(node, spec.name)) if beside else spec.camera_info_topic,
        imu_topic=spec.imu_topic,
        imu=track,
        odometry_topic=spec.odometry_topic,
        odometry=odometry,
        health=teller(health, "source"),
    )


def _recording(
    spec: SourceSpec, health: Health, track: ImuTrack | None, odometry: OdometryTrack | None
) -> Recording:
    if spec.kind == "video":
        from m2h_runtime.sources.video import VideoSource

        return VideoSource(spec.name)
    if spec.kind == "images":
        from m2h_runtime.sources.images import ImagesSource

        return ImagesSource(spec.name)
    if spec.kind == "euroc":
        from m2h_runtime.sources.euroc import EurocSource

        return EurocSource(spec.name, track, teller(health, "source"), teller(health, "imu"))
    if spec.kind == "bag":
        from m2h_runtime.sources.bag import BagSource
        from m2h_runtime.sources.bag_topics import BagTopics

        topics = BagTopics(
            spec.image_topic, spec.camera_info_topic, spec.imu_topic, spec.odometry_topic or ""
        )
        return BagSource(spec.name, topics, track, teller(health, "source"), teller(health, "imu"), odometry)
    from m2h_runtime.sources.simulation import SimulationSource

    return SimulationSource(
        spec.name,
        spec.size or WALK_SIZE,
        spec.fps or WALK_FPS,
        spec.duration_s,
        keep_pace=spec.realtime,
        health=teller(health, "imu"),
    )


def _device(spec: SourceSpec, health: Health, track: ImuTrack | None) -> Source:
    if spec.kind == "camera":
        from m2h_runtime.sources.camera import CameraSource

        return CameraSource(spec.name, spec.size, spec.fps, spec.pixel_format)
    if spec.kind == "stream":
        from m2h_runtime.sources.stream import RtspSource

        return RtspSource(spec.name)
    if spec.kind == "realsense":
        from m2h_runtime.sources.realsense import RealSenseSource

        return RealSenseSource(spec.name, spec.size, spec.fps, track, teller(health, "imu"))
    if spec.kind == "oak":
        from m2h_runtime.sources.oak import OakSource

        return OakSource(spec.name, spec.size, spec.fps, track, teller(health, "imu"))
    from m2h_runtime.sources.gstreamer import GStreamerSource, jetson_csi

    if spec.kind == "gstreamer":
        return GStreamerSource(spec.name)
    if not (spec.name or "0").isdecimal():
        raise InputError(f"csi {spec.name!r}: give the camera's number, 0 or 1")
    return GStreamerSource(jetson_csi(int(spec.name or 0), spec.size or CSI_SIZE, spec.fps or CSI_FPS))
