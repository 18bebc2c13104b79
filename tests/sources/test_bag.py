"""Bags of every kind, whole and broken, made by rosbags."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from made_bags import FORMATS, MS, START_NS, BagMaker, jpeg, png
from tiny_engine import picture

from m2h_runtime.errors import SourceError
from m2h_runtime.imu.calibration import ImuCalibration
from m2h_runtime.imu.track import ImuTrack
from m2h_runtime.sources import BagSource, BagTopics, EndOfStream

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from made_bags import Format

    from m2h_runtime.frame import Frame

COLOR, COMPRESSED = "/camera/color/image_raw", "/camera/color/image_raw/compressed"
INFO, IMU = "/camera/color/camera_info", "/imu/data"
SIZE = (64, 96)
FRAMES = 12


def stamp(index: int) -> int:
    """Frames are 50 ms apart; the first is 20 ms after the bag's start."""
    return START_NS + 20 * MS + index * 50 * MS


def read_all(source: BagSource, on_frame: Callable[[Frame], None] = lambda _: None) -> list[Frame]:
    frames: list[Frame] = []
    try:
        while True:
            frame = source.read(1.0)
            assert frame is not None, "a recording never makes its reader wait"
            on_frame(frame)
            frames.append(frame)
    except EndOfStream:
        return frames


def walk(kind: Format, imu_late_ms: int = 0, imu_until: int = FRAMES) -> BagMaker:
    """Colour, camera_info and an IMU of 200 Hz that turns ever faster; beside it depth, as cameras have it."""
    maker = BagMaker(kind)
    for index in range(FRAMES):
        maker.image(COLOR, stamp(index), picture(index))
        maker.camera_info(INFO, stamp(index), SIZE, 80.0)
        maker.image("/camera/depth/image_raw", stamp(index), picture(0), encoding="16UC1")
    for index in range(FRAMES * 10 + 10):
        at = START_NS + index * 5 * MS
        if at <= stamp(imu_until):
            maker.imu(IMU, at, 0.01 * index, at + imu_late_ms * MS)
    return maker


@pytest.mark.parametrize("kind", FORMATS)
def test_every_kind_of_bag_gives_images_intrinsics_and_motion(tmp_path: Path, kind: Format) -> None:
    said: list[str | None] = []
    windows: list[Any] = []
    with BagSource(walk(kind).write(tmp_path), health=said.append, imu_health=said.append) as source:
        assert (source.topics.image, source.topics.camera_info, source.topics.imu) == (COLOR, INFO, IMU)
        assert not source.live
        assert source.fps == pytest.approx(20, rel=0.15)
        track = source.imu
        assert track is not None
        frames = read_all(
            source,
            lambda frame: windows.append(track.window(frame.stamp_ns - 50 * MS, frame.stamp_ns)),
        )
        assert f"{COLOR}, {FRAMES} images" in source.describe()
    assert [frame.stamp_ns for frame in frames] == [stamp(i) for i in range(FRAMES)]
    assert [frame.sequence for frame in frames] == list(range(FRAMES))
    for index, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.image, picture(index))
        assert frame.frame_id == "eye"
        assert frame.camera is not None
        assert (frame.camera.fx, frame.camera.cx, frame.camera.distortion[0]) == (80.0, 48.0, 0.1)
    for index, window in list(enumerate(windows))[1:]:
        assert window is not None
        assert (window.complete, window.frame_id) == (True, "imu")
        assert (window.stamps_ns[0], window.stamps_ns[-1]) == (stamp(index - 1), stamp(index))
        np.testing.assert_allclose(
            window.gyro[:, 2], 0.01 * (window.stamps_ns - START_NS) / (5 * MS), atol=1e-9
        )
    assert source.skipped == {}
    assert said == []


def test_a_bag_of_humble_without_message_definitions_is_read(tmp_path: Path) -> None:
    (storage,) = walk("sqlite3").write(tmp_path).glob("*.db3")
    with sqlite3.connect(storage) as database:
        database.execute("DELETE FROM message_definitions")
    with BagSource(storage) as source:
        assert len(read_all(source)) == FRAMES


