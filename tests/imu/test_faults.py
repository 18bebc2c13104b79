"""What goes wrong with IMUs on robots: it is survived, counted, said once, and taken back once it is over."""

from __future__ import annotations

import math

import numpy as np
import pytest

from m2h_runtime.imu.track import ImuCalibration, ImuTrack

PERIOD = 5_000_000
SECOND = 1_000_000_000
REST = (0.0, 0.0, 9.81)
SLOW = (0.1, 0.0, 0.0)


class Rig:
    """A track, what it reports, and an IMU at 200 Hz whose clock is `now_ns`."""

    def __init__(self, calibration: ImuCalibration | None = None) -> None:
        self.reports: list[str | None] = []
        self.track = ImuTrack(calibration or ImuCalibration(), self.reports.append)
        self.now_ns = 1_000 * SECOND

    def run(self, seconds: float, period_ns: int = PERIOD, accel: tuple[float, float, float] = REST) -> None:
        for _ in range(round(seconds * SECOND / period_ns)):
            self.now_ns += period_ns
            self.track.push(self.now_ns, SLOW, accel)

    @property
    def counts(self) -> dict[str, int]:
        return self.track.counts

    def said_once_and_taken_back(self, *words: str) -> None:
        assert len(self.reports) == 2, self.reports
        text, end = self.reports
        assert text is not None
        assert end is None
        assert all(word in text for word in words), text
        assert "\n" not in text


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.run(2.0)
    assert rig.reports == []
    return rig


def test_healthy_imu_is_not_spoken_of(rig: Rig) -> None:
    rig.run(30.0)
    assert rig.reports == []
    assert rig.counts == {}
    assert rig.track.rate_hz == pytest.approx(200.0)


def test_jitter_is_no_fault() -> None:
    rig = Rig()
    jitter = np.random.default_rng(0).uniform(-0.45, 0.45, 4000)
    for i in range(4000):
        rig.track.push(rig.now_ns + round((i + jitter[i]) * PERIOD), SLOW, REST)
    assert rig.counts == {}


def test_gap_is_counted_and_the_window_over_it_says_so(rig: Rig) -> None:
    before = rig.now_ns
    rig.now_ns += 39_000_000
    rig.run(3.0)
    assert rig.counts == {"gap": 1}
    rig.said_once_and_taken_back("44 ms", "5 ms are usual")
    over = rig.track.window(before - 20_000_000, before + 60_000_000)
    after = rig.track.window(before + 60_000_000, before + 90_000_000)
    within = rig.track.window(before + 10_000_000, before + 20_000_000)
    assert over is not None
    assert not over.complete
    assert after is not None
    assert after.complete
    assert within is not None
    assert not within.complete  # all of it is guessed


def test_three_periods_are_no_gap_yet(rig: Rig) -> None:
    rig.now_ns += 2 * PERIOD
    rig.run(1.0)
    assert rig.counts == {}


def test_duplicates_are_dropped(rig: Rig) -> None:
    for _ in range(100):
        rig.run(0.005)
        rig.track.push(rig.now_ns, SLOW, REST)
    assert rig.counts == {"duplicate": 100}
    rig.run(3.0)
    rig.said_once_and_taken_back("published twice")
    window = rig.track.window(rig.now_ns - 3 * SECOND, rig.now_ns)
    assert window is not None
    assert (np.diff(window.stamps_ns) == PERIOD).all()


def test_samples_that_come_late_are_dropped(rig: Rig) -> None:
    for _ in range(20):
        rig.run(0.005)
        rig.track.push(rig.now_ns - 12_000_000, SLOW, REST)
    rig.run(3.0)
    assert rig.counts == {"out of order": 20}
    rig.said_once_and_taken_back("after a later one")


def test_bag_that_loops_starts_anew(rig: Rig) -> None:
    rig.run(20.0)
    end = rig.now_ns
    rig.now_ns -= 20 * SECOND
    rig.run(0.5)
    assert rig.counts == {"jump back": 1}
    assert rig.track.newest_ns == rig.now_ns
    assert rig.track.window(end - 40_000_000, rig.now_ns) is None  # from the old time into the new
    window = rig.track.window(rig.now_ns - 40_000_000, rig.now_ns)
    assert window is not None
    assert window.complete
    rig.run(3.0)
    rig.said_once_and_taken_back("jumped back by 20 s")


