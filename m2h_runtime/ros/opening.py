"""What the node's parameters say about its source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m2h_runtime.errors import InputError
from m2h_runtime.sources.opening import KINDS, SourceSpec

if TYPE_CHECKING:
    from m2h_runtime.ros.profiles import Profile
    from m2h_runtime.ros.settings import Settings

NAMELESS = ("topic", "realsense", "oak", "csi")
"""Of these there is a first one, or a parameter of its own."""
NO_TOPIC = "none"
"""As `camera_info_topic`: there is none."""


def source_spec(settings: Settings, profile: Profile) -> SourceSpec:
    """What to open. Recordings are played at their own pace: a node is live.

    Raises:
        InputError: parameter `source` names no source.
    """
    kind, _, name = settings.source.partition(":")
    if kind not in KINDS or not (name or kind in NAMELESS) or (kind == "topic" and name):
        known = ", ".join(kind if kind in NAMELESS else f"{kind}:NAME" for kind in KINDS)
        raise InputError(f"parameter source: {settings.source!r} is not possible; there are {known}")
    return SourceSpec(
        kind,
        (settings.image_topic or profile.image_topic) if kind == "topic" else name,
        image_topic=settings.image_topic or None,
        camera_info_topic=_camera_info_topic(settings, profile),
        imu_topic=settings.imu_topic or None,
        odometry_topic=settings.odometry_topic or None,
        realtime=True,
        loop=settings.loop,
    )


def _camera_info_topic(settings: Settings, profile: Profile) -> str | None:
    """None: beside the images; "": none."""
    named = settings.camera_info_topic
    if named == NO_TOPIC or (settings.calibration and not named):
        return ""
    if named:
        return named
    return None if settings.image_topic or settings.source != "topic" else profile.camera_info_topic
