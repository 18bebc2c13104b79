"""Profiles: under which names, in which encodings, sizes and label space the outputs leave. One YAML file each."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import lru_cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import yaml

from m2h_runtime.errors import InputError
from m2h_runtime.files import reason
from m2h_runtime.label_space import LabelSpace, load_label_map, load_label_space
from m2h_runtime.view import NO_LABEL, View

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from m2h_runtime.calibration.fit import Fit
    from m2h_runtime.frame import Frame
    from m2h_runtime.perception import Perception

ENCODINGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "depth": ("32FC1", "16UC1"),
        "labels": ("mono8", "16SC1"),
        "colors": ("rgb8",),
        "normals": ("32FC3",),
        "normals_picture": ("rgb8",),
        "edges": ("mono8",),
        "confidence": ("mono8",),
        "rgb": ("rgb8",),
        "camera_info": ("",),
        "imu": ("",),
        "points": ("",),
    }
)
"""Every output, and the encodings that it can have; the first one is the default. "": it is no image."""

DEFAULT = "default"
NODE = "m2h"
"""The node's name where nobody gives another."""


class Output(NamedTuple):
    """Topic (absolute, relative, or `~/...` under the node's name) and encoding of one output."""

    topic: str
    encoding: str


class Labels(NamedTuple):
    """What becomes of an engine's class ids.

    Attributes:
        space: the label space that is published.
        lut: uint8 (256,), the id to publish by the engine's id.
        unknown: the id of pixels without a class.
    """

    space: LabelSpace
    lut: NDArray[np.uint8]
    unknown: int


@dataclass(frozen=True)
class Profile:
    """What leaves, and how.

    Attributes:
        name: as in `--profile`.
        outputs: what is published, by the names in `ENCODINGS`.
        size: "camera", "engine" (its resolution, in the camera's aspect ratio), or (H, W).
        depth_range_m: (nearest, farthest); other depths are published as 0, which means "no depth".
        label_space: name of the label space that is published; None is the engine's own.
        image_topic: where a topic source finds its images.
        camera_info_topic: their CameraInfo.
        imu_topic: the IMU.
        camera_frame: the optical frame of cameras that are no topics; a topic's own frame id is kept.
        imu_frame: the same of IMUs.
    """

    name: str
    outputs: Mapping[str, Output]
    size: Literal["camera", "engine"] | tuple[int, int]
    depth_range_m: tuple[float, float]
    label_space: str | None
    image_topic: str
    camera_info_topic: str
    imu_topic: str
    camera_frame: str
    imu_frame: str

    def size_for(self, fit: Fit) -> tuple[int, int]:
        """(H, W) of the outputs."""
        if self.size == "camera":
            return fit.camera
        if self.size == "engine":
            covered, used = fit.covered, fit.used
            return (
                max(1, round(covered.height * fit.camera[0] / used.height)),
                max(1, round(covered.width * fit.camera[1] / used.width)),
            )
        return self.size

    def labels(self, space: LabelSpace) -> Labels:
        """How the class ids of an engine with this label space are published.

        Raises:
            InputError: no table leads from it to the profile's.
        """
        signed = "labels" in self.outputs and self.outputs["labels"].encoding == "16SC1"
        return _labels(space, self.label_space, NO_LABEL if signed else 0)

    def view(self, frame: Frame, perception: Perception, fit: Fit, depth_factor: float = 1.0) -> View:
        """One frame's outputs as this profile wants them.

        Args:
            frame: the camera's image.
            perception: what the engine says about it.
            fit: how the two lie on each other.
            depth_factor: what the engine's depth is multiplied by.

        Raises:
            InputError: the engine's label space does not fit.
        """
        labels = self.labels(perception.label_space)
        return View(
            frame,
            perception,
            fit,
            self.size_for(fit),
            depth_factor=depth_factor,
            depth_range_m=self.depth_range_m,
            label_lut=labels.lut,
            palette=_palette(labels.space),
            unknown=labels.unknown,
        )


def absolute(topic: str, node: str = NODE) -> str:
    """The full name of a topic for a node without a namespace: `~/depth` is `/m2h/depth`, `imu` is `/imu`."""
    if topic.startswith("~/"):
        return f"/{node}/{topic[2:]}"
    return topic if topic.startswith("/") else f"/{topic}"


def profile_names() -> list[str]:
    """The profiles that ship with the package."""
    folder = resources.files("m2h_runtime.ros") / "profiles"
    return sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_profile(name_or_path: str | Path = DEFAULT) -> Profile:
    """A profile that ships with the package, or one in a file *.yaml.

    Raises:
        InputError: there is none, or a key or value in it is wrong.
    """
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        try:
            return parse_profile(path.read_text(encoding="utf-8"), str(path), path.stem)
        except OSError as error:
            raise InputError(f"{path}: the profile cannot be read ({reason(error)})") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: the profile is not text in UTF-8") from error
    if name_or_path not in profile_names():
        raise InputError(
            f"no profile {str(name_or_path)!r}; there are {', '.join(profile_names())}, or name a file *.yaml"
        )
    file = resources.files("m2h_runtime.ros") / "profiles" / f"{name_or_path}.yaml"
    return parse_profile(file.read_text(encoding="utf-8"), f"profile {name_or_path}", str(name_or_path))


