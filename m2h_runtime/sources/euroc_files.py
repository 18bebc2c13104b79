"""The files of an EuRoC / ASL folder: tables with nanosecond stamps, and sensor.yaml."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from m2h_runtime.calibration.camera import CameraModel
from m2h_runtime.errors import CalibrationError, SourceError
from m2h_runtime.files import reason

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from m2h_runtime.calibration.camera import Distortion

_LENSES: dict[str, Distortion] = {
    "radial-tangential": "plumb_bob",
    "radtan": "plumb_bob",
    "plumb_bob": "plumb_bob",
    "equidistant": "equidistant",
    "none": "none",
}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({reason(error)}); is this an EuRoC folder?") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: is no text; is this an EuRoC folder?") from error


def read_table(path: Path, columns: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Stamps (N,) and the `columns` numbers after each (N, columns) of a data.csv.

    Raises:
        SourceError: the file cannot be read or holds something else.
    """
    # A stamp of today does not fit into a double.
    rows = np.dtype([("stamp", np.int64), ("values", np.float64, (columns,))])
    lines = _text(path).splitlines()
    try:
        table = np.loadtxt(lines, rows, delimiter=",", usecols=range(columns + 1), ndmin=1)
    except (ValueError, IndexError) as error:
        raise SourceError(f"{path}: is no table of a stamp and {columns} numbers a line ({error})") from error
    return table["stamp"], table["values"]


def read_image_list(path: Path) -> list[tuple[int, str]]:
    """Stamp and file name of every image, from the data.csv of a camera.

    Raises:
        SourceError: the file cannot be read, or a line is something else, or there is none.
    """
    images = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        stamp, _, name = line.partition(",")
        if not stamp.strip().isdigit() or not name.strip():
            raise SourceError(f"{path}: line {number} is {line!r}; it should be a stamp and a file name")
        images.append((int(stamp), name.strip()))
    if not images:
        raise SourceError(f"{path}: lists no image")
    return images


class Sensor:
    """A sensor.yaml.

    Raises:
        SourceError: the file cannot be read or is no YAML mapping.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            entries = yaml.safe_load(_text(path))
        except yaml.YAMLError as error:
            raise SourceError(f"{path}: is not YAML ({' '.join(str(error).split())})") from error
        if not isinstance(entries, dict):
            raise SourceError(f"{path}: holds no entries; is this an EuRoC folder?")
        self._entries: dict[str, Any] = entries

    @property
    def rate_hz(self) -> float | None:
        """Images or samples a second, if it says so."""
        rate = self._entries.get("rate_hz")
        return float(rate) if isinstance(rate, (int, float)) and rate > 0 else None

    @property
    def body_from_sensor(self) -> NDArray[np.float64]:
        """float64 (4, 4), the entry T_BS.

        Raises:
            CalibrationError: it is missing or no such matrix.
        """
        try:
            return np.array(self._entries["T_BS"]["data"], np.float64).reshape(4, 4)
        except (KeyError, TypeError, ValueError) as error:
            raise CalibrationError(f"{self.path}: T_BS is missing or not 16 numbers; correct it") from error

    @property
    def camera(self) -> CameraModel:
        """The intrinsics.

        Raises:
            CalibrationError: entries are missing or no camera's.
        """
        entries = self._entries
        lens = str(entries.get("distortion_model", "none"))
        if lens not in _LENSES:
            raise CalibrationError(
                f"{self.path}: distortion_model {lens!r}: give one of {', '.join(_LENSES)}"
            )
        try:
            width, height = (int(value) for value in entries["resolution"])
            fx, fy, cx, cy = (float(value) for value in entries["intrinsics"])
            distortion = tuple(float(value) for value in entries.get("distortion_coefficients") or ())
        except (KeyError, TypeError, ValueError) as error:
            raise CalibrationError(
                f"{self.path}: resolution, intrinsics or distortion_coefficients are missing or no numbers; correct it"
            ) from error
        return CameraModel(width, height, fx, fy, cx, cy, _LENSES[lens], distortion)
