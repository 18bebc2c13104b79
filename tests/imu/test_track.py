"""Windows: what is in them, and where they begin and end."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from m2h_runtime.imu.ring import Ring
from m2h_runtime.imu.track import ImuCalibration, ImuTrack

if TYPE_CHECKING:
    from m2h_runtime.imu.window import ImuWindow

PERIOD = 5_000_000
START = 1_700_000_000_000_000_000


def reading(stamp_ns: int) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """A straight line in time, so that interpolation has one right answer."""
    t = (stamp_ns - START) * 1e-9
    return (t, -2 * t, 0.5), (0.1 * t, 0.0, 9.81)


def fed(count: int = 101, calibration: ImuCalibration | None = None, seconds: float = 10.0) -> ImuTrack:
    """Samples at START, START + PERIOD, ..."""
    track = ImuTrack(calibration or ImuCalibration(), seconds=seconds)
    for i in range(count):
        track.push(START + i * PERIOD, *reading(START + i * PERIOD))
    return track


def cut(track: ImuTrack, from_ns: int, to_ns: int) -> ImuWindow:
    """The window between two times after START."""
    window = track.window(START + from_ns, START + to_ns)
    assert window is not None
    return window


def test_window_has_all_samples_and_one_on_each_stamp() -> None:
    window = cut(fed(), 12_000_000, 31_000_000)
    after = (window.stamps_ns - START).tolist()
    assert after == [12_000_000, 15_000_000, 20_000_000, 25_000_000, 30_000_000, 31_000_000]
    assert window.measured.tolist() == [False, True, True, True, True, False]
    for stamp, gyro, accel in zip(window.stamps_ns, window.gyro, window.accel, strict=True):
        want_gyro, want_accel = reading(int(stamp))
        assert gyro == pytest.approx(want_gyro, abs=1e-12)
        assert accel == pytest.approx(want_accel, abs=1e-12)
    assert window.complete
    assert window.camera_rotation is None
    assert window.gravity is None


def test_stamp_that_a_sample_has_gets_this_very_sample() -> None:
    window = cut(fed(), 10_000_000, 20_000_000)
    assert (window.stamps_ns - START).tolist() == [10_000_000, 15_000_000, 20_000_000]
    assert window.measured.all()
    assert tuple(window.gyro[0]) == reading(START + 10_000_000)[0]
    assert tuple(window.gyro[2]) == reading(START + 20_000_000)[0]


def test_window_shorter_than_the_time_between_samples_is_interpolated_at_both_ends() -> None:
    window = cut(fed(), 11_000_000, 13_000_000)
    assert (window.stamps_ns - START).tolist() == [11_000_000, 13_000_000]
    assert not window.measured.any()
    assert window.gyro[:, 0] == pytest.approx((0.011, 0.013), abs=1e-12)


def test_windows_one_after_the_other_have_every_sample_once() -> None:
    track = fed()
    frames = range(0, 500_000_001, 33_333_333)
    measured = [
        window.stamps_ns[window.measured]
        for one, other in itertools.pairwise(frames)
        if (window := cut(track, one, other))
    ]
    assert np.unique(np.concatenate(measured)).tolist() == [START + i * PERIOD for i in range(100)]


def test_time_offset_has_the_sign_of_kalibr() -> None:
    """Kalibr: t_imu = t_cam + shift. A camera that stamps 8 ms late has shift -8 ms."""
    event_ns = 100_000_000  # when it really happened, and so said the IMU
    camera_ns = event_ns + 8_000_000  # what the camera said
    track = fed(calibration=ImuCalibration(time_offset_s=-0.008))
    window = cut(track, camera_ns, camera_ns + 10_000_000)
    assert window.gyro[0] == pytest.approx(reading(START + event_ns)[0], abs=1e-12)
    assert int(window.stamps_ns[0]) == START + camera_ns
    assert window.time_offset_ns == -8_000_000
    assert int(window.stamps_ns[0]) + window.time_offset_ns == START + event_ns
    assert track.newest_ns == START + 100 * PERIOD + 8_000_000


def test_newest_sample_is_held_for_two_and_a_half_periods() -> None:
    track = fed()
    window = cut(track, 480_000_000, 512_500_000)
    assert window.complete
    assert not window.measured[-1]
    assert tuple(window.gyro[-1]) == reading(START + 100 * PERIOD)[0]
    assert track.window(START + 480_000_000, START + 512_500_001) is None


def test_both_stamps_after_the_newest_sample_are_held_as_well() -> None:
    window = cut(fed(), 503_000_000, 507_000_000)
    assert (window.gyro == reading(START + 100 * PERIOD)[0]).all()


def test_there_is_no_window_before_the_first_frame() -> None:
    track = fed()
    assert track.window(None, START + 100_000_000) is None
    assert track.window(START + 100_000_000, START + 100_000_000) is None
    assert track.window(START + 200_000_000, START + 100_000_000) is None
    assert track.counts == {}


def test_window_that_reaches_before_the_first_sample_is_shortened() -> None:
    calibration = ImuCalibration(np.eye(4))
    window = cut(fed(calibration=calibration), -20_000_000, 12_000_000)
    assert (window.stamps_ns - START).tolist() == [0, 5_000_000, 10_000_000, 12_000_000]
    assert not window.complete
    assert window.camera_rotation is None  # it would be that of another time
    assert cut(fed(calibration=calibration), 0, 12_000_000).camera_rotation is not None


@pytest.mark.parametrize("from_ns", [-20_000_000, -1])
def test_frame_on_or_before_the_first_sample_has_no_window(from_ns: int) -> None:
    for count in (1, 50):
        track = fed(count)
        assert track.window(START + from_ns, START) is None
        assert track.counts["missing"] == 1


def test_old_samples_make_room() -> None:
    track = fed(450, ImuCalibration(), seconds=0.1)  # room for 101, at most 202 are kept
    window = cut(track, 0, 449 * PERIOD)
    assert not window.complete
    assert 101 <= len(window.stamps_ns) <= 202
    assert window.measured.all()
    assert (np.diff(window.stamps_ns) == PERIOD).all()


def test_a_window_stays_when_the_track_goes_on() -> None:
    track = fed(150, seconds=0.1)
    window = cut(track, 140 * PERIOD, 149 * PERIOD)
    before = window.gyro.copy()
    for i in range(150, 1000):
        track.push(START + i * PERIOD, (9.0, 9.0, 9.0), (9.0, 9.0, 9.0))
    assert (window.gyro == before).all()
    with pytest.raises(ValueError, match="read-only"):
        window.gyro[0] = 0.0


def test_ring_keeps_the_newest_in_order_whatever_its_length() -> None:
    for capacity in (1, 2, 7):
        ring = Ring(capacity)
        for stamp in range(50):
            ring.append(stamp, (float(stamp),) * 6)
            stamps, values = ring.latest(capacity)
            assert stamps.tolist() == list(range(max(0, stamp + 1 - capacity), stamp + 1))
            assert values[:, 0].tolist() == stamps.tolist()


def test_reset_forgets_samples_and_bias() -> None:
    track = ImuTrack(ImuCalibration(np.eye(4)))
    for i in range(401):
        track.push(i * PERIOD, (0.01, 0.0, 0.0), (0.0, -9.81, 0.0))
    assert track.window(0, 400 * PERIOD) is not None
    assert track.gyro_bias == pytest.approx((0.01, 0.0, 0.0))
    assert track.rate_hz == pytest.approx(200.0)
    track.reset()
    assert track.newest_ns is None
    assert track.gyro_bias is None
    assert track.rate_hz is None
    track.push(7, (0.0, 0.0, 0.0), (0.0, 0.0, 9.81))  # another clock is no jump now
    assert track.counts == {}


def test_windows_are_whole_while_another_thread_pushes() -> None:
    """Every window must lie on the line that is pushed, also when the ring moves its samples."""
    track = ImuTrack(ImuCalibration(np.eye(4)))
    ended = threading.Event()

    def push() -> None:
        try:
            for i in range(60_000):
                track.push(START + i * PERIOD, ((i % 5000) * 1e-3, 0.0, 0.0), (0.0, 0.0, 9.81))
        finally:
            ended.set()

    thread = threading.Thread(target=push)
    thread.start()
    windows = 0
    while not ended.is_set():
        newest_ns = track.newest_ns
        if newest_ns is None or newest_ns < START + 20 * PERIOD:
            continue
        window = track.window(newest_ns - 14 * PERIOD - 1_000_000, newest_ns - 1_000_000)
        assert window is not None
        count = (window.stamps_ns[window.measured] - START) // PERIOD % 5000 * 1e-3
        assert window.gyro[window.measured][:, 0] == pytest.approx(count, abs=1e-12)
        assert window.complete
        windows += 1
    thread.join()
    assert windows > 10
    assert track.newest_ns == START + 59_999 * PERIOD
    assert track.counts == {}


def test_parted_samples_do_not_join_and_frames_from_before_keep_their_window() -> None:
    said: list[str | None] = []
    turned = ImuCalibration(np.eye(4))
    track = ImuTrack(turned, said.append)
    for i in range(61):
        track.push(START + i * PERIOD, *reading(START + i * PERIOD))
    track.part()
    for i in range(20, 120):  # up to the 60th there is something already
        track.push(START + i * PERIOD, (9.0, 0.0, 0.0), (0.0, 0.0, 9.81))
    before = cut(track, 20 * PERIOD, 60 * PERIOD)
    assert before.complete and before.camera_rotation is not None
    assert before.gyro[:, 1].tolist() == [reading(int(stamp))[0][1] for stamp in before.stamps_ns]
    across = cut(track, 60 * PERIOD, 70 * PERIOD)
    assert across.stamps_ns[0] == START + 61 * PERIOD
    assert not across.complete and across.camera_rotation is None
    after = cut(track, 70 * PERIOD, 80 * PERIOD)
    assert after.complete and after.camera_rotation is not None
    assert said == []
