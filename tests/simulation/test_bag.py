from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import yaml
from mcap.reader import make_reader
from rosbags.highlevel import AnyReader
from scipy.spatial.transform import Rotation

from m2h_runtime.errors import ContractError, InputError
from m2h_runtime.simulation import bag as topics
from m2h_runtime.simulation.bag import EpisodeBag, Rig
from m2h_runtime.simulation.calibration_files import write_calibration
from m2h_runtime.simulation.imu import ImuSamples, KalibrImu, simulate_imu
from m2h_runtime.simulation.trajectory import BODY_FROM_OPTICAL, START_NS, Trajectory, stamps_ns

if TYPE_CHECKING:
    from pathlib import Path

SIZE = (32, 24)
FRAME_TIMES = np.array([0.0, 0.1, 0.2, 0.3, 0.4])
COUNTS = {
    topics.COLOR: 5,
    topics.CAMERA_INFO: 5,
    topics.DEPTH: 5,
    topics.SEMANTIC: 5,
    topics.IMU_DATA: 101,  # 0.5 s at 200 Hz, both ends
    topics.TF: 52,  # 0.504 s at 100 Hz, and its end
    topics.ODOMETRY: 52,
    topics.TF_STATIC: 1,
}


def rig() -> Rig:
    imu_from_camera, base_from_camera = np.eye(4), np.eye(4)
    imu_from_camera[:3, :3] = BODY_FROM_OPTICAL
    imu_from_camera[:3, 3] = (0.01, 0.02, 0.03)  # the camera seen from the IMU
    base_from_camera[:3, 3] = (0.1, 0.0, 0.2)
    return Rig(
        np.array([[30.0, 0, 15.5], [0, 31.0, 11.5], [0, 0, 1]]), SIZE, imu_from_camera, base_from_camera
    )


def motion() -> Trajectory:
    """Forward along x at 1 m/s while turning left at 0.5 rad/s."""
    times = np.linspace(0.0, 0.504, 60)
    zero = np.zeros(60)
    return Trajectory(times, np.column_stack((times, zero, zero + 1.2)), 0.5 * times, zero, zero)


def samples(trajectory: Trajectory) -> ImuSamples:
    return simulate_imu(trajectory, rig().imu, rig().imu_from_camera, np.random.default_rng(0))


def frame(index: int) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(index)
    width, height = SIZE
    image = cv2.resize(rng.integers(0, 256, (3, 4, 3), np.uint8), SIZE, interpolation=cv2.INTER_LINEAR)
    return (
        image,
        rng.uniform(0, 5, (height, width)).astype(np.float32),
        rng.integers(0, 21, (height, width), np.uint8),
    )


def write(folder: Path, **options: Any) -> ImuSamples:
    trajectory = motion()
    imu = samples(trajectory)
    with EpisodeBag.create(folder, rig(), trajectory, imu, **options) as bag:
        for index, stamp in enumerate(stamps_ns(FRAME_TIMES).tolist()):
            bag.add_frame(stamp, *frame(index))
    return imu


def read(folder: Path) -> list[tuple[str, int, Any]]:
    with AnyReader([folder]) as reader:
        return [(c.topic, stamp, reader.deserialize(raw, c.msgtype)) for c, stamp, raw in reader.messages()]


def of(messages: list[tuple[str, int, Any]], topic: str) -> list[Any]:
    return [message for name, _, message in messages if name == topic]


def matrix(transform: Any) -> Any:
    q, t = transform.rotation, transform.translation
    result = np.eye(4)
    result[:3, :3] = Rotation.from_quat((q.x, q.y, q.z, q.w)).as_matrix()
    result[:3, 3] = (t.x, t.y, t.z)
    return result


def stamp_of(message: Any) -> int:
    header = message.transforms[0].header if hasattr(message, "transforms") else message.header
    return int(header.stamp.sec * 1_000_000_000 + header.stamp.nanosec)


