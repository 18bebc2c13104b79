"""Kalibr's camera chain: camchain.yaml, camchain-imucam.yaml (github.com/ethz-asl/kalibr, wiki "yaml formats")."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from m2h_runtime.calibration.calibration import Calibration
from m2h_runtime.calibration.camera import CameraModel, Distortion
from m2h_runtime.calibration.own_entries import OWN, own_entries, own_values
from m2h_runtime.errors import CalibrationError
from m2h_runtime.files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from m2h_runtime.calibration.entries import Entries

KEYS = (
    "T_cam_imu",
    "T_cn_cnm1",
    "cam_overlaps",
    "camera_model",
    "distortion_coeffs",
    "distortion_model",
    "intrinsics",
    "resolution",
    "rostopic",
    "timeshift_cam_imu",
    OWN,
)
DISTORTIONS: dict[str, Distortion] = {
    "radtan": "plumb_bob",
    "equidistant": "equidistant",
    "equi": "equidistant",
    "none": "none",
}


def recognises(entries: Entries) -> bool:
    """The file is a camera chain."""
    return any(re.fullmatch(r"cam\d+", key) for key in entries)


def parse(chain: Entries, name: str) -> Calibration:
    """The camera `name` (cam0, cam1, ...) of a chain.

    Raises:
        CalibrationError: there is no such camera, it has an omnidirectional model, or an entry is missing or wrong.
    """
    if name not in chain:
        raise CalibrationError(f"{chain.where}: has no camera {name!r}; it has {', '.join(chain)}")
    entries = chain.child(name)
    entries.refuse_unknown(KEYS)
    with entries.located():
        return Calibration(
            _camera(entries),
            camera_from_imu=entries.matrix("T_cam_imu", (4, 4)) if "T_cam_imu" in entries else None,
            imu_time_offset_s=entries.number("timeshift_cam_imu") if "timeshift_cam_imu" in entries else 0.0,
            name=name,
            **own_entries(entries),
        )


def _camera(entries: Entries) -> CameraModel:
    model, distortion = entries.text("camera_model"), entries.text("distortion_model")
    if model != "pinhole" or distortion not in DISTORTIONS:
        raise CalibrationError(
            f"the lens model {model}-{distortion} is not read here; "
            "calibrate with kalibr --models pinhole-radtan, or pinhole-equi for a wide lens"
        )
    width, height = entries.wholes("resolution", 2)
    fx, fy, cx, cy = entries.numbers("intrinsics", 4)
    coefficients = () if distortion == "none" else entries.numbers("distortion_coeffs", 4)
    return CameraModel(width, height, fx, fy, cx, cy, DISTORTIONS[distortion], coefficients)


def save_kalibr(path: Path, calibration: Calibration) -> None:
    """Write a camera chain with `calibration` as cam0.

    Raises:
        CalibrationError: Kalibr has no such lens model (rational_polynomial, or plumb_bob with k3).
        InputError: the file cannot be written.
    """
    camera = calibration.camera
    model, coefficients = _lens(camera)
    values: dict[str, Any] = {}
    if calibration.camera_from_imu is not None:
        values["T_cam_imu"] = calibration.camera_from_imu.tolist()
        values["timeshift_cam_imu"] = calibration.imu_time_offset_s
    values |= {
        "cam_overlaps": [],
        "camera_model": "pinhole",
        "distortion_coeffs": list(coefficients),
        "distortion_model": model,
        "intrinsics": [camera.fx, camera.fy, camera.cx, camera.cy],
        "resolution": [camera.width, camera.height],
        "rostopic": "/image_raw",
        **own_values(calibration),
    }
    write_atomically(
        path, yaml.safe_dump({"cam0": values}, default_flow_style=None, sort_keys=False).encode()
    )


def _lens(camera: CameraModel) -> tuple[str, tuple[float, ...]]:
    """Kalibr's name of the lens model, and its four coefficients."""
    if camera.distortion_model == "equidistant":
        return "equidistant", camera.distortion
    if camera.ideal:
        return "radtan", (0.0, 0.0, 0.0, 0.0)
    if camera.distortion_model == "plumb_bob" and not any(camera.distortion[4:]):
        return "radtan", camera.distortion[:4]
    raise CalibrationError(
        f"a Kalibr camchain has no {camera.distortion_model} lens with {len(camera.distortion)} coefficients; "
        "write a camera_info file"
    )
