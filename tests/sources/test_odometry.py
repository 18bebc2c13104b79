"""Odometry as poses of the camera: from messages, and from bags that this test writes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from made_bags import MS, START_NS, BagMaker
from tiny_engine import picture

from m2h_runtime.errors import SourceError
from m2h_runtime.imu import so3
from m2h_runtime.pipeline.health import Health, Level
from m2h_runtime.sources import BagSource, BagTopics, EndOfStream, LoopedSource
from m2h_runtime.sources.odometry import AHEAD_NS, CAMERA_IN_BODY, SILENCE_NS, OdometryTrack
from m2h_runtime.sources.opening import SourceSpec, open_source
from m2h_runtime.views.keyframes import OLDEST_S

if TYPE_CHECKING:
    from pathlib import Path

    from m2h_runtime.frame import Frame

S = 1_000_000_000
FRAME = "eye"


def quat_wxyz(rotation: np.ndarray) -> np.ndarray:
    vector = so3.log(rotation)
    angle = np.linalg.norm(vector)
    return np.array((np.cos(angle / 2), *(np.sinc(angle / 2 / np.pi) / 2 * vector)))


def truth(stamp_ns: int) -> np.ndarray:
    """(4, 4) of a body that walks at 1 m/s and turns at 0.5 rad/s."""
    t = (stamp_ns - START_NS) / 1e9
    pose = np.eye(4)
    pose[:3, :3] = so3.exp(np.array((0.1 * t, 0.0, 0.5 * t)))
    pose[:3, 3] = (t, 0.2 * t, 0.0)
    return pose


def push(track: OdometryTrack, stamp_ns: int, child: str = FRAME, **more: Any) -> None:
    pose = truth(stamp_ns)
    track.push(stamp_ns, pose[:3, 3], quat_wxyz(pose[:3, :3]), child, **more)


def walked(until_s: float = 2.0, child: str = FRAME, **track: Any) -> OdometryTrack:
    made = OdometryTrack(**track)
    for index in range(round(until_s * 50) + 1):
        push(made, START_NS + index * 20 * MS, child)
    return made


def difference(a: np.ndarray | None, b: np.ndarray) -> float:
    assert a is not None
    return float(np.abs(a - b).max())


# The track


def test_a_pose_is_interpolated_at_the_images_stamp() -> None:
    track = walked()
    for offset_ms in (0, 7, 333, 1999):
        stamp_ns = START_NS + offset_ms * MS
        assert difference(track.at(stamp_ns, FRAME), truth(stamp_ns)) < 1e-4


def test_shortly_after_the_newest_message_the_motion_goes_on() -> None:
    track = walked()
    assert difference(track.at(START_NS + 2080 * MS, FRAME), truth(START_NS + 2080 * MS)) < 2e-3
    assert track.at(START_NS + 2101 * MS, FRAME) is None
    assert track.at(START_NS - MS, FRAME) is None


def test_there_are_no_poses_in_a_gap() -> None:
    track = walked(1.0)
    push(track, START_NS + 1400 * MS)
    push(track, START_NS + 1420 * MS)
    assert track.at(START_NS + 1200 * MS, FRAME) is None
    assert track.at(START_NS + 1410 * MS, FRAME) is not None
    assert track.at(START_NS + 900 * MS, FRAME) is not None


@pytest.mark.parametrize(
    ("jump", "why"),
    [
        ({"position": (9.0, 9.0, 9.0)}, "it jumped"),
        ({"quat_wxyz": (0.0, 0.0, 0.0, 1.0)}, "it jumped"),
        ({"variance_m2": 9999.0}, "it is lost (its variance"),
        ({"variance_m2": float("nan")}, "it is lost (its variance"),
        ({"quat_wxyz": (0.0, 0.0, 0.0, 0.0)}, "it is lost (its pose"),
        ({"position": (np.nan, 0.0, 0.0)}, "it is lost (its pose"),
    ],
    ids=["position", "turn", "variance", "nan variance", "null", "nan"],
)
def test_what_jumps_or_is_lost_is_not_trusted_until_keyframes_from_before_are_gone(
    jump: dict[str, Any], why: str
) -> None:
    said: list[str | None] = []
    track = walked(health=said.append)
    assert track.at(START_NS, FRAME) is not None
    at = START_NS + 2020 * MS
    pose = truth(at)
    good = {"position": pose[:3, 3], "quat_wxyz": quat_wxyz(pose[:3, :3])}
    track.push(at, **(good | jump), child_frame=FRAME)
    after = good | (jump if why == "it jumped" else {})
    for index in range(1, 250):
        track.push(at + index * 20 * MS, **after, child_frame=FRAME)
    assert track.at(at + 500 * MS, FRAME) is None
    assert track.at(at + 3490 * MS, FRAME) is None
    assert said[0] is not None and said[0].startswith(why) and "no poses for 3.5 s" in said[0]
    assert track.at(at + 3510 * MS, FRAME) is not None
    assert said[1:] == [], "and it has to stay like this for a second"
    assert track.at(at + 4510 * MS, FRAME) is not None
    assert said[1:] == [None]


def test_a_pose_after_a_jump_meets_no_keyframe_from_before() -> None:
    assert SILENCE_NS > OLDEST_S * S + AHEAD_NS


def test_variances_of_wheels_do_not_matter_and_small_noise_is_no_jump() -> None:
    track = OdometryTrack()
    for index in range(20):
        track.push(START_NS + index * MS, (0.004 * (index % 2), 0, 0), (1, 0, 0, 0), "base_link", 0.001)
    assert track.at(START_NS + 10 * MS, FRAME) is not None


def test_late_and_repeated_messages_are_passed_over_and_a_new_run_begins_anew() -> None:
    track = walked()
    track.push(START_NS + 1900 * MS, (50, 0, 0), (1, 0, 0, 0), FRAME)
    track.push(START_NS + 2000 * MS, (50, 0, 0), (1, 0, 0, 0), FRAME)
    assert difference(track.at(START_NS + 1950 * MS, FRAME), truth(START_NS + 1950 * MS)) < 1e-4
    push(track, START_NS + 20 * MS)
    push(track, START_NS + 40 * MS)
    assert track.at(START_NS + 1950 * MS, FRAME) is None
    assert difference(track.at(START_NS + 30 * MS, FRAME), truth(START_NS + 30 * MS)) < 1e-4


def test_memory_is_bounded() -> None:
    track = OdometryTrack()
    for index in range(3000):
        track.push(START_NS + index * 10 * MS, (0, 0, 0), (1, 0, 0, 0), FRAME)
    assert len(track._samples) <= 1001


def camera_from_imu() -> np.ndarray:
    transform = np.eye(4)
    transform[:3, :3] = so3.exp(np.array((0.3, -1.2, 0.5)))
    transform[:3, 3] = (0.05, 0.02, -0.03)
    return transform


@pytest.mark.parametrize(
    ("child", "calibrated", "taken_for"),
    [
        ("camera_color_optical_frame", True, "the camera's optical frame"),
        (FRAME, True, "the camera's optical frame"),
        ("imu_link", True, "the IMU of the calibration"),
        ("base_link", True, "the IMU of the calibration"),
        ("base_link", False, "x forward, y left, z up"),
        ("camera_link", False, "x forward, y left, z up"),
        ("", False, "x forward, y left, z up"),
    ],
)
def test_what_the_child_frame_is_taken_for_is_said_once(
    child: str, calibrated: bool, taken_for: str, caplog: pytest.LogCaptureFixture
) -> None:
    track = walked(child=child, camera_from_imu=camera_from_imu() if calibrated else None)
    mounts = {
        "the camera's optical frame": np.eye(4),
        "the IMU of the calibration": np.linalg.inv(camera_from_imu()),
        "x forward, y left, z up": CAMERA_IN_BODY,
    }
    with caplog.at_level(logging.WARNING):
        for index in range(50):
            stamp_ns = START_NS + index * 33 * MS
            assert difference(track.at(stamp_ns, FRAME), truth(stamp_ns) @ mounts[taken_for]) < 1e-4
    (record,) = caplog.records
    assert taken_for in record.getMessage()


def test_the_place_of_an_imu_without_calibration_is_not_guessed() -> None:
    said: list[str | None] = []
    track = walked(child="imu_link", health=said.append)
    for index in range(50):
        assert track.at(START_NS + index * 33 * MS, FRAME) is None
    assert said == [
        "imu_link: where this IMU lies to the camera is unknown; give --calibration with T_cam_imu"
    ]


def test_a_robot_that_drives_ahead_moves_along_its_optical_axis() -> None:
    track = OdometryTrack()
    for index in range(11):
        track.push(START_NS + index * 20 * MS, (0.02 * index, 0, 0), (1, 0, 0, 0), "base_link")
    first, last = track.at(START_NS, FRAME), track.at(START_NS + 200 * MS, FRAME)
    assert first is not None and last is not None
    np.testing.assert_allclose((np.linalg.inv(first) @ last)[:3, 3], (0, 0, 0.2), atol=1e-9)


# Bags


def add_odometry(
    maker: BagMaker,
    topic: str,
    stamp_ns: int,
    log_ns: int | None = None,
    child: str = FRAME,
    variance: float = 0.1,
) -> None:
    pose = truth(stamp_ns)
    w, x, y, z = quat_wxyz(pose[:3, :3])
    vector, covariance = "geometry_msgs/msg/Vector3", np.zeros(36)
    covariance[0] = covariance[7] = variance
    covariance[14] = 1e6
    still = maker._make(vector, 0.0, 0.0, 0.0)
    maker.add(
        topic,
        "nav_msgs/msg/Odometry",
        log_ns or stamp_ns,
        maker.header(stamp_ns, "odom"),
        child,
        maker._make(
            "geometry_msgs/msg/PoseWithCovariance",
            maker._make(
                "geometry_msgs/msg/Pose",
                maker._make("geometry_msgs/msg/Point", *pose[:3, 3].tolist()),
                maker._make("geometry_msgs/msg/Quaternion", float(x), float(y), float(z), float(w)),
            ),
            covariance,
        ),
        maker._make(
            "geometry_msgs/msg/TwistWithCovariance",
            maker._make("geometry_msgs/msg/Twist", still, still),
            np.zeros(36),
        ),
    )


def bag(folder: Path, kind: Any = "mcap", late_ms: int = 0, child: str = FRAME) -> Path:
    """One second at 10 FPS with odometry at 50 Hz, which comes `late_ms` after its stamp."""
    maker = BagMaker(kind)
    for index in range(10):
        maker.image("/camera/image_raw", START_NS + index * 100 * MS + 7 * MS, picture(index))
    for index in range(60):
        stamp_ns = START_NS + index * 20 * MS
        add_odometry(maker, "/odom", stamp_ns, stamp_ns + late_ms * MS, child)
    return maker.write(folder)


def read_all(source: Any, count: int = 99) -> list[Frame]:
    frames: list[Frame] = []
    try:
        while len(frames) < count:
            frames.append(source.read(1.0))
    except EndOfStream:
        pass
    return frames


@pytest.mark.parametrize("kind", ["ros1", "mcap"])
@pytest.mark.parametrize("late_ms", [0, 90])
def test_frames_of_a_bag_have_the_pose_of_their_stamp(tmp_path: Path, kind: str, late_ms: int) -> None:
    with BagSource(bag(tmp_path, kind, late_ms), BagTopics(odometry="/odom")) as source:
        assert ", odometry /odom" in source.describe()
        frames = read_all(source)
    assert len(frames) == 10
    for frame in frames:
        assert difference(frame.world_from_camera, truth(frame.stamp_ns)) < 1e-4


def test_odometry_is_read_only_where_it_is_named(tmp_path: Path) -> None:
    path = bag(tmp_path)
    with BagSource(path) as source:
        assert all(frame.world_from_camera is None for frame in read_all(source))
    with pytest.raises(
        SourceError, match=r"has no topic /odometry; it has .*/odom \(nav_msgs/msg/Odometry\)"
    ):
        BagSource(path, BagTopics(odometry="/odometry"))
    with pytest.raises(
        SourceError, match="/camera/image_raw is sensor_msgs/msg/Image; name a topic of nav_msgs"
    ):
        BagSource(path, BagTopics(odometry="/camera/image_raw"))


def test_a_bag_that_is_repeated_has_the_same_poses_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    health = Health()
    spec = SourceSpec("bag", str(bag(tmp_path, child="base_link")), odometry_topic="/odom", loop=True)
    with open_source(spec, health) as source:
        assert isinstance(source, LoopedSource)
        frames = read_all(source, 25)
    assert source.laps == 2
    for frame, again in zip(frames, frames[10:], strict=False):
        assert frame.world_from_camera is not None and again.world_from_camera is not None
        np.testing.assert_allclose(frame.world_from_camera, again.world_from_camera, atol=1e-9)
    assert health.worst().level == Level.OK
    assert len([record for record in caplog.records if "odometry" in record.getMessage()]) == 1
