"""What every source promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from m2h_runtime.frame import Frame
    from m2h_runtime.imu.track import ImuTrack


class EndOfStream(Exception):  # noqa: N818  # like StopIteration: the normal end, not an error
    """The source has handed out its last frame."""


class Source(ABC):
    """An opened stream of frames. Read it from one thread; `close` once that thread has ended.

    Attributes:
        fps: the rate that the source says it has, frames per second; None if it does not know.
        imu: the source's IMU, filled while frames are read; None if it has none. A recording hands out a frame only
            when the samples up to its stamp are there.
        skipped: by reason, images that the source could not decode and passed over.
    """

    live: ClassVar[bool]
    """True: frames come at the world's pace and have `taken_ns`, so an old frame may be passed over and has an age.
    False: the next frame waits for whoever reads, and every one counts."""

    fps: float | None = None
    imu: ImuTrack | None = None

    def __init__(self) -> None:
        self.skipped: dict[str, int] = {}

    @abstractmethod
    def read(self, timeout_s: float) -> Frame | None:
        """The next frame, or None if none came within about `timeout_s` seconds; then ask again.

        Raises:
            EndOfStream: there are no more frames, now and ever after.
            SourceError: the source broke or holds something that is no image.
        """

    @abstractmethod
    def describe(self) -> str:
        """What is read, in a few words for a person: device or file, size and rate."""

    def close(self) -> None:  # noqa: B027  # not every source holds something
        """Give the device or file back. May be called twice."""

    def __enter__(self) -> Self:
        """Use the source in a `with` block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the source."""
        self.close()
