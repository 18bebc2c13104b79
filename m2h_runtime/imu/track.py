"""`ImuTrack`: samples go in as the driver delivers them, windows between frames come out."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from m2h_runtime.imu.calibration import UNKNOWN, ImuCalibration
from m2h_runtime.imu.faults import Faults
from m2h_runtime.imu.motion import Motion
from m2h_runtime.imu.review import MANY, accelerometer_fault, checked, median_period_ns, rate_fault
from m2h_runtime.imu.ring import Ring
from m2h_runtime.imu.window import ImuWindow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from m2h_runtime.imu.ring import Segment

__all__ = ["ImuCalibration", "ImuTrack"]

SECOND_NS = 1_000_000_000
FASTEST_HZ = 1000
"""The ring has room for this rate, or for the nominal one if that is higher."""
GAP = 3.0
"""Periods between two samples beyond which some are missing."""
HOLD = 2.5
"""Periods for which the newest sample stands in for one that has not come yet."""
JUMP_BACK_NS = SECOND_NS // 2
"""Further back is a new beginning (a bag that loops); less is a sample that comes too late."""
JUMP_AHEAD_NS = SECOND_NS
APART_NS = SECOND_NS
"""A frame so far from all samples, while they keep coming, has another clock."""


class ImuTrack:
    """The samples of one IMU. Push from one thread, take windows from another; nothing here waits.

    Samples are checked as they come: docs/imu.md lists what is found. Bad ones are dropped and counted.

    Args:
        calibration: what is known about the IMU.
        health: called with all that is wrong in one line when that changes, with None when all is well again; in the
            thread that pushes or takes a window.
        seconds: samples are kept for so long.

    Attributes:
        calibration: as given.
        frame_id: name of the IMU's frame.
    """

    def __init__(
        self,
        calibration: ImuCalibration = UNKNOWN,
        health: Callable[[str | None], None] | None = None,
        seconds: float = 10.0,
    ) -> None:
        self.calibration = calibration
        self.frame_id = calibration.frame_id
        self._offset_ns = calibration.time_offset_ns
        self._camera_from_imu = calibration.rotation
        self._ring = Ring(int(seconds * max(FASTEST_HZ, calibration.nominal_rate_hz or 0)) + 1)
        self._faults = Faults(health)
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        nominal_hz = self.calibration.nominal_rate_hz
        self._period_ns = self._expected_ns = None if nominal_hz is None else SECOND_NS / nominal_hz
        self._motion = Motion(self.calibration.gyro_bias)
        self._restart()

    def _restart(self) -> None:
        """What was there before does not join what comes."""
        self._ring.clear()
        self._review_at = 3
        self._total_at_window = 0
        self._parted_ns: int | None = None  # newest sample before a parting, until a later one has come
        self._anew_ns: int | None = None  # that later one
        self._motion.restart()

    def reset(self) -> None:
        """Forget the samples and all that was learned, for another IMU or recording. The counts stay."""
        with self._lock:
            self._forget()
            self._faults.clear()
        self._faults.tell()

    def part(self) -> None:
        """What comes next does not join what is there: a recording begins again, with stamps that go on.

        Frames from before can still ask for their windows. Samples up to the newest one's stamp are passed over.
        """
        with self._lock:
            self._parted_ns, self._anew_ns = self._ring.newest_ns, None

    @property
    def counts(self) -> dict[str, int]:
        """How often each fault has happened, by its reason in docs/imu.md."""
        with self._lock:
            return dict(self._faults.counts)

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the newest sample on the camera's clock; None if there is none."""
        newest_ns = self._ring.newest_ns
        return None if newest_ns is None else newest_ns - self._offset_ns

    @property
    def rate_hz(self) -> float | None:
        """Samples per second, measured; the nominal rate before the third sample; None if unknown."""
        period_ns = self._period_ns
        return None if period_ns is None else SECOND_NS / period_ns

    @property
    def gyro_bias(self) -> NDArray[np.float64] | None:
        """(3,) rad/s, calibrated or measured at a standstill; None while neither is there."""
        with self._lock:
            bias = self._motion.bias
            return bias.value.copy() if bias.known else None

    def push(self, stamp_ns: int, gyro: Sequence[float], accel: Sequence[float]) -> None:
        """Take one sample. A bad one is dropped, counted and reported; nothing is raised.

        Args:
            stamp_ns: integer nanoseconds on the IMU's clock.
            gyro: (3,) angular velocity in the IMU frame, rad/s.
            accel: (3,) specific force in the IMU frame, m/s^2; points up at rest.
        """
        with self._lock:
            self._take(stamp_ns, gyro, accel)
        self._faults.tell()

    def _take(self, stamp_ns: int, gyro: Sequence[float], accel: Sequence[float]) -> None:
        newest_ns = self._ring.newest_ns
        sample = checked(stamp_ns, gyro, accel)
        if sample is None:
            text = (
                "impossible samples are dropped (not finite, beyond 50 rad/s or 200 m/s^2); check the driver"
            )
            self._faults.happened("invalid", text, newest_ns or 0)
            return
        stamp_ns, values = sample
        if self._parted_ns is not None:
            if stamp_ns <= self._parted_ns:
                return
            self._parted_ns, self._anew_ns = None, stamp_ns
        elif newest_ns is not None and not self._follows(newest_ns, stamp_ns):
            return
        self._ring.append(stamp_ns, values)
        self._faults.settle(stamp_ns)
        if self._ring.total >= self._review_at:
            self._review()

    def _follows(self, newest_ns: int, stamp_ns: int) -> bool:
        """False if this stamp is no later than the newest sample's. If time has jumped, the ring is emptied for it."""
        step_ns = stamp_ns - newest_ns
        if step_ns == 0:
            text = "samples whose stamp was there already are dropped; is the IMU published twice?"
            self._faults.happened("duplicate", text, newest_ns)
        elif -JUMP_BACK_NS <= step_ns < 0:
            text = "samples that come after a later one are dropped; do two drivers share the topic?"
            self._faults.happened("out of order", text, newest_ns)
        elif step_ns < 0 or step_ns > JUMP_AHEAD_NS:
            self._jumped(step_ns, stamp_ns)
        elif self._period_ns is not None and step_ns > GAP * self._period_ns:
            usual = f"{self._period_ns / 1e6:.3g} ms are usual"
            self._faults.happened("gap", f"no samples for {step_ns / 1e6:.3g} ms, where {usual}", stamp_ns)
        return step_ns > 0 or step_ns < -JUMP_BACK_NS

    def _jumped(self, step_ns: int, stamp_ns: int) -> None:
        way = "ahead" if step_ns > 0 else "back"
        text = f"the stamps jumped {way} by {abs(step_ns) / 1e9:.3g} s, so the track starts anew"
        self._faults.happened(f"jump {way}", text, stamp_ns)
        self._restart()

    def _review(self) -> None:
        """Look at the latest samples: soon at the beginning, then now and then, so that a push stays cheap."""
        stamps_ns, values = self._ring.latest(MANY)
        self._period_ns = median_period_ns(stamps_ns)
        self._review_at = self._ring.total + min(self._ring.total, MANY // 2)
        if len(stamps_ns) == MANY:
            self._expected_ns = self._expected_ns or self._period_ns
            self._faults.state("rate", rate_fault(self._period_ns, self._expected_ns))
            self._faults.state("accelerometer", accelerometer_fault(values[:, 3:]))

    def window(self, from_ns: int | None, to_ns: int) -> ImuWindow | None:
        """The motion from one frame to a later one.

        Args:
            from_ns: the earlier frame's stamp on the camera's clock; None: there was none.
            to_ns: the later frame's stamp.

        Returns:
            The samples in between, with one on each of the two stamps. Where the ring begins after `from_ns`, the
            window does so too: it is incomplete and has no rotation. None without an earlier frame, or if the samples
            do not reach the later one, which is reported.
        """
        if from_ns is None or from_ns >= to_ns:
            return None
        with self._lock:
            window = self._window(from_ns + self._offset_ns, to_ns + self._offset_ns)
        self._faults.tell()
        return window

    def samples(self, after_ns: int, until_ns: int) -> ImuWindow:
        """The measured samples after `after_ns` and up to `until_ns`, on the camera's clock; may be none."""
        with self._lock:
            stamps_ns, values = self._ring.measured(
                after_ns + 1 + self._offset_ns, until_ns + self._offset_ns
            )
            stamps_ns, values = stamps_ns - self._offset_ns, values.copy()
        measured = np.ones(len(stamps_ns), np.bool_)
        return ImuWindow(stamps_ns, values[:, :3], values[:, 3:], measured, self._offset_ns, self.frame_id)

    def _window(self, start_ns: int, stop_ns: int) -> ImuWindow | None:
        """As `window`, with stamps on the IMU's clock."""
        oldest_ns, newest_ns = self._ring.oldest_ns, self._ring.newest_ns
        if oldest_ns is None or newest_ns is None:
            self._faults.state("silent", "no sample has come; is its driver running?")
            return None
        self._faults.state("silent", None)
        if not self._covers(stop_ns, oldest_ns, newest_ns):
            return None
        if self._anew_ns is not None and start_ns < self._anew_ns < stop_ns:
            oldest_ns = self._anew_ns
            self._motion.restart()
        segment = self._ring.segment(max(start_ns, oldest_ns), stop_ns)
        rotation, gravity = self._in_camera(segment)
        return ImuWindow(
            stamps_ns=segment.stamps_ns - self._offset_ns,
            gyro=segment.gyro,
            accel=segment.accel,
            measured=segment.measured,
            time_offset_ns=self._offset_ns,
            frame_id=self.frame_id,
            complete=start_ns >= oldest_ns and not self._gap(segment),
            camera_rotation=rotation if start_ns >= oldest_ns else None,
            gravity=gravity,
        )

    def _covers(self, stop_ns: int, oldest_ns: int, newest_ns: int) -> bool:
        """Whether the samples reach a frame at `stop_ns`; says so if not."""
        fresh = self._ring.total > self._total_at_window
        self._total_at_window = self._ring.total
        # Negative before the first sample (a window needs some time, hence the 1), 0 among the samples.
        apart_ns = stop_ns - oldest_ns - 1 if stop_ns <= oldest_ns else max(0, stop_ns - newest_ns)
        other_clock = abs(apart_ns) > APART_NS and fresh and newest_ns - oldest_ns > APART_NS
        self._faults.state("clock", _apart(apart_ns) if other_clock else None)
        if 0 <= apart_ns <= HOLD * (self._period_ns or 0):
            return True
        if not other_clock:
            text = "no samples at the time of a frame; is the IMU late, or has it stopped?"
            self._faults.happened("missing", text, newest_ns)
        return False

    def _gap(self, segment: Segment) -> bool:
        return self._period_ns is not None and segment.largest_step_ns > GAP * self._period_ns

    def _in_camera(self, segment: Segment) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
        """Rotation and gravity of `ImuWindow`; None without extrinsics."""
        camera_from_imu = self._camera_from_imu
        if camera_from_imu is None:
            return None, None
        first_from_last, down = self._motion.follow(self._ring, segment)
        rotation = camera_from_imu @ first_from_last.T @ camera_from_imu.T
        return rotation, None if down is None else camera_from_imu @ down


def _apart(apart_ns: int) -> str:
    side = "behind" if apart_ns > 0 else "ahead of"
    return (
        f"its stamps are {abs(apart_ns) / 1e9:.3g} s {side} the frames'; have both stamped by one clock, "
        "or set the camera-IMU time offset"
    )
