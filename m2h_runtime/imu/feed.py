"""`ImuFeed`: every sample once, for one reader, whatever frames it misses."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from m2h_runtime.imu.track import ImuTrack
    from m2h_runtime.imu.window import ImuWindow


class ImuFeed:
    """Remembers which samples of a track a reader has had. Frames that were dropped before it lose it none."""

    def __init__(self) -> None:
        self._after_ns: int | None = None

    def new(self, track: ImuTrack, until_ns: int) -> ImuWindow | None:
        """The samples since the last call, up to a frame's stamp; those that came late are in the next call's.

        Returns:
            Measured samples only; None if there are none, at the first frame, and where time has gone back.
        """
        if self._after_ns is None or until_ns < self._after_ns:
            self._after_ns = until_ns
            return None
        samples = track.samples(self._after_ns, until_ns)
        if len(samples.stamps_ns) == 0:
            return None
        self._after_ns = int(samples.stamps_ns[-1])
        return samples
