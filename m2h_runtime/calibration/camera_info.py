"""ROS camera_info files, as camera_calibration_parsers and the camera drivers have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from m2h_runtime.calibration.calibration import Calibration
from m2h_runtime.calibration.camera import COEFFICIENTS, CameraModel, Distortion
from m2h_runtime.calibration.own_entries import OWN, own_entries, own_values
from m2h_runtime.errors import CalibrationError
from m2h_runtime.files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from m2h_runtime.calibration.entries import Entries

KEYS = (
    "image_width",
    "image_height",
    "camera_name",
    "camera_matrix",
    "distortion_model",
    "distortion_coefficients",
    "rectification_matrix",
    "projection_matrix",
    OWN,
)
DISTORTIONS: dict[str, Distortion] = {
    "plumb_bob": "plumb_bob",
    "rational_polynomial": "rational_polynomial",
    "equidistant": "equidistant",
}


def recognises(entries: Entries) -> bool:
    """The file is a camera_info file."""
    return "camera_matrix" in entries


def parse(entries: Entries) -> Calibration:
    """The camera of a file. Its rectification and projection are of the driver's own rectified image: not used.

    Raises:
        CalibrationError: an entry is missing, unknown or wrong, or the camera is not calibrated (zeros).
    """
    entries.refuse_unknown(KEYS)
    with entries.located():
        return Calibration(
            _camera(entries),
            name=entries.text("camera_name") if "camera_name" in entries else "",
            **own_entries(entries),
        )


def _camera(entries: Entries) -> CameraModel:
    matrix = _matrix(entries, "camera_matrix", 9)
    fx, skew, cx, zero, fy, cy, *last = matrix
    if (skew, zero, *last) != (0, 0, 0, 0, 1):
        raise CalibrationError(f"camera_matrix: expected fx 0 cx, 0 fy cy, 0 0 1, got {list(matrix)}")
    name, coefficients = entries.text("distortion_model"), _matrix(entries, "distortion_coefficients")
    if name not in DISTORTIONS:
        raise CalibrationError(
            f"distortion_model: no lens model {name!r}; there are {', '.join(DISTORTIONS)}"
        )
    return CameraModel(
        *(entries.whole("image_width"), entries.whole("image_height"), fx, fy, cx, cy),
        distortion_model=DISTORTIONS[name],
        distortion=coefficients,
    )


def _matrix(entries: Entries, key: str, count: int | None = None) -> tuple[float, ...]:
    """Elements, row by row, of an entry with rows, cols and data."""
    matrix = entries.child(key)
    matrix.refuse_unknown(("rows", "cols", "data"))
    return matrix.numbers("data", count)


def save_camera_info(path: Path, calibration: Calibration) -> None:
    """Write a camera_info file. It has no place for the IMU; `kalibr.save_kalibr` has.

    An ideal lens is written as plumb_bob with zeros, which every reader knows.

    Raises:
        InputError: the file cannot be written.
    """
    camera = calibration.camera
    model = "plumb_bob" if camera.distortion_model == "none" else camera.distortion_model
    coefficients = camera.distortion
    if model == "plumb_bob":
        coefficients = (*coefficients, *(0.0,) * COEFFICIENTS[model][-1])[: COEFFICIENTS[model][-1]]
    k = camera.matrix
    values = {
        "image_width": camera.width,
        "image_height": camera.height,
        "camera_name": calibration.name or "camera",
        "camera_matrix": _data(3, 3, k.ravel()),
        "distortion_model": model,
        "distortion_coefficients": _data(1, len(coefficients), coefficients),
        "rectification_matrix": _data(3, 3, (1, 0, 0, 0, 1, 0, 0, 0, 1)),
        "projection_matrix": _data(3, 4, (*k[0], 0, *k[1], 0, *k[2], 0)),
        **own_values(calibration),
    }
    write_atomically(path, yaml.safe_dump(values, default_flow_style=None, sort_keys=False).encode())


def _data(rows: int, columns: int, numbers: Any) -> dict[str, Any]:
    return {"rows": rows, "cols": columns, "data": [float(number) for number in numbers]}
