"""Recordings played at their own pace and again and again, with their IMU."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
from made_bags import MS, BagMaker
from stand_ins import Clock
from tiny_engine import picture

from m2h_runtime.clocks import epoch_ns
from m2h_runtime.errors import SourceError
from m2h_runtime.frame import Frame
from m2h_runtime.sources import BagSource, EndOfStream, ImagesSource, LoopedSource, PacedSource, Recording

if TYPE_CHECKING:
    from pathlib import Path

FIRST_NS = 1_700_000_000_000_000_000


class Stamps(Recording):
    """Frames with these stamps."""

    def __init__(self, *stamps_ns: int) -> None:
        super().__init__()
        self.stamps_ns = list(stamps_ns)
        self.closed = False
        self._sequence = 0

    def read(self, timeout_s: float) -> Frame | None:
        if not self.stamps_ns:
            raise EndOfStream
        frame = Frame(picture(0), self.stamps_ns.pop(0) + self.shift_ns, self._sequence)
        self._sequence += 1
        return frame

    def describe(self) -> str:
        return "stamps"

    def close(self) -> None:
        self.closed = True


def paced(recording: Recording, clock: Clock, restamp: bool) -> PacedSource:
    return PacedSource(recording, clock, lambda seconds: clock.forward(1e3 * seconds), restamp=restamp)


def played(source: PacedSource, clock: Clock) -> list[tuple[Frame, int]]:
    """Frames, and how many milliseconds after the first one each was released."""
    frames: list[tuple[Frame, int]] = []
    try:
        while True:
            if (frame := source.read(0.1)) is not None:
                frames.append((frame, clock()))
    except EndOfStream:
        return [(frame, round((at - frames[0][1]) / MS)) for frame, at in frames]


def test_recorded_stamps_are_kept_where_they_mean_something() -> None:
    clock = Clock()
    recording = Stamps(*(FIRST_NS + i * 50 * MS for i in range(4)))
    frames = played(paced(recording, clock, restamp=False), clock)
    assert [frame.stamp_ns for frame, _ in frames] == [FIRST_NS + i * 50 * MS for i in range(4)]
    assert [at for _, at in frames] == [0, 50, 100, 150]
    assert [frame.taken_ns for frame, _ in frames] == [10**12 + i * 50 * MS for i in range(4)]


def test_restamped_frames_have_the_time_of_their_release() -> None:
    clock = Clock()
    frames = played(paced(Stamps(0, 50 * MS, 100 * MS), clock, restamp=True), clock)
    for frame, _ in frames:
        assert frame.taken_ns is not None
        assert frame.stamp_ns == pytest.approx(epoch_ns(frame.taken_ns), abs=1e9)
    assert np.diff([frame.stamp_ns for frame, _ in frames]).tolist() == [50 * MS] * 2


@pytest.mark.parametrize("jump_s", [-100, -1, 6, 10**6], ids=["far back", "back", "ahead", "far ahead"])
@pytest.mark.parametrize("restamp", [False, True])
def test_stamps_that_jump_do_not_stall_the_recording(jump_s: int, restamp: bool) -> None:
    clock = Clock()
    after_ns = FIRST_NS + jump_s * 1000 * MS
    recording = Stamps(FIRST_NS, FIRST_NS + 50 * MS, after_ns, after_ns + 50 * MS)
    frames = played(paced(recording, clock, restamp), clock)
    assert [at for _, at in frames] == [0, 50, 50, 100]
    if restamp:
        assert np.all(np.diff([frame.stamp_ns for frame, _ in frames]) > 0), "stamps never go backwards"


def test_a_gap_of_some_seconds_is_waited_for() -> None:
    clock = Clock()
    frames = played(paced(Stamps(0, 4000 * MS), clock, restamp=True), clock)
    assert [at for _, at in frames] == [0, 4000]


@pytest.mark.parametrize("restamp", [False, True])
def test_a_recording_that_was_read_late_goes_on_from_now_and_is_never_old(restamp: bool) -> None:
    clock = Clock()

    class Slow(Stamps):
        def read(self, timeout_s: float) -> Frame | None:
            if len(self.stamps_ns) == 3:
                clock.forward(3000)
            return super().read(timeout_s)

    frames = played(paced(Slow(*(FIRST_NS + i * 50 * MS for i in range(5))), clock, restamp), clock)
    assert [at for _, at in frames] == [0, 50, 3050, 3100, 3150]
    assert [frame.taken_ns for frame, _ in frames] == [10**12 + at * MS for _, at in frames]
    if restamp:
        assert np.diff([frame.stamp_ns for frame, _ in frames])[2:].tolist() == [50 * MS] * 2
        assert frames[2][0].stamp_ns > frames[1][0].stamp_ns


# Again and again


def test_a_looped_recording_has_stamps_that_go_on_rising() -> None:
    opened: list[Stamps] = []

    def open_recording() -> Stamps:
        opened.append(Stamps(*(FIRST_NS + i * 40 * MS for i in range(3))))
        return opened[-1]

    with LoopedSource(open_recording) as source:
        frames = [source.read(1.0) for _ in range(8)]
        assert source.laps == 2
        assert [recording.closed for recording in opened] == [True, True, False]
    stamps = [frame.stamp_ns for frame in frames if frame is not None]
    assert stamps == [FIRST_NS + i * 40 * MS for i in range(8)]
    assert [frame.sequence for frame in frames if frame is not None] == list(range(8))
    assert opened[-1].closed


def test_a_recording_of_one_frame_can_be_repeated() -> None:
    source = LoopedSource(lambda: Stamps(5))
    stamps = [frame.stamp_ns for frame in (source.read(1.0) for _ in range(3)) if frame is not None]
    assert np.all(np.diff(stamps) > 0)


def test_a_recording_without_frames_is_not_repeated_for_ever() -> None:
    with pytest.raises(SourceError, match="stamps: has no frame to repeat"):
        LoopedSource(Stamps).read(1.0)


def test_looped_photographs_at_their_own_pace(photographs: Path) -> None:
    clock = Clock()
    source = paced(LoopedSource(partial(ImagesSource, str(photographs / "*.png"))), clock, restamp=True)
    frames: list[Frame] = []
    while len(frames) < 10:
        if (frame := source.read(0.1)) is not None:
            frames.append(frame)
    assert [frame.name for frame in frames] == [f"photo_{i % 4}.png" for i in range(10)]
    assert np.diff([frame.stamp_ns for frame in frames]).tolist() == [100 * MS] * 9
    assert source.describe().endswith("4 files, again and again, played at its own pace")


# With an IMU


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """Ten frames, 50 ms apart; the IMU's 200 Hz begin 0.1 s before them and end 0.4 s after them."""
    maker = BagMaker("mcap")
    for index in range(10):
        maker.image("/image", FIRST_NS + index * 50 * MS, picture(index))
    for index in range(190):
        maker.imu("/imu", FIRST_NS + (5 * index - 100) * MS, 0.1)
    return maker.write(tmp_path)


