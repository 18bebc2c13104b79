"""A folder as EuRoC publishes them, made here with a motion that is known exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from tiny_engine import picture

from m2h_runtime.errors import CalibrationError, SourceError
from m2h_runtime.sources import EndOfStream, EurocSource

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from m2h_runtime.frame import Frame

MS = 1_000_000
START_NS = 1_403_636_579_758_555_392  # of MH_01; not a number that a double holds
FRAMES = 6
TURN = 0.5  # rad/s, about the world's z axis
# The camera looks along the body's x axis, 10 cm in front of it.
BODY_FROM_CAMERA = np.array([[0, 0, 1, 0.1], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])
SENSOR = """#Default sensor yaml file
sensor_type: {kind}
T_BS:
  cols: 4
  rows: 4
  data: [{matrix}]
rate_hz: {rate}
"""
CAMERA = """resolution: [96, 64]
camera_model: pinhole
intrinsics: [80.5, 81.5, 47.0, 31.0] #fu, fv, cu, cv
distortion_model: radial-tangential
distortion_coefficients: [-0.28340811, 0.07395907, 0.00019359, 1.76187114e-05]
"""


def numbers(*values: float) -> str:
    return ",".join(repr(float(value)) for value in values)


def stamp(index: int) -> int:
    return START_NS + (index + 2) * 50 * MS


def gray(index: int) -> np.ndarray:
    return picture(index)[..., 1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "MH_99" / "mav0"
    for name in ("cam0/data", "imu0", "state_groundtruth_estimate0"):
        (root / name).mkdir(parents=True)
    lines = ["#timestamp [ns],filename"]
    for index in range(FRAMES):
        cv2.imwrite(str(root / "cam0" / "data" / f"{stamp(index)}.png"), gray(index))
        lines.append(f"{stamp(index)},{stamp(index)}.png\r")
    (root / "cam0" / "data.csv").write_text("\n".join(lines) + "\n")
    matrix = ", ".join(str(value) for value in BODY_FROM_CAMERA.ravel())
    (root / "cam0" / "sensor.yaml").write_text(SENSOR.format(kind="camera", matrix=matrix, rate=20) + CAMERA)
    identity = ", ".join(str(value) for value in np.eye(4).ravel())
    (root / "imu0" / "sensor.yaml").write_text(SENSOR.format(kind="imu", matrix=identity, rate=200))
    samples = [f"{START_NS + i * 5 * MS},{numbers(0, 0, TURN, 0, 0, 9.81)}" for i in range(100)]
    (root / "imu0" / "data.csv").write_text("#timestamp [ns],w_RS_S_x [rad s^-1]\n" + "\n".join(samples))
    truth = ["#timestamp, p_RS_R_x [m]"]
    for index in range(61):  # ends 10 ms after the last frame but one
        at_s = 0.005 * index + 0.003
        half = TURN * at_s / 2
        pose = numbers(at_s, 2 * at_s, 0, np.cos(half), 0, 0, np.sin(half))
        truth.append(f"{START_NS + round(at_s * 1e9)},{pose},{numbers(*[0] * 9)}")
    (root / "state_groundtruth_estimate0" / "data.csv").write_text("\n".join(truth))
    return root.parent


def read_all(source: EurocSource, on_frame: Callable[[Frame], None] = lambda _: None) -> list[Frame]:
    frames: list[Frame] = []
    try:
        while True:
            frame = source.read(1.0)
            assert frame is not None, "a recording never makes its reader wait"
            on_frame(frame)
            frames.append(frame)
    except EndOfStream:
        return frames


@pytest.mark.parametrize("inner", [".", "mav0"])
def test_images_come_with_exact_stamps_and_intrinsics(folder: Path, inner: str) -> None:
    with EurocSource(folder / inner) as source:
        assert source.fps == pytest.approx(20)
        assert "96x64, 6 images at 20 FPS" in source.describe()
        frames = read_all(source)
    assert [frame.stamp_ns for frame in frames] == [stamp(i) for i in range(FRAMES)]
    for index, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.image, np.dstack([gray(index)] * 3))
        assert frame.name == f"{stamp(index)}.png"
        assert frame.camera is not None
        assert (frame.camera.fx, frame.camera.fy, frame.camera.cx, frame.camera.cy) == (80.5, 81.5, 47, 31)
        assert frame.camera.distortion_model == "plumb_bob"
        assert frame.camera.distortion[3] == pytest.approx(1.76187114e-05)


def test_poses_are_those_of_the_camera_at_the_frames_time(folder: Path) -> None:
    with EurocSource(folder) as source:
        frames = read_all(source)
    for index, frame in enumerate(frames[:-1]):
        at_s = (stamp(index) - START_NS) / 1e9
        cos, sin = np.cos(TURN * at_s), np.sin(TURN * at_s)
        body = np.array([[cos, -sin, 0, at_s], [sin, cos, 0, 2 * at_s], [0, 0, 1, 0], [0, 0, 0, 1]])
        np.testing.assert_allclose(frame.world_from_camera, body @ BODY_FROM_CAMERA, atol=1e-7)
    assert frames[-1].world_from_camera is None, "the truth ends before it"


def test_the_imu_measures_the_rotation_between_the_cameras(folder: Path) -> None:
    said: list[str | None] = []
    with EurocSource(folder, imu_health=said.append) as source:
        track = source.imu
        assert track is not None
        windows = []
        read_all(source, lambda frame: windows.append(track.window(frame.stamp_ns - 50 * MS, frame.stamp_ns)))
    half = TURN * 0.050
    # The body turns left, about its z axis; the camera's y axis points down.
    later_from_earlier = np.array(
        [[np.cos(half), 0, np.sin(half)], [0, 1, 0], [-np.sin(half), 0, np.cos(half)]]
    )
    for window in windows:
        assert window is not None
        assert window.complete
        np.testing.assert_allclose(window.camera_rotation, later_from_earlier, atol=1e-6)
    assert said == []


def test_without_imu_and_truth_there_are_images_all_the_same(folder: Path) -> None:
    (folder / "mav0" / "imu0").rename(folder / "away")
    (folder / "mav0" / "state_groundtruth_estimate0").rename(folder / "gone")
    with EurocSource(folder) as source:
        assert source.imu is None
        assert [frame.world_from_camera for frame in read_all(source)] == [None] * FRAMES


def test_a_damaged_or_missing_image_is_passed_over_and_counted(folder: Path) -> None:
    pictures = folder / "mav0" / "cam0" / "data"
    (pictures / f"{stamp(2)}.png").write_bytes(b"nothing")
    (pictures / f"{stamp(4)}.png").unlink()
    said: list[str | None] = []
    with EurocSource(folder, health=said.append) as source:
        frames = read_all(source)
    assert [frame.stamp_ns for frame in frames] == [stamp(i) for i in (0, 1, 3, 5)]
    assert [frame.sequence for frame in frames] == [0, 1, 2, 3]
    assert source.skipped == {"unreadable image file": 2}
    assert ["not an image" in str(said[0]), said[1], "cannot be read" in str(said[2]), said[3]] == [
        True,
        None,
    ] * 2


def test_if_not_even_the_first_image_is_one_it_is_an_error(folder: Path) -> None:
    (folder / "mav0" / "cam0" / "data" / f"{stamp(0)}.png").write_bytes(b"nothing")
    with pytest.raises(SourceError, match="not an image"), EurocSource(folder) as source:
        source.read(1.0)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("cam0/data.csv", None, r"cam0/data\.csv: cannot be read .*; is this an EuRoC folder"),
        ("cam0/data.csv", "#nothing\n", r"cam0/data\.csv: lists no image"),
        ("cam0/data.csv", "12.5;a.png\n", r"cam0/data\.csv: line 1 is '12.5;a\.png'"),
        ("imu0/data.csv", "1,2,3\n", r"imu0/data\.csv: is no table of a stamp and 6 numbers"),
        ("imu0/data.csv", "1,2,3,x,5,6,7\n", r"imu0/data\.csv: is no table of a stamp and 6 numbers"),
        ("cam0/sensor.yaml", "[1, 2", r"cam0/sensor\.yaml: is not YAML"),
        ("cam0/sensor.yaml", "hello", r"cam0/sensor\.yaml: holds no entries"),
        ("cam0/sensor.yaml", "resolution: [96, 64]", r"cam0/sensor\.yaml: resolution, intrinsics or"),
        ("cam0/sensor.yaml", CAMERA, r"cam0/sensor\.yaml: T_BS is missing"),
        (
            "cam0/sensor.yaml",
            "distortion_model: odd",
            r"cam0/sensor\.yaml: distortion_model 'odd': give one of",
        ),
    ],
)
def test_what_is_wrong_in_a_folder_is_named(folder: Path, name: str, content: str | None, said: str) -> None:
    path = folder / "mav0" / name
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises((SourceError, CalibrationError), match=said) as error:
        EurocSource(folder)
    assert "\n" not in str(error.value)