def test_closing_twice_and_opening_again(tmp_path: Path) -> None:
    path = walk("mcap").write(tmp_path)
    for _ in range(2):
        source = BagSource(path)
        source.read(1.0)
        source.close()
        source.close()


def test_a_frame_waits_for_the_samples_up_to_its_stamp(tmp_path: Path) -> None:
    """The IMU's messages come 60 ms late, behind the next image."""
    with BagSource(walk("mcap", imu_late_ms=60).write(tmp_path)) as source:

        def check(frame: Frame) -> None:
            assert source.imu is not None
            assert source.imu.newest_ns is not None
            assert source.imu.newest_ns >= frame.stamp_ns

        assert len(read_all(source, check)) == FRAMES


def test_an_imu_that_falls_silent_does_not_hold_the_frames(tmp_path: Path) -> None:
    with BagSource(walk("mcap", imu_until=3).write(tmp_path)) as source:
        assert len(read_all(source)) == FRAMES


def test_the_imus_time_offset_counts_for_the_waiting(tmp_path: Path) -> None:
    """The IMU's clock is 30 ms ahead: a sample stamped 30 ms after the frame is of the frame's time."""
    track = ImuTrack(ImuCalibration(time_offset_s=0.030))
    with BagSource(walk("mcap").write(tmp_path), imu=track) as source:
        first = source.read(1.0)
        assert first is not None
        assert source.imu is track
        assert track.newest_ns is not None
        assert track.newest_ns >= first.stamp_ns


def test_camera_info_is_that_of_the_frames_time(tmp_path: Path) -> None:
    """The zoom moves before frame 2; the messages come after their images."""
    maker = BagMaker("mcap")
    for index in range(4):
        maker.image(COLOR, stamp(index), picture(index))
        maker.camera_info(INFO, stamp(index), SIZE, 80.0 if index < 2 else 90.0)
        maker.imu(IMU, stamp(index) + 10 * MS, 0.0)
    with BagSource(maker.write(tmp_path)) as source:
        focal = [frame.camera.fx for frame in read_all(source) if frame.camera is not None]
    assert focal == [80, 80, 90, 90]


def test_intrinsics_of_another_size_are_left_out_aloud(tmp_path: Path) -> None:
    maker = BagMaker("mcap")
    maker.camera_info(INFO, stamp(0), (480, 640), 500.0)
    for index in range(3):
        maker.image(COLOR, stamp(index), picture(index))
    said: list[str | None] = []
    with BagSource(maker.write(tmp_path), health=said.append) as source:
        assert [frame.camera for frame in read_all(source)] == [None] * 3
    assert len(said) == 1
    assert "is for 640x480, the images are 96x64" in str(said[0])


def test_an_uncalibrated_camera_has_no_model(tmp_path: Path) -> None:
    maker = BagMaker("mcap")
    maker.camera_info(INFO, stamp(0), SIZE, 0.0)
    maker.image(COLOR, stamp(0), picture(0))
    with BagSource(maker.write(tmp_path)) as source:
        assert [frame.camera for frame in read_all(source)] == [None]


def test_without_header_stamps_the_log_time_counts(tmp_path: Path) -> None:
    maker = BagMaker("mcap")
    for index in range(3):
        maker.image(COLOR, 0, picture(index), log_ns=stamp(index), frame_id="")
    with BagSource(maker.write(tmp_path)) as source:
        frames = read_all(source)
    assert [frame.stamp_ns for frame in frames] == [stamp(i) for i in range(3)]
    assert {frame.frame_id for frame in frames} == {"camera_optical_frame"}


def test_a_shift_moves_frames_and_samples_alike(tmp_path: Path) -> None:
    with BagSource(walk("mcap").write(tmp_path)) as source:
        source.shift_ns = 7_000_000_000
        frames = read_all(source)
        assert source.imu is not None
        assert source.imu.newest_ns == START_NS + (FRAMES * 10 + 4) * 5 * MS + 7_000_000_000
    assert frames[0].stamp_ns == stamp(0) + 7_000_000_000


# What is broken