@pytest.mark.parametrize("zstd", [False, True])
def test_counts_types_and_order(tmp_path: Path, zstd: bool) -> None:
    write(tmp_path / "episode", zstd=zstd)
    with AnyReader([tmp_path / "episode"]) as reader:
        assert {name: (info.msgtype, info.msgcount) for name, info in reader.topics.items()} == {
            name: (topics.TYPES[name], count) for name, count in COUNTS.items()
        }
    messages = read(tmp_path / "episode")
    assert all(stamp == stamp_of(message) for _, stamp, message in messages)
    assert stamp_of(of(messages, topics.DEPTH)[3]) == START_NS + 300_000_000
    for topic in COUNTS:
        stamps = [stamp_of(message) for message in of(messages, topic)]
        assert stamps == sorted(set(stamps))


@pytest.mark.parametrize("zstd", [False, True])
def test_the_file_itself_is_in_stamp_order(tmp_path: Path, zstd: bool) -> None:
    """Read by another library, in the order of the file."""
    write(tmp_path / "episode", zstd=zstd)
    with (tmp_path / "episode" / "episode.mcap").open("rb") as stream:
        reader = make_reader(stream)
        summary = reader.get_summary()
        rows = [
            (schema.name, channel.topic, message.log_time)
            for schema, channel, message in reader.iter_messages(log_time_order=False)
        ]
    assert summary is not None
    assert summary.statistics is not None
    assert summary.statistics.message_count == len(rows) == sum(COUNTS.values())
    assert [row[2] for row in rows] == sorted(row[2] for row in rows)
    assert rows[0][:2] == ("tf2_msgs/msg/TFMessage", "/tf_static")
    for name, count in COUNTS.items():
        assert sum(topic == name and kind == topics.TYPES[name] for kind, topic, _ in rows) == count


def test_images_come_back(tmp_path: Path) -> None:
    write(tmp_path / "episode")
    messages = read(tmp_path / "episode")
    for index in range(5):
        image, depth, semantics = frame(index)
        for topic, encoding, step, pixels in (
            (topics.COLOR, "rgb8", 96, image),
            (topics.DEPTH, "32FC1", 128, depth),
            (topics.SEMANTIC, "mono8", 32, semantics),
        ):
            message = of(messages, topic)[index]
            assert (message.height, message.width, message.step) == (24, 32, step)
            assert (message.encoding, message.is_bigendian) == (encoding, 0)
            assert message.header.frame_id == "camera_color_optical_frame"
            assert (message.data.view(pixels.dtype).reshape(pixels.shape) == pixels).all()


def test_camera_info(tmp_path: Path) -> None:
    write(tmp_path / "episode")
    info = of(read(tmp_path / "episode"), topics.CAMERA_INFO)[0]
    assert (info.width, info.height, info.distortion_model) == (32, 24, "plumb_bob")
    assert info.k.tolist() == [30, 0, 15.5, 0, 31, 11.5, 0, 0, 1]
    assert info.d.tolist() == [0] * 5
    assert info.r.tolist() == [1, 0, 0, 0, 1, 0, 0, 0, 1]
    assert info.p.tolist() == [30, 0, 15.5, 0, 0, 31, 11.5, 0, 0, 0, 1, 0]


