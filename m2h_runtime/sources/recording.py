"""What recorded sources have in common: stamps that can be moved, and an IMU that is played along."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m2h_runtime.sources.base import Source

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from m2h_runtime.imu.track import ImuTrack

IMU_AHEAD_NS = 500_000_000
"""A track that refuses its samples cannot make a recording run further ahead than this."""


class Recording(Source):
    """A source that is not live.

    Attributes:
        shift_ns: is added to every stamp that is handed out from now on, of frames and of IMU samples.
    """

    live = False

    def __init__(self) -> None:
        super().__init__()
        self.shift_ns = 0


class ImuSeries:
    """The samples of a whole recording, handed to a track as the frames need them.

    Args:
        stamps_ns: int64 (N,), rising, on the IMU's clock.
        gyro: float64 (N, 3), rad/s.
        accel: float64 (N, 3), m/s^2.
    """

    def __init__(
        self, stamps_ns: NDArray[np.int64], gyro: NDArray[np.float64], accel: NDArray[np.float64]
    ) -> None:
        self._stamps_ns = stamps_ns.tolist()
        self._gyro, self._accel = gyro, accel
        self._next = 0

    def play(self, track: ImuTrack, until_ns: int, shift_ns: int) -> None:
        """Push samples until the track has one at or after `until_ns` (before the shift), all moved by `shift_ns`."""
        while self._next < len(self._stamps_ns):
            newest_ns, stamp_ns = track.newest_ns, self._stamps_ns[self._next]
            if newest_ns is not None and newest_ns >= until_ns + shift_ns:
                return
            if stamp_ns > until_ns + IMU_AHEAD_NS:
                return
            track.push(stamp_ns + shift_ns, self._gyro[self._next], self._accel[self._next])
            self._next += 1


class Complaints:
    """Tells `health` what is wrong and, once, that it is over; saying the same again is no news."""

    def __init__(self, health: Callable[[str | None], None]) -> None:
        self._health = health
        self._said: str | None = None

    def say(self, text: str | None) -> None:
        """`text` is wrong now; None: nothing is."""
        if text != self._said:
            self._said = text
            self._health(text)
