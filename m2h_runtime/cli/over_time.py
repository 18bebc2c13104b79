"""What the options "over time" put around an engine: alignment and visual odometry."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from m2h_runtime.odometry import VisualOdometry
    from m2h_runtime.pipeline import Health
    from m2h_runtime.temporal import Alignment


def make_alignment(wanted: bool, health: Health, *, masked: bool) -> Alignment | None:
    """Of --align; `masked`: no depth on depth edges."""
    if not wanted:
        return None
    from m2h_runtime.temporal import Alignment, AlignmentSettings

    return Alignment(AlignmentSettings(masked=masked), health)


def make_visual_odometry(wanted: bool, health: Health) -> VisualOdometry | None:
    """Of --visual-odometry."""
    if not wanted:
        return None
    from m2h_runtime.odometry import VisualOdometry

    return VisualOdometry(health)
