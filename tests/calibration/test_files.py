"""Calibration files: what is read, what is refused and how, and that writing and reading are each other's inverse."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pytest
import yaml

from m2h_runtime.calibration.calibration import Calibration, check_fits, load_calibration
from m2h_runtime.calibration.camera import CameraModel
from m2h_runtime.calibration.camera_info import save_camera_info
from m2h_runtime.calibration.kalibr import save_kalibr
from m2h_runtime.errors import CalibrationError, InputError
from m2h_runtime.simulation.bag import Rig
from m2h_runtime.simulation.calibration_files import CAMCHAIN, write_calibration

if TYPE_CHECKING:
    from pathlib import Path

KALIBR = """
cam0:
  T_cam_imu:
  - [0.0, -1.0, 0.0, 0.01]
  - [0.0, 0.0, -1.0, -0.02]
  - [1.0, 0.0, 0.0, 0.03]
  - [0.0, 0.0, 0.0, 1.0]
  cam_overlaps: [1]
  camera_model: pinhole
  distortion_coeffs: [-0.28, 0.07, 0.0002, 2e-05]
  distortion_model: radtan
  intrinsics: [458.654, 457.296, 367.215, 248.375]
  resolution: [752, 480]
  rostopic: /cam0/image_raw
  timeshift_cam_imu: -8.121e-05
cam1:
  camera_model: pinhole
  distortion_coeffs: [0.1, 0.01, -0.02, 0.003]
  distortion_model: equidistant
  intrinsics: [300.0, 301.0, 320.0, 240.0]
  resolution: [640, 480]
  m2h: {depth_scale: 0.97, frame_id: right_optical}
"""
CAMERA_INFO = """
image_width: 640
image_height: 480
camera_name: front
camera_matrix: {rows: 3, cols: 3, data: [600.0, 0, 320.5, 0, 601.0, 239.5, 0, 0, 1]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [0.1, -0.2, 0.001, 2e-05, 0]}
rectification_matrix: {rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}
projection_matrix: {rows: 3, cols: 4, data: [590, 0, 320, 0, 0, 590, 240, 0, 0, 0, 1, 0]}
m2h: {depth_scale: 0.967}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "camera.yaml"
    path.write_text(text)
    return path


def test_a_kalibr_chain_gives_lens_extrinsics_and_time_shift(tmp_path: Path) -> None:
    """And 2e-05, without a point, is a number although PyYAML reads text."""
    calibration = load_calibration(written(tmp_path, KALIBR))
    assert calibration.camera == CameraModel(
        752, 480, 458.654, 457.296, 367.215, 248.375, "plumb_bob", (-0.28, 0.07, 0.0002, 2e-05)
    )
    assert calibration.camera_from_imu is not None
    assert calibration.camera_from_imu @ [1, 2, 3, 1] == pytest.approx([-2 + 0.01, -3 - 0.02, 1 + 0.03, 1])
    assert (calibration.imu_time_offset_s, calibration.name) == (-8.121e-05, "cam0")
    with pytest.raises(ValueError, match="read-only"):
        calibration.camera_from_imu[0, 3] = 1


def test_another_camera_of_a_chain_is_named_after_a_hash(tmp_path: Path) -> None:
    calibration = load_calibration(f"{written(tmp_path, KALIBR)}#cam1")
    assert calibration.camera.distortion_model == "equidistant"
    assert (calibration.depth_scale, calibration.frame_id) == (0.97, "right_optical")
    assert calibration.camera_from_imu is None


def test_a_camera_info_file_gives_the_raw_camera(tmp_path: Path) -> None:
    calibration = load_calibration(written(tmp_path, CAMERA_INFO))
    assert calibration.camera == CameraModel(
        640, 480, 600.0, 601.0, 320.5, 239.5, "plumb_bob", (0.1, -0.2, 0.001, 2e-05, 0)
    )
    assert (calibration.name, calibration.depth_scale) == ("front", 0.967)


