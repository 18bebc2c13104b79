"""What every sink promises, and what it is handed."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from m2h_runtime.errors import SinkError
from m2h_runtime.files import reason

if TYPE_CHECKING:
    from pathlib import Path

    from m2h_runtime.calibration.fit import Fit
    from m2h_runtime.frame import Frame
    from m2h_runtime.imu.track import ImuTrack
    from m2h_runtime.odometry.estimate import Estimate
    from m2h_runtime.perception import Perception


@dataclass(frozen=True, slots=True)
class Observation:
    """One frame with what the engine says about it.

    Attributes:
        frame: the camera's image, as the engine was given it (rectified), at the camera's size.
        perception: the engine's outputs, with the same stamp and sequence, at the engine's size.
        fps: perceptions per second over the last second or so; 0 before the second one.
        fit: how the frame's image and the engine's lie on each other.
        depth_factor: what `perception.depth` is to be multiplied by to be metres of this camera.
        source_frame: the frame as the source delivered it, before rectification.
        imu: the source's IMU, for sinks that hand its samples on (`ImuFeed`); None if it has none.
        odometry: what visual odometry says about the frame; None: it is off, or the source has poses of its own.
    """

    frame: Frame
    perception: Perception
    fps: float
    fit: Fit
    depth_factor: float
    source_frame: Frame
    imu: ImuTrack | None = None
    odometry: Estimate | None = None


class Sink(ABC):
    """A place where observations go. The pipeline calls it from one thread of its own.

    Exactly one of `close` and `abort` ends it.
    """

    name: str
    """What the report calls it."""
    queue: ClassVar[int] = 4
    """So many observations wait for it; 1: the newest wins, so that it never works on an old one."""
    disposable: ClassVar[bool] = False
    """True: what it has not written when a live run ends is worth nothing any more."""
    lossy: ClassVar[bool] = False
    """True: it never makes a recording wait; it only shows, so the newest observations do."""

    @property
    def wanted(self) -> bool:
        """False while nobody looks: the pipeline hands it nothing and does not wake its thread."""
        return True

    @abstractmethod
    def write(self, observation: Observation) -> None:
        """Take one observation; may be slow.

        Raises:
            SinkError: it cannot be written; the pipeline calls `abort` and ends the run.
        """

    @abstractmethod
    def close(self) -> None:
        """Finish: whatever was written is complete and in place.

        Raises:
            SinkError: it cannot be finished; nothing half-written is left.
        """

    @abstractmethod
    def abort(self) -> None:
        """Leave nothing half-written behind. Never raises."""


def check_writable(path: Path) -> None:
    """Find out before a run whether its output can be written to `path` afterwards.

    Raises:
        SinkError: `path` is a folder or a device, or a file cannot be made beside it.
    """
    if path.exists() and not path.is_file():  # a device would be replaced by the finished file
        raise SinkError(f"{path}: is a folder or a device; name a file")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            return
    except OSError as error:
        raise SinkError(
            f"{path}: cannot be written ({reason(error)}); make {path.parent} or choose another"
        ) from error