def parse_profile(text: str, where: str, name: str) -> Profile:
    """A profile from its YAML text.

    Args:
        text: the YAML.
        where: what errors call it.
        name: the profile's name.

    Raises:
        InputError: a key or value is wrong; the line says which and what could be meant.
    """
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{where}: is not YAML ({' '.join(str(error).split())})") from error
    given = _mapping(raw, where, (field.name for field in fields(Profile) if field.name != "name"))
    profile = Profile(
        name=name,
        outputs=_outputs(given["outputs"], where),
        size=_size(given["size"], where),
        depth_range_m=_range(given["depth_range_m"], where),
        label_space=given["label_space"],
        **{key: _text(given, key, where) for key in _TEXTS},
    )
    _check_label_space(profile, where)
    _check_topics(profile, where)
    return profile


_TEXTS = ("image_topic", "camera_info_topic", "imu_topic", "camera_frame", "imu_frame")


def _mapping(raw: Any, where: str, names: Iterable[str], *, whole: bool = True) -> dict[str, Any]:
    """`raw` if it is a mapping with these keys; all of them if `whole`."""
    known = list(names)
    if not isinstance(raw, dict):
        raise InputError(f"{where}: needs settings as `key: value`; there are {', '.join(known)}")
    for key in raw:
        if key not in known:
            near = get_close_matches(str(key), known, 1, 0)[0]
            raise InputError(f"{where}: no setting {key!r}; the nearest is {near!r}")
    missing = [key for key in known if key not in raw]
    if whole and missing:
        raise InputError(f"{where}: lacks {', '.join(missing)}; copy profile default and change it")
    return raw


def _text(given: Mapping[str, Any], key: str, where: str) -> str:
    value = given[key]
    if not isinstance(value, str) or not value:
        raise InputError(f"{where}: {key} needs a name, got {value!r}")
    return value


def _outputs(raw: Any, where: str) -> Mapping[str, Output]:
    given = _mapping(raw, f"{where}: outputs", ENCODINGS, whole=False)
    return MappingProxyType({name: _output(name, value, where) for name, value in given.items()})


def _output(name: str, raw: Any, where: str) -> Output:
    place = f"{where}: outputs: {name}"
    given = _mapping(raw, place, Output._fields, whole=False)
    if "topic" not in given:
        raise InputError(f"{place}: lacks its topic")
    encoding = given.get("encoding", ENCODINGS[name][0])
    if encoding not in ENCODINGS[name]:
        allowed = " or ".join(ENCODINGS[name]) or "none"
        raise InputError(f"{place}: encoding {encoding!r} is not possible; it can be {allowed}")
    return Output(_text(given, "topic", place), encoding)


def _size(raw: Any, where: str) -> Literal["camera", "engine"] | tuple[int, int]:
    if raw in ("camera", "engine"):
        return raw  # type: ignore[no-any-return]
    if isinstance(raw, list) and len(raw) == 2 and all(type(side) is int and side > 0 for side in raw):
        return raw[0], raw[1]
    raise InputError(f"{where}: size {raw!r} is not camera, engine or [height, width]")


def _range(raw: Any, where: str) -> tuple[float, float]:
    numbers = isinstance(raw, list) and len(raw) == 2 and all(type(value) in (int, float) for value in raw)
    if not numbers or math.isnan(raw[1]) or not 0 <= raw[0] < raw[1]:
        raise InputError(f"{where}: depth_range_m {raw!r} is not [nearest, farthest] in metres")
    return float(raw[0]), float(raw[1])


def _check_label_space(profile: Profile, where: str) -> None:
    try:
        if profile.label_space is not None:
            load_label_space(profile.label_space)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _check_topics(profile: Profile, where: str) -> None:
    """Two messages of one frame on one topic, or our own output as input, would be chaos."""
    inputs = ("image_topic", "camera_info_topic", "imu_topic")
    used = {absolute(getattr(profile, key)): key for key in inputs}
    for name, output in profile.outputs.items():
        topic = absolute(output.topic)
        if topic in used:
            raise InputError(f"{where}: {name} and {used[topic]} have the same topic {topic}; rename one")
        used[topic] = name


@lru_cache
def _labels(space: LabelSpace, target: str | None, unknown: int) -> Labels:
    wanted = space if target is None or target == space.name else load_label_space(target)
    lut = np.full(256, unknown, np.uint8)
    known = len(space.classes)
    lut[:known] = np.arange(known) if wanted is space else load_label_map(space.name, wanted.name)[:known]
    lut.setflags(write=False)
    return Labels(wanted, lut, unknown)


@lru_cache
def _palette(space: LabelSpace) -> NDArray[np.uint8]:
    return space.palette