@pytest.mark.parametrize("bad", [jpeg(picture(4))[:200], b"", b"no image" * 30], ids=["cut", "empty", "text"])
def test_a_corrupt_jpeg_is_passed_over_and_counted(tmp_path: Path, bad: bytes) -> None:
    maker = BagMaker("mcap")
    for index in range(8):
        maker.compressed(COMPRESSED, stamp(index), bad if index in (3, 4) else jpeg(picture(index)))
    said: list[str | None] = []
    with BagSource(maker.write(tmp_path), health=said.append) as source:
        frames = read_all(source)
    assert [frame.stamp_ns for frame in frames] == [stamp(i) for i in (0, 1, 2, 5, 6, 7)]
    assert source.skipped == {"undecodable image": 2}
    assert len(said) == 2, "two images, one trouble"
    assert "undecodable image" in str(said[0])
    assert said[1] is None


def test_a_compressed_png_is_exact(tmp_path: Path) -> None:
    maker = BagMaker("ros1")
    maker.compressed(COMPRESSED, stamp(0), png(picture(5)), "png")
    with BagSource(maker.write(tmp_path)) as source:
        np.testing.assert_array_equal(read_all(source)[0].image, picture(5))


def overwritten(path: Path, share: float, size: int = 20_000) -> Path:
    """Destroy `size` bytes of a file."""
    data = bytearray(path.read_bytes())
    start = round(len(data) * share)
    data[start : start + size] = bytes((7 * i) % 251 for i in range(size))
    path.write_bytes(data)
    return path


def long_walk(kind: Format) -> BagMaker:
    """6 s of noise: several chunks, in which every byte counts."""
    rng = np.random.default_rng(1)
    maker = BagMaker(kind)
    for index in range(120):
        maker.image(COLOR, stamp(index), rng.integers(0, 16, (96, 128, 3)).astype(np.uint8))
    return maker


@pytest.mark.parametrize("kind", ["ros1", "lone-mcap"])
def test_a_broken_chunk_costs_what_was_in_it(tmp_path: Path, kind: Format) -> None:
    path = long_walk(kind).write(tmp_path, compressed=True)
    overwritten(path, 0.5)
    said: list[str | None] = []
    with BagSource(path, health=said.append) as source:
        stamps = [frame.stamp_ns for frame in read_all(source)]
    assert stamps[0] == stamp(0)
    assert stamps[-1] == stamp(119)
    assert np.all(np.diff(stamps) > 0)
    assert 60 < len(stamps) < 120
    assert source.skipped == {"unreadable stretch of the bag": 1}
    assert said[0] is not None
    assert "unreadable stretch" in said[0]
    assert said[1:] == [None]


def test_a_message_that_cannot_be_parsed_is_passed_over(tmp_path: Path) -> None:
    folder = walk("sqlite3").write(tmp_path)
    (storage,) = folder.glob("*.db3")
    with sqlite3.connect(storage) as database:
        (topic,) = database.execute("SELECT id FROM topics WHERE name = ?", (COLOR,)).fetchone()
        database.execute(
            "UPDATE messages SET data = substr(data, 1, 30) WHERE topic_id = ? AND timestamp = ?",
            (topic, stamp(5)),
        )
    with BagSource(folder) as source:
        frames = read_all(source)
    assert len(frames) == FRAMES - 1
    assert source.skipped == {"unreadable message": 1}


def test_a_bag_whose_data_are_all_broken_is_an_error(tmp_path: Path) -> None:
    path = overwritten(walk("lone-mcap").write(tmp_path, compressed=True), 0.02, 50_000)
    with pytest.raises(SourceError, match="cannot be read as a bag") as error, BagSource(path) as source:
        read_all(source)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "repair"),
    [("made.mcap", "mcap recover"), ("made.bag", "rosbag reindex"), ("made", "ros2 bag reindex")],
)
@pytest.mark.parametrize("content", [b"", b"no bag at all" * 100], ids=["empty", "text"])
def test_what_is_no_bag_is_named_with_what_may_repair_it(
    tmp_path: Path, name: str, repair: str, content: bytes
) -> None:
    path = tmp_path / name
    if path.suffix:
        path.write_bytes(content)
    else:
        path.mkdir()
        (path / "metadata.yaml").write_bytes(content)
    with pytest.raises(
        SourceError, match=f"{name}: cannot be read as a bag .*`{repair}` may repair"
    ) as error:
        BagSource(path)
    assert "\n" not in str(error.value)


