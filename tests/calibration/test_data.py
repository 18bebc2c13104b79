"""The files that ship in calibration/: every one loads, and says what its camera is known for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from m2h_runtime.calibration.calibration import load_calibration
from m2h_runtime.simulation.bag import Rig
from m2h_runtime.simulation.episode import default_camera

FOLDER = Path(__file__).resolve().parents[2] / "calibration"
FILES = sorted(FOLDER.glob("*.yaml"))
VIEWS_DEG = {
    "realsense_d435i_640x480": 55,  # 69 across 16:9, cut to 4:3
    "realsense_d435i_848x480": 69,
    "realsense_d455_640x480": 80,  # 90 across 16:10, cut to 4:3
    "realsense_d455_848x480": 90,
    "zed_2_1280x720_rectified": 101,
    "zed_2i_1280x720_rectified": 101,
    "oak_d_1920x1080": 63,
    "imx219_1640x1232": 62,
    "imx219_1920x1080": 39,
    "euroc_cam0": 79,
    "simulation_320x240": 70,
}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_shipped_file_loads_and_has_the_view_of_its_camera(file: Path) -> None:
    camera = load_calibration(file).camera
    view = np.degrees(2 * np.arctan(camera.width / 2 / camera.fx))
    assert view == pytest.approx(VIEWS_DEG[file.stem], abs=1)
    assert abs(camera.cx - camera.width / 2) < 0.05 * camera.width


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_shipped_file_says_where_its_numbers_come_from_and_is_in_the_table(file: Path) -> None:
    assert f"`{file.name}`" in (FOLDER / "README.md").read_text()
    comment = [line for line in file.read_text().splitlines() if line.startswith("#")]
    assert any(word in "\n".join(comment) for word in ("Computed:", "Published:", "Exact"))
    assert "Computed:" not in "".join(comment) or "Nominal:" in "".join(comment)


def test_the_simulated_camera_is_the_simulators() -> None:
    calibration = load_calibration(FOLDER / "simulation_320x240.yaml")
    camera, pinhole = calibration.camera, default_camera(320, 240)
    assert camera.matrix == pytest.approx(pinhole.matrix)
    assert calibration.camera_from_imu is not None
    rig = Rig(pinhole.matrix, (320, 240))
    assert calibration.camera_from_imu @ rig.imu_from_camera == pytest.approx(np.eye(4))


def test_the_imu_of_euroc_lies_where_the_data_set_says() -> None:
    """The camera, seen from the IMU, is at the published (-0.0216, -0.0647, 0.0098)."""
    transform = load_calibration(FOLDER / "euroc_cam0.yaml").camera_from_imu
    assert transform is not None
    assert np.linalg.inv(transform)[:3, 3] == pytest.approx([-0.02164, -0.064677, 0.0098107], abs=1e-6)
