"""Kalibr's files for the simulated rig, so that an estimator reads the same calibration as the simulator had."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import yaml

from m2h_runtime.files import write_atomically
from m2h_runtime.simulation.bag import COLOR
from m2h_runtime.simulation.trajectory import inverse

if TYPE_CHECKING:
    from pathlib import Path

    from m2h_runtime.simulation.bag import Rig

CAMCHAIN = "camchain-imucam.yaml"
IMU = "imu.yaml"


def write_calibration(folder: Path, rig: Rig) -> None:
    """Write `camchain-imucam.yaml` and `imu.yaml` into `folder`, which exists.

    The radtan model of Kalibr is plumb_bob without k3. T_cam_imu takes IMU to optical coordinates.

    Raises:
        InputError: they cannot be written.
    """
    k = rig.intrinsics
    camera = {
        "T_cam_imu": inverse(np.asarray(rig.imu_from_camera, np.float64)).tolist(),
        "cam_overlaps": [],
        "camera_model": "pinhole",
        "distortion_coeffs": [float(value) for value in rig.distortion[:4]],
        "distortion_model": "radtan",
        "intrinsics": [float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2])],
        "resolution": list(rig.size),
        "rostopic": COLOR,
        "timeshift_cam_imu": 0.0,
    }
    text = yaml.safe_dump({"cam0": camera}, default_flow_style=None, sort_keys=False)
    write_atomically(folder / CAMCHAIN, text.encode())
    rig.imu.write(folder / IMU)
