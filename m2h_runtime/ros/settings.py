"""`Settings`: all parameters of the node, each with its default, description and limits, in one place."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from m2h_runtime.calibration.fit import POLICIES
from m2h_runtime.errors import InputError
from m2h_runtime.ros.profiles import Output

if TYPE_CHECKING:
    from m2h_runtime.calibration.fit import Policy
    from m2h_runtime.ros.profiles import Profile


@dataclass(frozen=True, slots=True)
class Facts:
    """What is said about one parameter beside its name and default.

    Attributes:
        description: for `ros2 param describe`.
        limits: smallest and largest value.
        choices: the texts that it may be; none: any.
        live: it may be changed while the node runs.
        aliases: Mono-Hydra's other names of it.
    """

    description: str
    limits: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()
    live: bool = False
    aliases: tuple[str, ...] = ()


def _of(default: Any, description: str, **facts: Any) -> Any:
    return field(default=default, metadata={"facts": Facts(description, **facts)})


@dataclass(frozen=True)
class Settings:
    """The parameters by name; each one's description is its documentation. Names are Mono-Hydra's where it has one.

    Raises:
        InputError: a value is out of range, or two contradict each other.
    """

    engine: str = _of("", "engine folder made by m2h-export; empty: the shipped demo engine")
    backend: str = _of("auto", "auto (the fastest that passes its self-test) or a backend's name")
    threads: int = _of(0, "CPU threads of the engine; 0: one per core", limits=(0, 1024))
    allow_unverified: bool = _of(False, "also open an engine without a passing parity verdict")
    profile: str = _of("default", "default, hydra, mono_hydra_itc, mono_hydra_scannet or a file *.yaml")
    source: str = _of("topic", "topic, camera:DEVICE, video:FILE, bag:PATH, simulate:NAME and others")
    loop: bool = _of(False, "start a recording again at its end")
    image_topic: str = _of("", "images to read, raw or compressed; empty: the profile's")
    camera_info_topic: str = _of(
        "", "their CameraInfo; empty: beside image_topic, else the profile's; none: no"
    )
    imu_topic: str = _of("", "sensor_msgs/Imu to hand on with the frames; empty: no IMU")
    odometry_topic: str = _of("", "nav_msgs/Odometry for engines that compare views; empty: no poses")
    align: bool = _of(False, "average depth and labels with the frames before, warped by poses or gyroscope")
    mask_depth_edges: bool = _of(False, "with align: publish depth edges as 0, no depth")
    visual_odometry: bool = _of(
        False, "poses from images and depth where odometry_topic has none; published as odometry and on /tf"
    )
    image_depth_topic: str = _of("", "depth output; empty: the profile's")
    label_ids_topic: str = _of("", "label output; empty: the profile's")
    image_semantic_topic: str = _of("", "coloured semantics output; empty: the profile's")
    synced_rgb_topic: str = _of("", "output of the RGB image that was used; empty: the profile's")
    synced_camera_info_topic: str = _of("", "output of its CameraInfo; empty: the profile's")
    publish_label_ids: bool = _of(True, "offer the label output")
    publish_color_semantic: bool = _of(True, "offer coloured semantics; costs nothing while nobody reads it")
    publish_synced_inputs: bool = _of(True, "offer RGB and CameraInfo; costs nothing while nobody reads it")
    publish_normals: bool = _of(True, "offer normals, where the profile has them")
    publish_edges: bool = _of(True, "offer edges, where the profile has them")
    publish_clock: bool = _of(
        False, "send /clock with the frames' stamps; for recordings without another clock"
    )
    fit: str = _of(
        "", "how images come to the engine's size; empty: as the engine says", choices=("", *POLICIES)
    )
    calibration: str = _of("", "Kalibr or camera_info file; takes the place of the CameraInfo topic")
    rectify: str = _of(
        "auto", "undistort the images; auto: if there is a calibration", choices=("auto", "always", "never")
    )
    depth_scale: float = _of(
        1.0,
        "depth is multiplied by it, on top of the calibration's own",
        limits=(0.01, 100.0),
        live=True,
        aliases=("depth_output_scale",),
    )
    min_depth: float = _of(
        0.0,
        "metres; nearer is published as 0, no depth; 0: the profile's",
        limits=(0.0, 1000.0),
        live=True,
        aliases=("depth_min",),
    )
    max_depth: float = _of(
        0.0,
        "metres; farther is published as 0, no depth; 0: the profile's",
        limits=(0.0, 1000.0),
        live=True,
        aliases=("depth_max",),
    )
    max_age_s: float = _of(
        1.0,
        "seconds; an image that is older when the engine is free is dropped; 0: never",
        limits=(0.0, 3600.0),
        live=True,
        aliases=("max_output_lag_s",),
    )
    record: str = _of("", "record inputs and outputs to this .mcap file while active")
    autostart: bool = _of(True, "configure and activate at the start; false: a lifecycle manager does")

    def __post_init__(self) -> None:
        for spec in fields(self):
            _check(spec.name, getattr(self, spec.name), facts_of(spec))
        if self.mask_depth_edges and not self.align:
            raise InputError("parameter mask_depth_edges: goes with align")
        if self.max_depth and self.max_depth <= self.min_depth:
            raise InputError(
                f"parameter max_depth: {self.max_depth:g} is not above min_depth {self.min_depth:g}"
            )

    @property
    def policy(self) -> Policy | None:
        """`fit`; None: as the engine says."""
        return cast("Policy", self.fit) if self.fit else None

    def tailored(self, profile: Profile) -> Profile:
        """`profile` with these topics, without the outputs that are switched off, and with this depth range.

        Raises:
            InputError: the depth range is empty.
        """
        topics = {
            "depth": self.image_depth_topic,
            "labels": self.label_ids_topic,
            "colors": self.image_semantic_topic,
            "rgb": self.synced_rgb_topic,
            "camera_info": self.synced_camera_info_topic,
        }
        outputs = {
            name: Output(topics.get(name) or output.topic, output.encoding)
            for name, output in profile.outputs.items()
            if name not in self._switched_off()
        }
        nearest, farthest = (
            self.min_depth or profile.depth_range_m[0],
            self.max_depth or profile.depth_range_m[1],
        )
        if nearest >= farthest:
            raise InputError(
                f"parameters min_depth, max_depth: {nearest:g} m to {farthest:g} m (profile {profile.name}) is no range"
            )
        return dataclasses.replace(
            profile, outputs=MappingProxyType(outputs), depth_range_m=(nearest, farthest)
        )

    def _switched_off(self) -> set[str]:
        switches = (
            (self.publish_label_ids, ("labels",)),
            (self.publish_color_semantic, ("colors",)),
            (self.publish_synced_inputs, ("rgb", "camera_info")),
            (self.publish_normals, ("normals", "normals_picture")),
            (self.publish_edges, ("edges",)),
        )
        return {output for on, outputs in switches if not on for output in outputs}


def facts_of(spec: dataclasses.Field[Any]) -> Facts:
    """What is said about the parameter of a field of `Settings`."""
    facts: Facts = spec.metadata["facts"]
    return facts


def _check(name: str, value: Any, facts: Facts) -> None:
    if facts.choices and value not in facts.choices:
        choices = ", ".join(choice or "empty" for choice in facts.choices)
        raise InputError(f"parameter {name}: {value!r} is not possible; it can be {choices}")
    if facts.limits and not (math.isfinite(value) and facts.limits[0] <= value <= facts.limits[1]):
        raise InputError(
            f"parameter {name}: {value:g} is not between {facts.limits[0]:g} and {facts.limits[1]:g}"
        )
