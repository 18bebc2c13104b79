"""A recording in the folder layout of EuRoC (ASL): one camera, an IMU, and the true poses where they are known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from m2h_runtime.errors import SourceError
from m2h_runtime.frame import Frame
from m2h_runtime.imu.calibration import ImuCalibration
from m2h_runtime.imu.track import ImuTrack
from m2h_runtime.sources.base import EndOfStream
from m2h_runtime.sources.euroc_files import Sensor, read_image_list, read_table
from m2h_runtime.sources.images import read_rgb
from m2h_runtime.sources.poses import PoseSeries
from m2h_runtime.sources.recording import Complaints, ImuSeries, Recording

if TYPE_CHECKING:
    from collections.abc import Callable


TRUTH = "state_groundtruth_estimate0"
BROKEN_IMAGE = "unreadable image file"


class EurocSource(Recording):
    """Images of `cam0` with their stamps, intrinsics and, where the folder has them, IMU samples and true poses.

    Gray images come as RGB of three equal channels. An image file that is missing or damaged is passed over, counted in
    `skipped` and told to `health`; if not one before it could be read, it is an error.

    Args:
        folder: that holds `mav0`, or `mav0` itself.
        imu: gets the samples; None makes a track with the folder's own extrinsics.
        health: told what is wrong, and None when all is well again.
        imu_health: the same of the samples, where the track is made here.

    Raises:
        SourceError: a file is missing or holds something else.
        CalibrationError: a sensor.yaml cannot be used.
    """

    def __init__(
        self,
        folder: str | Path,
        imu: ImuTrack | None = None,
        health: Callable[[str | None], None] = lambda _: None,
        imu_health: Callable[[str | None], None] | None = None,
    ) -> None:
        super().__init__()
        self.folder = Path(folder)
        root = self.folder / "mav0" if (self.folder / "mav0").is_dir() else self.folder
        self._pictures = root / "cam0" / "data"
        self._images = read_image_list(root / "cam0" / "data.csv")
        sensor = Sensor(root / "cam0" / "sensor.yaml")
        self._camera = sensor.camera
        self._body_from_camera = sensor.body_from_sensor
        stamps_ns = [stamp_ns for stamp_ns, _ in self._images]
        period_ns = float(np.median(np.diff(stamps_ns))) if len(stamps_ns) > 1 else 0.0
        self.fps = 1e9 / period_ns if period_ns > 0 else sensor.rate_hz
        self._series: ImuSeries | None = None
        if (root / "imu0").is_dir():
            self._open_imu(root / "imu0", imu, imu_health)
        self._poses = _poses(root / TRUTH) if (root / TRUTH).is_dir() else None
        self._complaints = Complaints(health)
        self._index = self._sequence = 0

    def _open_imu(
        self, folder: Path, imu: ImuTrack | None, health: Callable[[str | None], None] | None
    ) -> None:
        stamps_ns, values = read_table(folder / "data.csv", 6)
        self._series = ImuSeries(stamps_ns, values[:, :3], values[:, 3:])
        if imu is None:
            sensor = Sensor(folder / "sensor.yaml")
            camera_from_imu = np.linalg.inv(self._body_from_camera) @ sensor.body_from_sensor
            imu = ImuTrack(
                ImuCalibration(camera_from_imu, nominal_rate_hz=sensor.rate_hz, frame_id="imu0"), health
            )
        self.imu = imu

    def read(self, timeout_s: float) -> Frame | None:  # noqa: ARG002  # a file is there or it is not
        """The next image; see `Source.read`. Never None."""
        while self._index < len(self._images):
            stamp_ns, name = self._images[self._index]
            self._index += 1
            try:
                return self._frame(stamp_ns, name)
            except SourceError as error:
                if self._sequence == 0:
                    raise
                self.skipped[BROKEN_IMAGE] = self.skipped.get(BROKEN_IMAGE, 0) + 1
                self._complaints.say(str(error))
        raise EndOfStream

    def _frame(self, stamp_ns: int, name: str) -> Frame:
        image = read_rgb(self._pictures / name)
        self._complaints.say(None)
        if self._series is not None and self.imu is not None:
            self._series.play(self.imu, stamp_ns, self.shift_ns)
        pose = self._poses.at(stamp_ns) if self._poses is not None else None
        frame = Frame(
            image,
            stamp_ns + self.shift_ns,
            self._sequence,
            "cam0",
            name,
            camera=self._camera,
            world_from_camera=None if pose is None else pose @ self._body_from_camera,
        )
        self._sequence += 1
        return frame

    def describe(self) -> str:
        """Folder, size, number of images and rate."""
        rate = f" at {self.fps:.4g} FPS" if self.fps else ""
        return f"EuRoC {self.folder}, {self._camera.width}x{self._camera.height}, {len(self._images)} images{rate}"


def _poses(folder: Path) -> PoseSeries:
    """Of the body, from x y z and the quaternion w x y z of the folder's sensor, which is the body in EuRoC."""
    stamps_ns, values = read_table(folder / "data.csv", 7)
    return PoseSeries(stamps_ns, values[:, :3], values[:, 3:])