@pytest.mark.parametrize(
    ("text", "old", "new", "says"),
    [
        (
            KALIBR,
            "timeshift_cam_imu",
            "timeshift_cam_imy",
            "cam0: no entry 'timeshift_cam_imy' is known; the nearest is 'timeshift_cam_imu'",
        ),
        (
            KALIBR,
            "camera_model: pinhole",
            "camera_model: omni",
            "cam0: the lens model omni-radtan is not read",
        ),
        (KALIBR, "distortion_model: radtan", "distortion_model: fov", "pinhole-fov is not read"),
        (KALIBR, "[752, 480]", "[752]", "cam0: resolution: expected 2 whole numbers"),
        (
            KALIBR,
            "[0.0, -1.0, 0.0, 0.01]",
            "[0.0, -1.1, 0.0, 0.01]",
            "cam0: calibration: T_cam_imu is not a rotation",
        ),
        (KALIBR, "[0.0, -1.0, 0.0, 0.01]", "[0.0, -1.0, 0.0]", "cam0: T_cam_imu: expected 4 rows of 4"),
        (KALIBR, "-8.121e-05", "soon", "cam0: timeshift_cam_imu: expected a finite number"),
        (KALIBR, "458.654", ".nan", "cam0: intrinsics: expected a list of 4 finite numbers"),
        (KALIBR, "458.654", "-458.654", "cam0: camera model: needs a positive size and focal length"),
        (
            CAMERA_INFO,
            "camera_name: front",
            "camera_nam: front",
            "no entry 'camera_nam' is known; the nearest is 'camera_name'",
        ),
        (CAMERA_INFO, "image_width: 640", "", "has no entry 'image_width'"),
        (CAMERA_INFO, "image_width: 640", "image_width: 640.5", "image_width: expected a whole number"),
        (CAMERA_INFO, "plumb_bob", "thin_prism", "no lens model 'thin_prism'; there are plumb_bob"),
        (CAMERA_INFO, "2e-05, 0]", "2e-05, 0, 1]", "plumb_bob has 4 or 5 coefficients, got 6"),
        (CAMERA_INFO, "[600.0, 0, 320.5", "[600.0, 3, 320.5", "camera_matrix: expected fx 0 cx"),
        (CAMERA_INFO, "600.0, 0, 320.5, 0, 601.0", "0, 0, 0, 0, 0", "needs a positive size and focal length"),
        (CAMERA_INFO, "data: [600.0", "dat: [600.0", "camera_matrix: no entry 'dat' is known"),
        (CAMERA_INFO, "depth_scale: 0.967", "depth_scale: 0", "depth_scale 0.0 is not a positive number"),
        (CAMERA_INFO, "depth_scale: 0.967", "depthscale: 1", "m2h: no entry 'depthscale' is known"),
        (CAMERA_INFO, "image_width: 640", "image_width: 640\n  x: [", "is not YAML"),
        (CAMERA_INFO, "camera_matrix", "K", "neither cam0 (a Kalibr camchain) nor camera_matrix"),
    ],
)
def test_a_wrong_entry_is_one_line_with_file_and_key(
    tmp_path: Path, text: str, old: str, new: str, says: str
) -> None:
    assert old in text
    path = written(tmp_path, text.replace(old, new, 1))
    with pytest.raises(CalibrationError) as caught:
        load_calibration(path)
    line = str(caught.value)
    assert says in line
    assert line.startswith(f"{path}: ")
    assert line.count(str(path)) == 1
    assert "\n" not in line


def test_what_is_no_calibration_file_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="cannot be read"):
        load_calibration(tmp_path / "nothing.yaml")
    with pytest.raises(CalibrationError, match="holds no entries"):
        load_calibration(written(tmp_path, "- 1\n- 2\n"))
    with pytest.raises(CalibrationError, match="no camera 'cam7'; it has cam0, cam1"):
        load_calibration(f"{written(tmp_path, KALIBR)}#cam7")
    with pytest.raises(CalibrationError, match="holds one camera; leave out #cam0"):
        load_calibration(f"{written(tmp_path, CAMERA_INFO)}#cam0")


CAMERAS = {
    "plumb_bob": CameraModel(640, 480, 600, 601, 320, 240, "plumb_bob", (0.1, -0.2, 1e-05, 1e-7, 0.3)),
    "rational": CameraModel(640, 480, 600, 601, 320, 240, "rational_polynomial", tuple(np.arange(8) / 7)),
    "equidistant": CameraModel(640, 480, 300, 301, 320, 240, "equidistant", (0.1, 1e-5, 0.0, 0.0)),
}