def test_the_imu_goes_round_with_the_frames(bag: Path) -> None:
    said: list[str | None] = []
    with LoopedSource(partial(BagSource, bag, imu_health=said.append)) as source:
        assert source.imu is not None
        before: Frame | None = None
        for index in range(35):
            frame = source.read(1.0)
            assert frame is not None
            assert frame.stamp_ns == FIRST_NS + index * 50 * MS
            if before is not None:
                window = source.imu.window(before.stamp_ns, frame.stamp_ns)
                assert window is not None
                assert window.stamps_ns[-1] == frame.stamp_ns
                assert window.gyro[-1, 2] == pytest.approx(0.1)
                if index % 10 != 0:  # nobody knows the motion from a recording's last frame to its first
                    assert window.complete
            before = frame
    assert [text for text in said if text is not None] == []
    assert source.skipped == {}


@pytest.mark.parametrize("restamp", [False, True])
def test_imu_stamps_stay_with_those_of_the_frames(bag: Path, restamp: bool) -> None:
    clock = Clock()
    said: list[str | None] = []
    source = paced(BagSource(bag, imu_health=said.append), clock, restamp)
    assert source.imu is not None
    before: Frame | None = None
    windows = 0
    try:
        while True:
            if (frame := source.read(0.1)) is None:
                continue
            if before is not None:
                window = source.imu.window(before.stamp_ns, frame.stamp_ns)
                assert window is not None
                assert window.stamps_ns[-1] == frame.stamp_ns
                windows += window.complete
            before = frame
    except EndOfStream:
        pass
    assert windows >= (8 if restamp else 9)
    assert [text for text in said if text is not None] == []


def test_the_last_frame_of_a_lap_has_its_motion_although_the_next_lap_was_opened(bag: Path) -> None:
    said: list[str | None] = []
    clock = Clock()
    source = paced(LoopedSource(partial(BagSource, bag, imu_health=said.append)), clock, restamp=False)
    assert source.imu is not None
    frames: list[Frame] = []
    while len(frames) < 12:
        if (frame := source.read(0.001)) is not None:
            frames.append(frame)
    last = source.imu.window(frames[8].stamp_ns, frames[9].stamp_ns)
    assert last is not None and last.complete
    assert [text for text in said if text is not None] == []