def test_frames_of_the_old_time_do_not_raise_another_alarm(rig: Rig) -> None:
    """They still lie in the queue when the bag loops."""
    end = rig.now_ns
    rig.now_ns -= SECOND
    rig.run(0.1)
    assert rig.track.window(end - 30_000_000, end) is None
    assert "clock" not in rig.counts


def test_jump_ahead_starts_anew(rig: Rig) -> None:
    before = rig.now_ns
    rig.now_ns += 3 * SECOND
    rig.run(0.1)
    window = rig.track.window(before, rig.now_ns)
    assert window is not None
    assert not window.complete
    assert len(window.stamps_ns) == 20
    rig.run(3.0)
    assert rig.counts == {"jump ahead": 1}
    rig.said_once_and_taken_back("jumped ahead by 3 s")


def test_one_mad_stamp_costs_the_past_but_not_the_future(rig: Rig) -> None:
    rig.track.push(rig.now_ns * 1000, SLOW, REST)
    rig.run(3.0)
    assert rig.counts == {"jump ahead": 1, "jump back": 1}
    assert rig.reports[-1] is None
    assert rig.track.window(rig.now_ns - SECOND, rig.now_ns) is not None


@pytest.mark.parametrize(
    ("stamp", "gyro", "accel"),
    [
        (None, (math.nan, 0.0, 0.0), REST),
        (None, SLOW, (0.0, math.inf, 0.0)),
        (None, (0.0, 51.0, 0.0), REST),
        (None, SLOW, (0.0, 0.0, 201.0)),
        (None, (0.0, 0.0), REST),
        (None, SLOW, ()),
        (None, None, REST),
        (None, SLOW, ("a", "b", "c")),
        (1.5e18, SLOW, REST),
        (1 << 70, SLOW, REST),
        (math.nan, SLOW, REST),
    ],
    ids=str,
)
def test_impossible_samples_are_dropped_and_nothing_is_raised(
    rig: Rig, stamp: object, gyro: object, accel: object
) -> None:
    rig.track.push(rig.now_ns + 1 if stamp is None else stamp, gyro, accel)  # type: ignore[arg-type]
    assert rig.track.newest_ns == rig.now_ns
    assert rig.counts == {"invalid": 1}
    rig.run(3.0)
    assert rig.counts == {"invalid": 1}
    rig.said_once_and_taken_back("impossible")


def test_invalid_before_the_first_sample_is_survived() -> None:
    rig = Rig()
    rig.track.push(0, (math.nan,) * 3, REST)
    assert rig.track.newest_ns is None
    assert rig.track.window(0, 10) is None
    rig.run(1.0)
    assert rig.counts == {"invalid": 1, "silent": 1}


def test_numpy_scalars_and_arrays_are_fine(rig: Rig) -> None:
    rig.track.push(np.int64(rig.now_ns + PERIOD), np.zeros(3, np.float32), np.ones(3))  # type: ignore[arg-type]
    assert rig.track.newest_ns == rig.now_ns + PERIOD


def test_no_imu_at_all_is_said_until_it_comes() -> None:
    rig = Rig()
    for i in range(30):
        assert rig.track.window(rig.now_ns + i * 33_000_000, rig.now_ns + (i + 1) * 33_000_000) is None
    assert rig.counts == {"silent": 1}
    rig.run(2.0)
    assert rig.track.window(rig.now_ns - 33_000_000, rig.now_ns) is not None
    rig.said_once_and_taken_back("no sample has come")


def test_imu_that_stops_is_said_and_so_is_its_return(rig: Rig) -> None:
    frame = rig.now_ns
    for _ in range(150):  # five seconds of frames
        frame += 33_000_000
        rig.track.window(frame - 33_000_000, frame)
    assert set(rig.counts) == {"missing"}
    assert len(rig.reports) == 1
    assert rig.reports[0] is not None
    assert "has it stopped" in rig.reports[0]
    rig.now_ns = frame
    for _ in range(100):
        rig.run(0.035)
        rig.track.window(rig.now_ns - 33_000_000, rig.now_ns)
    assert rig.counts["jump ahead"] == 1
    assert rig.reports[-1] is None
    assert len(rig.reports) == 3