def test_a_recording_that_was_cut_off_is_named(tmp_path: Path) -> None:
    path = walk("lone-mcap").write(tmp_path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SourceError, match=r"made\.mcap: cannot be read as a bag .*`mcap recover` may repair"):
        BagSource(path)


def test_a_missing_bag_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nothing: no such bag"):
        BagSource(tmp_path / "nothing")


def test_images_of_16_bits_are_the_wrong_topic(tmp_path: Path) -> None:
    path = walk("mcap").write(tmp_path)
    topics = BagTopics(image="/camera/depth/image_raw")
    with (
        BagSource(path, topics) as source,
        pytest.raises(SourceError, match=r"no image of /camera/depth/image_raw can be used: .*'16UC1'"),
    ):
        source.read(1.0)


# Which topics

IMAGE, JPEG = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
CAMERA_INFO, SAMPLES = "sensor_msgs/msg/CameraInfo", "sensor_msgs/msg/Imu"


@pytest.mark.parametrize(
    ("types", "image"),
    [
        ({"/cam0/image_raw": IMAGE}, "/cam0/image_raw"),
        ({"/cam0/image_raw/compressed": JPEG}, "/cam0/image_raw/compressed"),
        ({COLOR: IMAGE, COMPRESSED: JPEG}, COLOR),
        ({COLOR: IMAGE, "/camera/aligned_depth_to_color/image_raw": IMAGE}, COLOR),
        ({COLOR: IMAGE, "/camera/infra1/image_rect_raw": IMAGE, "/camera/depth/image": IMAGE}, COLOR),
        ({"/oak/rgb/image": IMAGE, "/oak/left/image": IMAGE, "/oak/right/image": IMAGE}, "/oak/rgb/image"),
        ({COMPRESSED: JPEG, COLOR + "/compressedDepth": JPEG, COLOR + "/theora": "x"}, COMPRESSED),
    ],
)  # fmt: skip
def test_the_colour_image_is_found(types: dict[str, str], image: str) -> None:
    assert BagTopics().chosen(types, "bag").image == image


@pytest.mark.parametrize(
    ("types", "wanted", "said"),
    [
        ({"/left": IMAGE, "/right": IMAGE}, BagTopics(), "bag: which image topic.* /left, /right"),
        ({"/tf": "tf2_msgs/msg/TFMessage"}, BagTopics(), r"bag: has no image topic; it has /tf \(tf2_msgs"),
        ({}, BagTopics(), "bag: has no image topic; it has no topics at all"),
        (
            {"/left": IMAGE},
            BagTopics("/up"),
            r"bag: has no topic /up; it has /left \(sensor_msgs/msg/Image\)",
        ),
        ({"/left": IMAGE, "/i": SAMPLES}, BagTopics("/i"), "bag: /i is sensor_msgs/msg/Imu; name a topic of"),
        ({"/left": IMAGE, "/a": SAMPLES, "/b": SAMPLES}, BagTopics(), "bag: which IMU topic.* /a, /b"),
    ],
)
def test_a_choice_that_cannot_be_made_lists_the_topics(
    types: dict[str, str], wanted: BagTopics, said: str
) -> None:
    with pytest.raises(SourceError, match=said):
        wanted.chosen(types, "bag")


def test_the_camera_info_beside_the_image_is_taken() -> None:
    types = {COLOR: IMAGE, INFO: CAMERA_INFO, "/camera/depth/camera_info": CAMERA_INFO}
    assert BagTopics().chosen(types, "bag") == BagTopics(COLOR, INFO, "")
    del types[INFO]
    assert BagTopics().chosen(types, "bag").camera_info == "/camera/depth/camera_info", "the only one"
    types["/other/camera_info"] = CAMERA_INFO
    assert BagTopics().chosen(types, "bag").camera_info == ""


def test_an_empty_name_leaves_intrinsics_and_imu_out() -> None:
    types = {COLOR: IMAGE, INFO: CAMERA_INFO, IMU: SAMPLES, "/imu/raw": SAMPLES}
    assert BagTopics(camera_info="", imu="").chosen(types, "bag") == BagTopics(COLOR, "", "")