@pytest.mark.parametrize("camera", CAMERAS.values(), ids=CAMERAS.keys())
def test_a_camera_info_file_reads_back_as_it_was_written(tmp_path: Path, camera: CameraModel) -> None:
    calibration = Calibration(camera, "front_optical", depth_scale=0.9, name="front")
    save_camera_info(tmp_path / "a.yaml", calibration)
    assert load_calibration(tmp_path / "a.yaml") == calibration


@pytest.mark.parametrize("model", ["radtan", "equidistant"])
def test_a_kalibr_chain_reads_back_as_it_was_written(tmp_path: Path, model: str) -> None:
    radtan = CameraModel(640, 480, 600, 601, 320, 240, "plumb_bob", (0.1, -0.2, 1e-05, 1e-7))
    camera = radtan if model == "radtan" else CAMERAS["equidistant"]
    transform = np.eye(4)[[1, 2, 0, 3]]
    save_kalibr(tmp_path / "a.yaml", Calibration(camera, "eye", transform, -0.0123, 1.1, "cam0"))
    again = load_calibration(tmp_path / "a.yaml")
    assert (again.camera, again.frame_id, again.depth_scale) == (camera, "eye", 1.1)
    assert again.imu_time_offset_s == -0.0123
    assert again.camera_from_imu is not None
    assert again.camera_from_imu.tolist() == transform.tolist()


def test_what_a_format_cannot_say_is_not_written(tmp_path: Path) -> None:
    """Kalibr's radtan has no k3: leaving it out would be another lens."""
    for name in ("plumb_bob", "rational"):
        with pytest.raises(CalibrationError, match="write a camera_info file"):
            save_kalibr(tmp_path / "a.yaml", Calibration(CAMERAS[name]))
    assert not any(tmp_path.iterdir())
    with pytest.raises(InputError, match="cannot be written"):
        save_camera_info(tmp_path / "none" / "a.yaml", Calibration(CAMERAS["plumb_bob"]))


def test_a_lens_that_is_ideal_is_written_with_zeros_that_ros_reads(tmp_path: Path) -> None:
    save_camera_info(tmp_path / "a.yaml", Calibration(CameraModel(64, 48, 50, 50, 31.5, 23.5)))
    values = yaml.safe_load((tmp_path / "a.yaml").read_text())
    assert values["distortion_model"] == "plumb_bob"
    assert values["distortion_coefficients"] == {"rows": 1, "cols": 5, "data": [0.0] * 5}
    assert values["projection_matrix"]["data"] == [50, 0, 31.5, 0, 0, 50, 23.5, 0, 0, 0, 1, 0]
    assert load_calibration(tmp_path / "a.yaml").camera.ideal


def test_the_simulators_own_files_are_read(tmp_path: Path) -> None:
    rig = Rig(np.array([[100.0, 0, 79.5], [0, 100, 59.5], [0, 0, 1]]), (160, 120))
    write_calibration(tmp_path, rig)
    calibration = load_calibration(tmp_path / CAMCHAIN)
    assert calibration.camera.size == (120, 160)
    assert calibration.camera_from_imu is not None
    assert calibration.camera_from_imu @ rig.imu_from_camera == pytest.approx(np.eye(4))


def test_images_of_the_same_aspect_ratio_scale_the_calibration_and_say_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calibration = Calibration(CameraModel(640, 480, 600, 600, 319.5, 239.5), name="front")
    with caplog.at_level(logging.WARNING, "m2h"):
        assert check_fits(calibration, (480, 640)) is calibration
        assert not caplog.records
        half = check_fits(calibration, (240, 320))
    assert half.camera == CameraModel(320, 240, 300, 300, 159.5, 119.5)
    assert half.name == "front"
    assert "front: is for 640x480, scaled to 320x240" in caplog.text


def test_images_of_another_aspect_ratio_are_refused() -> None:
    calibration = Calibration(CameraModel(640, 480, 600, 600, 319.5, 239.5), name="front")
    with pytest.raises(CalibrationError, match="front: is for 640x480, the images are 1280x720"):
        check_fits(calibration, (720, 1280))