def test_compressed_colour(tmp_path: Path) -> None:
    write(tmp_path / "episode", compressed=True)
    messages = read(tmp_path / "episode")
    assert not of(messages, topics.COLOR)
    message = of(messages, topics.COLOR_COMPRESSED)[2]
    assert "jpeg" in message.format
    decoded = cv2.cvtColor(cv2.imdecode(message.data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert np.abs(decoded.astype(float) - frame(2)[0]).mean() < 6


def test_imu_messages(tmp_path: Path) -> None:
    imu = write(tmp_path / "episode")
    messages = of(read(tmp_path / "episode"), topics.IMU_DATA)
    assert [stamp_of(message) for message in messages] == imu.stamps_ns.tolist()
    for vector, expected in (("angular_velocity", imu.gyro), ("linear_acceleration", imu.accel)):
        got = [[getattr(getattr(message, vector), axis) for axis in "xyz"] for message in messages]
        assert (np.array(got) == expected).all()
    assert messages[0].header.frame_id == "imu_link"
    assert messages[0].orientation_covariance[0] == -1
    assert messages[0].linear_acceleration_covariance[[0, 4, 8]] == pytest.approx([2e-3**2 * 200] * 3)
    assert messages[0].angular_velocity_covariance[[0, 4, 8]] == pytest.approx([1.6968e-4**2 * 200] * 3)


def test_tf_chain_gives_the_camera_and_the_imu(tmp_path: Path) -> None:
    write(tmp_path / "episode")
    messages = read(tmp_path / "episode")
    static = {
        (t.header.frame_id, t.child_frame_id): matrix(t.transform)
        for t in of(messages, topics.TF_STATIC)[0].transforms
    }
    assert set(static) == {
        ("base_link", "camera_link"),
        ("camera_link", "camera_color_optical_frame"),
        ("base_link", "imu_link"),
    }
    optical = static["base_link", "camera_link"] @ static["camera_link", "camera_color_optical_frame"]
    for message in of(messages, topics.TF):
        (transform,) = message.transforms
        assert (transform.header.frame_id, transform.child_frame_id) == ("world", "base_link")
        pose = matrix(transform.transform) @ optical
        assert pose == pytest.approx(motion().pose((stamp_of(message) - START_NS) * 1e-9), abs=1e-9)
    # The camera is at (0.1, 0, 0.2) on the base, and at (0.01, 0.02, 0.03) as the IMU sees it.
    expected = np.eye(4)
    expected[:3, 3] = (0.09, -0.02, 0.17)
    assert static["base_link", "imu_link"] == pytest.approx(expected, abs=1e-12)


def test_odometry_twist_is_that_of_the_base(tmp_path: Path) -> None:
    """The base is 0.1 m behind the camera: turning left at 0.5 rad/s takes it 0.05 m/s to the right."""
    write(tmp_path / "episode")
    messages = read(tmp_path / "episode")
    odometry = of(messages, topics.ODOMETRY)
    assert (odometry[0].header.frame_id, odometry[0].child_frame_id) == ("world", "base_link")
    for message, tf in zip(odometry, of(messages, topics.TF), strict=True):
        place = message.pose.pose.position
        moved = tf.transforms[0].transform.translation
        assert (place.x, place.y, place.z) == (moved.x, moved.y, moved.z)
    time = (stamp_of(odometry[20]) - START_NS) * 1e-9
    twist = odometry[20].twist.twist
    forward, left = np.cos(0.5 * time), -np.sin(0.5 * time)  # of the camera's 1 m/s along x
    assert [twist.linear.x, twist.linear.y, twist.linear.z] == pytest.approx(
        [forward, left - 0.05, 0], abs=1e-6
    )
    assert [twist.angular.x, twist.angular.y, twist.angular.z] == pytest.approx([0, 0, 0.5], abs=1e-6)


def test_metadata(tmp_path: Path) -> None:
    write(tmp_path / "episode")
    assert {path.name for path in (tmp_path / "episode").iterdir()} == {"episode.mcap", "metadata.yaml"}
    info = yaml.safe_load((tmp_path / "episode" / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert info["storage_identifier"] == "mcap"
    assert info["relative_file_paths"] == ["episode.mcap"]
    assert info["message_count"] == sum(COUNTS.values())
    assert info["starting_time"]["nanoseconds_since_epoch"] == START_NS
    assert info["duration"]["nanoseconds"] == 504_000_000
    rows = {row["topic_metadata"]["name"]: row["topic_metadata"] for row in info["topics_with_message_count"]}
    durability = {
        name: yaml.safe_load(row["offered_qos_profiles"])[0]["durability"] for name, row in rows.items()
    }
    assert durability.pop("/tf_static") == 1  # transient local
    assert set(durability.values()) == {2}


def test_failure_leaves_nothing_behind_and_the_old_bag(tmp_path: Path) -> None:
    folder = tmp_path / "episode"
    write(folder)
    before = (folder / "episode.mcap").read_bytes()
    trajectory = motion()
    with (
        pytest.raises(ZeroDivisionError),
        EpisodeBag.create(folder, rig(), trajectory, samples(trajectory)) as bag,
    ):
        bag.add_frame(START_NS, *frame(0))
        _ = 1 / 0
    assert [path.name for path in tmp_path.iterdir()] == ["episode"]
    assert (folder / "episode.mcap").read_bytes() == before


def test_frames_out_of_order_or_range_are_refused(tmp_path: Path) -> None:
    trajectory = motion()
    with EpisodeBag.create(tmp_path / "episode", rig(), trajectory, samples(trajectory)) as bag:
        bag.add_frame(START_NS + 100, *frame(0))
        for stamp in (START_NS, START_NS + 100, START_NS + 600_000_000):
            with pytest.raises(InputError, match="in order of time"):
                bag.add_frame(stamp, *frame(1))
    assert len(of(read(tmp_path / "episode"), topics.COLOR)) == 1


def test_bad_pixels_are_refused(tmp_path: Path) -> None:
    trajectory = motion()
    image, depth, semantics = frame(0)
    with EpisodeBag.create(tmp_path / "episode", rig(), trajectory, samples(trajectory)) as bag:
        with pytest.raises(ContractError, match="image"):
            bag.add_frame(START_NS, image[:-1], depth, semantics)
        with pytest.raises(ContractError, match="depth: expected"):
            bag.add_frame(START_NS, image, depth.astype(np.float64), semantics)
        for bad in (np.nan, np.inf, -1.0):
            wrong = depth.copy()
            wrong[3, 4] = bad
            with pytest.raises(ContractError, match="write 0 where it is invalid"):
                bag.add_frame(START_NS, image, wrong, semantics)


def test_stamp_zero_is_refused(tmp_path: Path) -> None:
    trajectory = motion()
    imu = simulate_imu(trajectory, KalibrImu(), np.eye(4), np.random.default_rng(0), start_ns=0)
    with (
        pytest.raises(InputError, match="pass start_ns"),
        EpisodeBag.create(tmp_path / "episode", rig(), trajectory, imu),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_bad_rig_is_refused() -> None:
    with pytest.raises(InputError, match="no camera matrix"):
        Rig(np.zeros((3, 3)), SIZE)
    with pytest.raises(InputError, match="width and height"):
        Rig(np.eye(3), (0, 10))
    with pytest.raises(InputError, match="base_from_camera: is not a rigid"):
        Rig(np.eye(3), SIZE, base_from_camera=2 * np.eye(4))


def test_calibration_files(tmp_path: Path) -> None:
    write_calibration(tmp_path, rig())
    camera = yaml.safe_load((tmp_path / "camchain-imucam.yaml").read_text())["cam0"]
    assert camera["intrinsics"] == [30.0, 31.0, 15.5, 11.5]
    assert camera["resolution"] == [32, 24]
    assert (camera["camera_model"], camera["distortion_model"]) == ("pinhole", "radtan")
    # The IMU's origin, 3 cm below, 2 cm to the right of and 1 cm behind the camera: in optical coordinates.
    camera_from_imu = np.array(camera["T_cam_imu"])
    assert camera_from_imu @ (0, 0, 0, 1) == pytest.approx([0.02, 0.03, -0.01, 1])
    assert camera_from_imu @ (1.01, 0.02, 0.03, 1) == pytest.approx([0, 0, 1, 1])  # ahead of the camera
    assert KalibrImu.read(tmp_path / "imu.yaml") == rig().imu