def test_imu_that_is_late_has_no_window_and_is_said_once(rig: Rig) -> None:
    for _ in range(60):
        rig.run(0.035)
        assert rig.track.window(rig.now_ns, rig.now_ns + 30_000_000) is None  # the frames are 30 ms ahead
    assert rig.counts == {"missing": 60}
    assert len(rig.reports) == 1
    rig.run(3.0)
    rig.said_once_and_taken_back("late")


@pytest.mark.parametrize(("apart_s", "word"), [(1.0e9, "behind"), (-900.0, "ahead of")])
def test_another_clock_is_recognised(rig: Rig, apart_s: float, word: str) -> None:
    """One stamps since boot, the other since 1970."""
    apart_ns = round(apart_s * SECOND)
    for _ in range(60):
        rig.run(0.035)
        assert rig.track.window(rig.now_ns + apart_ns, rig.now_ns + apart_ns + 33_000_000) is None
    assert rig.counts == {"clock": 1}
    assert rig.track.window(rig.now_ns - 33_000_000, rig.now_ns) is not None
    rig.said_once_and_taken_back(word, "time offset")


def test_double_rate_in_mid_stream_is_said(rig: Rig) -> None:
    rig.run(3.0, period_ns=PERIOD // 2)
    assert rig.counts == {"rate": 1}
    assert rig.track.rate_hz == pytest.approx(400.0)
    rig.run(3.0)
    rig.said_once_and_taken_back("400 samples a second instead of 200", "published twice")


def test_two_drivers_whose_stamps_alternate_are_said_and_are_no_gaps() -> None:
    rig = Rig(ImuCalibration(nominal_rate_hz=200.0))
    for _ in range(600):
        rig.run(0.001, period_ns=1_000_000)
        rig.run(0.004, period_ns=4_000_000)
    assert rig.counts == {"rate": 1}
    assert rig.track.rate_hz == pytest.approx(400.0)
    assert rig.reports[0] is not None
    assert "two drivers" in rig.reports[0]


def test_rate_that_falls_is_said(rig: Rig) -> None:
    rig.run(6.0, period_ns=2 * PERIOD)
    assert rig.counts == {"rate": 1}
    assert rig.reports == [
        "100 samples a second instead of 200; is the driver overloaded, or set to another rate?"
    ]


def test_accelerometer_in_g_is_recognised() -> None:
    rig = Rig()
    rig.run(2.0, accel=(0.0, 0.1, 0.99))
    assert rig.counts == {"accelerometer": 1}
    assert rig.reports[0] is not None
    assert "in g; multiply by 9.80665" in rig.reports[0]
    rig.run(2.0)
    assert rig.reports[-1] is None


def test_accelerometer_without_gravity_is_recognised() -> None:
    rig = Rig()
    rig.run(2.0, accel=(0.02, 0.1, 0.01))
    assert rig.reports[0] is not None
    assert "removes gravity" in rig.reports[0]


def test_two_faults_are_one_line_and_end_one_by_one(rig: Rig) -> None:
    rig.track.push(rig.now_ns, SLOW, REST)
    rig.run(1.0)
    rig.track.push(rig.now_ns + 1, (math.nan,) * 3, REST)
    rig.run(1.5)
    rig.run(1.5)
    first, both, second, end = rig.reports
    assert first is not None
    assert second is not None
    assert both == f"{first}; {second}"
    assert end is None


def test_reset_takes_reports_back(rig: Rig) -> None:
    rig.track.push(rig.now_ns, SLOW, REST)
    rig.track.reset()
    rig.said_once_and_taken_back("published twice")
    assert rig.counts == {"duplicate": 1}


def test_health_may_ask_the_track_back() -> None:
    """It is called outside the track's lock."""
    counts: list[dict[str, int]] = []
    track = ImuTrack(health=lambda _: counts.append(track.counts))
    track.push(1, SLOW, REST)
    track.push(1, SLOW, REST)
    assert counts == [{"duplicate": 1}]
