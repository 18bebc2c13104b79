"""`GraphSettings`: the parameters of the scene graph's node."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from m2h_runtime.errors import InputError
from m2h_runtime.label_space import load_label_space
from m2h_runtime.ros.settings import Facts

if TYPE_CHECKING:
    from m2h_runtime.label_space import LabelSpace
    from m2h_runtime.ros.profiles import Profile

NEEDED = ("depth", "labels", "camera_info")
"""Outputs of a perception without which nothing can be mapped."""
ENGINES_SPACE = "nyudv2_40"
"""Label space of the demo engine and of the published networks: what a profile publishes that names none."""


def _of(default: Any, description: str) -> Any:
    return field(default=default, metadata={"facts": Facts(description)})


@dataclass(frozen=True)
class GraphSettings:
    """The parameters by name; each one's description is its documentation.

    Raises:
        InputError: a duration is not above 0.
    """

    profile: str = _of(
        "default", "whose depth, labels, camera_info and rgb are read; a name or a file *.yaml"
    )
    perception: str = _of("m2h_perception", "name of the node that publishes the profile's ~/ topics")
    label_space: str = _of("", "of the labels: nyudv2_40, nyud20 or scannet20; empty: the profile's")
    odometry_topic: str = _of("", "nav_msgs/Odometry for the camera's poses; empty: /tf")
    fixed_frame: str = _of("", "frame that the graph is in, z up; empty: the uppermost one of /tf")
    out: str = _of("", "folder for graph.json, mesh.ply, graph.html and graph.jpg; empty: nothing is saved")
    period_s: float = _of(0.2, "seconds between two images that are mapped, at least")
    update_s: float = _of(2.0, "seconds between two graphs that are made and published")
    save_s: float = _of(30.0, "seconds between two savings; at the end it is saved anyway")

    def __post_init__(self) -> None:
        for name in ("period_s", "update_s", "save_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"parameter {name}: {value:g} is not above 0")

    def topics(self, profile: Profile) -> dict[str, str]:
        """Topic by output, of those that are mapped.

        Raises:
            InputError: the profile lacks one that is needed.
        """
        missing = [output for output in NEEDED if output not in profile.outputs]
        if missing:
            raise InputError(
                f"profile {profile.name}: has no {', '.join(missing)}, which a scene graph needs"
            )
        return {
            output: self._named(profile.outputs[output].topic)
            for output in (*NEEDED, "rgb")
            if output in profile.outputs
        }

    def _named(self, topic: str) -> str:
        return f"{self.perception}/{topic[2:]}" if topic.startswith("~/") else topic

    def space(self, profile: Profile) -> LabelSpace:
        """The label space of the labels that come.

        Raises:
            InputError: there is none of that name.
        """
        return load_label_space(self.label_space or profile.label_space or ENGINES_SPACE)
