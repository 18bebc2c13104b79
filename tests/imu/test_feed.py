"""Samples on their way out: each once, whatever happens to the frames."""

from __future__ import annotations

import pytest

from m2h_runtime.imu.feed import ImuFeed
from m2h_runtime.imu.track import ImuCalibration, ImuTrack

MS = 1_000_000
IMU, FRAME = 5 * MS, 33 * MS


@pytest.mark.parametrize("late_ms", [0, 2, 6, 11, 40])
@pytest.mark.parametrize("every", [1, 3])
def test_each_sample_goes_out_once_however_late_it_is_and_however_many_frames_are_missed(
    late_ms: int, every: int
) -> None:
    track, feed = ImuTrack(ImuCalibration(time_offset_s=0.003)), ImuFeed()
    out: list[int] = []
    pushed = 0
    for frame in range(1, 61):
        while pushed * IMU <= frame * FRAME - late_ms * MS:
            track.push(pushed * IMU + 3 * MS, (0.0, 0.0, 0.0), (0.0, 0.0, 9.8))
            pushed += 1
        if frame % every == 0 and (samples := feed.new(track, frame * FRAME)) is not None:
            assert samples.measured.all()
            out += samples.stamps_ns.tolist()
    first, last = every * FRAME, min(60 * FRAME, (pushed - 1) * IMU)
    assert out == [stamp for stamp in range(0, last + 1, IMU) if stamp > first]


def test_a_recording_that_starts_over_begins_anew() -> None:
    track, feed = ImuTrack(), ImuFeed()
    for start in (1000 * MS, 0):
        for index in range(20):
            track.push(start + index * IMU, (0.0, 0.0, 0.0), (0.0, 0.0, 9.8))
        assert feed.new(track, start + 10 * IMU) is None
        samples = feed.new(track, start + 12 * IMU)
        assert samples is not None
        assert samples.stamps_ns.tolist() == [start + 11 * IMU, start + 12 * IMU]
