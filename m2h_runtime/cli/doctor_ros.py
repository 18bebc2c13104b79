"""`m2h-doctor --ros`: what a scene-graph node would make of the topics that are there now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from m2h_runtime.pipeline.health import Level
from m2h_runtime.ros.check import Finding, check_graph, first_wrong
from m2h_runtime.ros.profiles import load_profile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

MARKS = {Level.OK: "ok", Level.DEGRADED: "could be better", Level.FAILED: "WRONG"}


def check_ros(console: Console, profile: str, seconds: float, ros_args: Sequence[str]) -> list[Finding]:
    """Look at the running graph, print what was found and name the first thing that is wrong.

    Raises:
        InputError: no such profile, or ROS is missing.
    """
    findings = check_graph(load_profile(profile), seconds, args=ros_args)
    for finding in findings:
        console.print(
            f"{MARKS[finding.level]:16}{finding.subject}: {finding.text}", soft_wrap=True, highlight=False
        )
    wrong = first_wrong(findings)
    if wrong is None:
        console.print(f"\nprofile {profile}: kept", highlight=False)
    else:
        console.print(
            f"\nprofile {profile}: first {wrong.subject}: {wrong.text}", soft_wrap=True, highlight=False
        )
    return findings


def facts(profile: str, findings: Sequence[Finding]) -> dict[str, Any]:
    """The findings in plain JSON types."""
    wrong = first_wrong(findings)
    return {
        "profile": profile,
        "findings": [
            {"level": finding.level.name.lower(), "subject": finding.subject, "text": finding.text}
            for finding in findings
        ],
        "first_wrong": None if wrong is None else wrong.subject,
    }
