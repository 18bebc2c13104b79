"""The latest samples, in preallocated arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Segment(NamedTuple):
    """Samples over a span of time, copied out of the ring; the first and the last lie exactly on its borders.

    Attributes:
        stamps_ns: int64 (N,), strictly increasing, on the IMU's clock.
        gyro: float64 (N, 3), rad/s.
        accel: float64 (N, 3), m/s^2.
        measured: bool (N,), False where interpolated or held at a border.
        largest_step_ns: longest time between two neighbouring measured samples of those that were used.
    """

    stamps_ns: NDArray[np.int64]
    gyro: NDArray[np.float64]
    accel: NDArray[np.float64]
    measured: NDArray[np.bool_]
    largest_step_ns: int


class Ring:
    """At least the latest `capacity` samples in order of time. Not thread-safe.

    Both arrays have twice that room: when they are full, the newer half moves to the front. So the samples always lie
    in one piece, and moving costs one copy per `capacity` samples.

    Attributes:
        total: samples since it was made or cleared.
    """

    def __init__(self, capacity: int) -> None:
        self.total = 0
        self._capacity = capacity
        self._end = 0
        self._stamps = np.empty(2 * capacity, np.int64)
        self._values = np.empty((2 * capacity, 6), np.float64)
        self._newest: int | None = None

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the newest sample; None if there is none."""
        return self._newest

    @property
    def oldest_ns(self) -> int | None:
        """Stamp of the oldest sample; None if there is none."""
        return int(self._stamps[0]) if self._end else None

    def append(self, stamp_ns: int, values: tuple[float, ...]) -> None:
        """Take gyro and accel, six numbers, of a stamp later than all others."""
        if self._end == 2 * self._capacity:
            self._stamps[: self._capacity] = self._stamps[self._capacity :]
            self._values[: self._capacity] = self._values[self._capacity :]
            self._end = self._capacity
        self._stamps[self._end] = stamp_ns
        self._values[self._end] = values
        self._newest = stamp_ns
        self._end += 1
        self.total += 1

    def clear(self) -> None:
        """Forget all samples."""
        self.total = self._end = 0
        self._newest = None

    def latest(self, count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Stamps (N,) and values (N, 6) of the newest samples, `count` at most; views that the next append spoils."""
        start = max(0, self._end - count)
        return self._stamps[start : self._end], self._values[start : self._end]

    def measured(self, from_ns: int, to_ns: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Stamps (N,) and values (N, 6) from `from_ns` to `to_ns`, both included; views as in `latest`."""
        stamps = self._stamps[: self._end]
        start, stop = np.searchsorted(stamps, from_ns, "left"), np.searchsorted(stamps, to_ns, "right")
        return stamps[start:stop], self._values[start:stop]

    def segment(self, from_ns: int, to_ns: int) -> Segment:
        """The samples in between, with one on each border: interpolated, or held beyond the newest.

        The ring holds a sample, `from_ns` is not before the oldest, and `to_ns` is later than `from_ns`.
        """
        stamps, values = self._stamps[: self._end], self._values[: self._end]
        first, last = np.searchsorted(stamps, from_ns, "right"), np.searchsorted(stamps, to_ns, "left")
        # From the measured sample before or on the first border to the one after or on the last.
        used = stamps[first - 1 : last + 1]
        all_values = np.vstack((self._at(from_ns), values[first:last], self._at(to_ns)))
        measured = np.ones(len(all_values), np.bool_)
        measured[0], measured[-1] = used[0] == from_ns, used[-1] == to_ns
        return Segment(
            np.concatenate(([from_ns], stamps[first:last], [to_ns])),
            all_values[:, :3],
            all_values[:, 3:],
            measured,
            int(np.diff(used).max(initial=0)),
        )

    def _at(self, stamp_ns: int) -> NDArray[np.float64]:
        """The six numbers at `stamp_ns`, which is not before the oldest sample."""
        before = int(np.searchsorted(self._stamps[: self._end], stamp_ns, "right")) - 1
        values: NDArray[np.float64] = self._values[before]
        if before + 1 < self._end:  # otherwise on the newest, or beyond: held
            start, stop = int(self._stamps[before]), int(self._stamps[before + 1])
            values = values + (stamp_ns - start) / (stop - start) * (self._values[before + 1] - values)
        return values
