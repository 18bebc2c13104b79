"""Recordings, read back by rosbags and by the mcap reader, and played through the engine again."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from mcap.reader import make_reader
from rosbags.highlevel import AnyReader
from tiny_engine import picture

from m2h_runtime import open_engine
from m2h_runtime.calibration.camera import CameraModel
from m2h_runtime.calibration.fit import Fit
from m2h_runtime.errors import InputError, SinkError
from m2h_runtime.frame import Frame
from m2h_runtime.imu.track import ImuCalibration, ImuTrack
from m2h_runtime.ros.profiles import load_profile
from m2h_runtime.sinks.base import Observation
from m2h_runtime.sinks.mcap_file import McapSink, check_mcap_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from m2h_runtime.engine.base import Engine

SIZE = (120, 160)
START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 100_000_000
CAMERA = CameraModel(160, 120, 140, 140, 79.5, 59.5)
IMAGE_TOPIC = "/camera/color/image_raw"
PLAIN = load_profile()


@pytest.fixture(scope="module")
def engine(tiny_engine: Path) -> Iterator[Engine]:
    with open_engine(tiny_engine) as opened:
        yield opened


def track(frames: int) -> ImuTrack:
    """Two samples before each frame, on a clock that is 5 ns ahead."""
    filled = ImuTrack(ImuCalibration(time_offset_s=5e-9))
    for index in range(frames):
        for part in (30, 70):
            stamp_ns = START_NS + (index - 1) * PERIOD_NS + part * 1_000_000 + 5
            filled.push(stamp_ns, [index] * 3, [index + 9] * 3)
    return filled


def observed(engine: Engine, frame: Frame) -> Observation:
    fit = Fit("stretch", frame.image.shape[:2], engine.manifest.size)  # type: ignore[arg-type]
    perception = engine.infer(fit.apply(frame.image)).stamped(frame)
    return Observation(frame, perception, 10.0, fit, 1.0, frame)


def observation(engine: Engine, index: int) -> Observation:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = cv2.Rodrigues(np.array([0.0, 0.1 * index, 0]))[0], (index, 0, 0)
    stamp_ns = START_NS + index * PERIOD_NS
    image = picture(index, SIZE)
    return observed(
        engine,
        Frame(image, stamp_ns, index, "cam", camera=CAMERA, world_from_camera=pose),
    )


def recorded(path: Path, engine: Engine, frames: int = 3, **options: Any) -> Path:
    sink = McapSink(path, **({"profile": PLAIN} | options))
    samples = track(frames)
    for index in range(frames):
        sink.write(replace(observation(engine, index), imu=samples))
    sink.close()
    return path


def by_rosbags(path: Path) -> dict[str, list[tuple[int, Any]]]:
    """Log time and message of everything, by topic."""
    read: dict[str, list[tuple[int, Any]]] = {}
    with AnyReader([path]) as reader:
        for connection, log_ns, data in reader.messages():
            message = reader.deserialize(data, connection.msgtype)
            read.setdefault(connection.topic, []).append((log_ns, message))
    return read


def pixels(message: Any, dtype: Any, *channels: int) -> Any:
    return np.frombuffer(message.data, dtype).reshape(message.height, message.width, *channels)


def test_what_was_recorded_is_read_back_by_rosbags(tmp_path: Path, engine: Engine) -> None:
    read = by_rosbags(recorded(tmp_path / "run.mcap", engine))
    outputs = {"depth/image", "depth/camera_info", "labels/image", "labels/colors", "labels/confidence"}
    outputs |= {"normals/image", "normals/picture", "edges/image", "image"}
    inputs = {IMAGE_TOPIC, "/camera/color/camera_info", "/camera/imu", "/tf"}
    assert read.keys() == {f"/m2h/{name}" for name in outputs} | inputs
    stamps = [START_NS + index * PERIOD_NS for index in range(3)]
    for topic, messages in read.items():
        if topic != "/camera/imu":
            assert [log_ns for log_ns, _ in messages] == stamps
    view = PLAIN.view(*(lambda o: (o.frame, o.perception, o.fit))(observation(engine, 2)))
    assert np.array_equal(pixels(read["/m2h/depth/image"][2][1], np.float32), view.depth)
    assert np.array_equal(pixels(read["/m2h/labels/image"][2][1], np.uint8), view.semantics)
    assert np.array_equal(pixels(read["/m2h/normals/image"][2][1], np.float32, 3), view.normals)
    assert read["/camera/color/camera_info"][0][1].k[0] == 140
    assert read["/m2h/depth/image"][0][1].header.frame_id == "cam"


def test_the_imu_keeps_its_own_stamps_and_its_border_samples_are_left_out(
    tmp_path: Path, engine: Engine
) -> None:
    samples = by_rosbags(recorded(tmp_path / "run.mcap", engine))["/camera/imu"]
    logged = [log_ns - START_NS for log_ns, _ in samples]
    assert logged == [30_000_000, 70_000_000, 130_000_000, 170_000_000]
    own = [message.header.stamp.sec * 10**9 + message.header.stamp.nanosec for _, message in samples]
    assert [stamp - log_ns for stamp, (log_ns, _) in zip(own, samples, strict=True)] == [5] * 4
    assert samples[-1][1].linear_acceleration.x == 11


def test_the_pose_that_a_source_knows_is_on_tf(tmp_path: Path, engine: Engine) -> None:
    _, message = by_rosbags(recorded(tmp_path / "run.mcap", engine))["/tf"][2]
    (pose,) = message.transforms
    assert (pose.header.frame_id, pose.child_frame_id, pose.transform.translation.x) == ("world", "cam", 2)
    assert np.isclose(pose.transform.rotation.y, np.sin(0.1)) and np.isclose(
        pose.transform.rotation.w, np.cos(0.1)
    )


@pytest.mark.parametrize("image_format", ["raw", "png"])
def test_a_recording_played_through_the_engine_gives_the_same_perceptions(
    tmp_path: Path, engine: Engine, image_format: str
) -> None:
    read = by_rosbags(recorded(tmp_path / "run.mcap", engine, image_format=image_format))
    images = read[IMAGE_TOPIC if image_format == "raw" else f"{IMAGE_TOPIC}/compressed"]
    for index, (stamp_ns, message) in enumerate(images):
        if image_format == "raw":
            image = pixels(message, np.uint8, 3).copy()
        else:
            image = cv2.cvtColor(cv2.imdecode(message.data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        again = observed(engine, Frame(image, stamp_ns, index, "cam", camera=CAMERA))
        view = PLAIN.view(again.frame, again.perception, again.fit)
        for topic, array in {
            "depth/image": view.depth,
            "labels/image": view.semantics,
            "labels/colors": view.colors,
            "labels/confidence": view.confidence,
            "normals/image": view.normals,
            "edges/image": view.edges,
        }.items():
            assert bytes(read[f"/m2h/{topic}"][index][1].data) == array.tobytes()


def test_jpeg_images_are_much_smaller_and_close(tmp_path: Path, engine: Engine) -> None:
    topic = f"{IMAGE_TOPIC}/compressed"
    _, message = by_rosbags(recorded(tmp_path / "run.mcap", engine, image_format="jpeg"))[topic][1]
    image = cv2.cvtColor(cv2.imdecode(message.data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert np.abs(image.astype(int) - picture(1, SIZE)).mean() < 3
    assert message.data.nbytes < image.nbytes / 5


def test_the_file_is_what_foxglove_and_ros2_bag_expect(tmp_path: Path, engine: Engine) -> None:
    path = recorded(tmp_path / "run.mcap", engine)
    with path.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        assert reader.get_header().profile == "ros2"
        summary = reader.get_summary()
        assert summary is not None and summary.statistics is not None
        assert {channel.message_encoding for channel in summary.channels.values()} == {"cdr"}
        assert {index.compression for index in summary.chunk_indexes} == {"lz4"}
        schemas = {schema.name: schema for schema in summary.schemas.values()}
        assert sum(1 for _ in reader.iter_messages()) == summary.statistics.message_count
        (metadata,) = reader.iter_metadata()
    image = schemas["sensor_msgs/msg/Image"]
    assert image.encoding == "ros2msg"
    assert (
        "MSG: std_msgs/Header" in image.data.decode()
        and "MSG: builtin_interfaces/Time" in image.data.decode()
    )
    assert metadata.name == "m2h" and json.loads(metadata.metadata["classes"]) == ["class_0", "class_1"]


def test_without_intrinsics_imu_or_pose_the_rest_is_recorded(tmp_path: Path, engine: Engine) -> None:
    plain = observed(engine, Frame(picture(0, SIZE), START_NS, 0))
    sink = McapSink(tmp_path / "run.mcap", PLAIN)
    sink.write(plain)
    sink.close()
    topics = by_rosbags(tmp_path / "run.mcap").keys()
    assert IMAGE_TOPIC in topics and "/m2h/depth/image" in topics
    assert not {"/tf", "/camera/imu", "/camera/color/camera_info", "/m2h/depth/camera_info"} & topics


def test_the_input_is_recorded_as_the_source_delivered_it(tmp_path: Path, engine: Engine) -> None:
    source = Frame(picture(3, SIZE), START_NS, 0, "raw_cam")
    sink = McapSink(tmp_path / "run.mcap", PLAIN)
    sink.write(replace(observation(engine, 0), source_frame=source))
    sink.close()
    (_, message), *_ = by_rosbags(tmp_path / "run.mcap")[IMAGE_TOPIC]
    assert message.header.frame_id == "raw_cam"
    assert bytes(message.data) == source.image.tobytes()


def test_only_the_outputs_that_were_asked_for_are_recorded(tmp_path: Path, engine: Engine) -> None:
    path = recorded(tmp_path / "run.mcap", engine, frames=1, outputs=["depth", "points"])
    assert {topic for topic in by_rosbags(path) if topic.startswith("/m2h")} == {
        "/m2h/depth/image",
        "/m2h/points",
    }
    with pytest.raises(InputError, match="profile hydra: has no output 'edges'; it has depth"):
        McapSink(tmp_path / "run.mcap", load_profile("hydra"), outputs=["edges"])


def test_other_profiles_record_in_their_own_topics_and_sizes(tmp_path: Path, engine: Engine) -> None:
    profile = replace(load_profile("mono_hydra_itc"), label_space=None)  # the tiny engine has two classes
    read = by_rosbags(recorded(tmp_path / "run.mcap", engine, frames=1, profile=profile))
    (_, depth), *_ = read["/camera/depth_cam/image_raw"]
    assert (depth.height, depth.width) == (480, 848)


def test_nobody_sees_half_a_recording(tmp_path: Path, engine: Engine) -> None:
    path = tmp_path / "run.mcap"
    path.write_bytes(b"the one before")
    sink = McapSink(path, PLAIN)
    sink.write(observation(engine, 0))
    assert path.read_bytes() == b"the one before"
    sink.abort()
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == b"the one before"
    recorded(path, engine)
    assert list(tmp_path.iterdir()) == [path] and path.stat().st_mode & 0o777 == 0o644


def test_a_run_without_frames_leaves_no_file(tmp_path: Path) -> None:
    McapSink(tmp_path / "run.mcap", PLAIN).close()
    McapSink(tmp_path / "run.mcap", PLAIN).abort()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int, mode: str) -> Any:
        os.close(handle)
        return Path("/dev/full").open(mode)

    monkeypatch.setattr("m2h_runtime.sinks.mcap_file.os.fdopen", full)
    sink = McapSink(tmp_path / "run.mcap", PLAIN)
    with pytest.raises(SinkError, match=r"run\.mcap: .*no space left on device.*free some space") as caught:
        for index in range(20):
            sink.write(observation(engine, index))
    assert "\n" not in str(caught.value)
    sink.abort()
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_up_at_the_very_end_is_noticed(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = McapSink(tmp_path / "run.mcap", PLAIN)
    sink.write(observation(engine, 0))

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("m2h_runtime.sinks.mcap_file.Path.replace", full)
    with pytest.raises(SinkError, match="no space left on device"):
        sink.close()
    sink.abort()
    assert not list(tmp_path.iterdir())


def test_wrong_places_are_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"call it run\.mcap"):
        check_mcap_path(tmp_path / "run.bag")
    with pytest.raises(SinkError, match="cannot be written"):
        McapSink(tmp_path / "nowhere" / "run.mcap", PLAIN)


def test_a_stamp_that_a_recording_cannot_hold_is_refused(tmp_path: Path, engine: Engine) -> None:
    sink = McapSink(tmp_path / "run.mcap", PLAIN)
    with pytest.raises(SinkError, match="stamps start at 0"):
        sink.write(observed(engine, Frame(picture(0, SIZE), -1, 0)))
    sink.abort()
