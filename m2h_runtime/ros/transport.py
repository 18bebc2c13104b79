"""How images travel between processes: room in Fast DDS's shared memory, unless the user has chosen otherwise."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping

PROFILE = Path(__file__).with_name("fastdds.xml")
SEGMENT_BYTES = 64 << 20
"""`segment_size` in the profile."""
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # where Fast DDS puts its segments
PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
"""The second is what Fast DDS reads in `OLD_DISTROS`; a newer one warns about it."""
OLD_DISTROS = ("humble", "iron")
CHOICES = (*PROFILE_VARIABLES, "FASTDDS_BUILTIN_TRANSPORTS", "FASTDDS_ENVIRONMENT_FILE")
"""Whoever sets one of these has a transport of their own in mind."""


def prepare_transport(
    environ: MutableMapping[str, str] = os.environ, shared_memory: Path = SHARED_MEMORY
) -> str:
    """Point Fast DDS to our profile. To be called before the first `rclpy.init` of the process.

    Args:
        environ: the process's environment; gets one of `PROFILE_VARIABLES`.
        shared_memory: the file system whose room decides.

    Returns:
        One line for a person: what was done, or why nothing was.
    """
    middleware = environ.get("RMW_IMPLEMENTATION", "")
    if middleware and "fastrtps" not in middleware:
        return f"transport: as {middleware} has it"
    ours = str(PROFILE)
    chosen = [name for name in CHOICES if (environ.get(name) or ours) != ours]
    if chosen:
        return f"transport: as {chosen[0]} says"
    free = _free_bytes(shared_memory)
    if free < SEGMENT_BYTES:
        return (
            f"transport: Fast DDS's default, since {shared_memory} has {free >> 20} MiB free and "
            f"{SEGMENT_BYTES >> 20} are needed; large images may be lost, `docker run --shm-size=512m` gives room"
        )
    environ[PROFILE_VARIABLES[environ.get("ROS_DISTRO") in OLD_DISTROS]] = ours
    return f"transport: shared memory of {SEGMENT_BYTES >> 20} MiB and UDP ({PROFILE.name})"


def _free_bytes(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:  # no such file system here
        return 0
