"""A Luxonis OAK camera: its colour camera and its IMU. Needs the extra `oak` (DepthAI 3)."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from m2h_runtime.calibration.camera import CameraModel
from m2h_runtime.clocks import epoch_ns
from m2h_runtime.errors import SourceError
from m2h_runtime.frame import Frame
from m2h_runtime.imu.calibration import ImuCalibration
from m2h_runtime.imu.track import ImuTrack
from m2h_runtime.libraries import require
from m2h_runtime.sources.base import Source

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from m2h_runtime.calibration.camera import Distortion

PATIENCE_S = 2.0
"""A camera that delivers nothing for so long is gone."""
DEFAULT_SIZE, DEFAULT_FPS = (480, 640), 30.0
IMU_HZ = 200
IMU_QUEUE = 100
"""So many samples wait while no frame is read."""


class OakSource(Source):
    """Images of the camera on socket A, stamped by the device, whose clock DepthAI keeps in step with the host's.

    Args:
        device: name, IP address or id of the camera; "" takes the first.
        size: (height, width); None is `DEFAULT_SIZE`.
        fps: frames a second; None is `DEFAULT_FPS`.
        imu: gets the samples; None makes a track with the camera's own extrinsics.
        health: told what is wrong with the samples, and None when all is well again.
        clock: the monotonic clock, integer nanoseconds.

    Raises:
        SourceError: no such camera, or it cannot deliver this.
        InputError: depthai is not installed.
    """

    live = True

    def __init__(
        self,
        device: str = "",
        size: tuple[int, int] | None = None,
        fps: float | None = None,
        imu: ImuTrack | None = None,
        health: Callable[[str | None], None] | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        super().__init__()
        self._dai = require("depthai", "an OAK camera", "oak")
        self._name = f"oak {device}".strip()
        self._clock = clock
        self._sequence = 0
        self._pipeline: Any = None
        self._device: Any = None
        self.size, self.fps = size or DEFAULT_SIZE, fps or DEFAULT_FPS
        try:
            self._open(device, imu, health)
        except RuntimeError as error:  # all that DepthAI raises
            self.close()
            raise SourceError(
                f"{self._name}: cannot be opened ({' '.join(str(error).split())}); check its cable and udev rules"
            ) from error
        except BaseException:
            self.close()
            raise
        self._last_ns = clock()

    def _open(self, device: str, imu: ImuTrack | None, health: Callable[[str | None], None] | None) -> None:
        dai = self._dai
        self._check_presence(device)
        socket = dai.CameraBoardSocket.CAM_A
        self._device = dai.Device(device) if device else dai.Device()
        self._pipeline = dai.Pipeline(self._device)
        camera = self._pipeline.create(dai.node.Camera).build(socket)
        images = camera.requestOutput((self.size[1], self.size[0]), dai.ImgFrame.Type.RGB888i, fps=self.fps)
        self._images = images.createOutputQueue(maxSize=1, blocking=False)
        calibration = self._device.readCalibration()
        self._camera = _camera_model(dai, calibration, socket, self.size)
        self._samples: Any = None
        if self._device.getConnectedIMU() not in ("", "NONE"):
            self._open_imu(imu or ImuTrack(_imu_calibration(dai, calibration, socket), health))
        self._pipeline.start()

    def _check_presence(self, device: str) -> None:
        """DepthAI itself would search for 10 s. A camera behind a router answers to its address only."""
        names = [
            name for info in self._dai.Device.getAllAvailableDevices() for name in (info.name, info.deviceId)
        ]
        if device not in names and "." not in device and (device or not names):
            there = ", ".join(name for name in names if name) or "none"
            raise SourceError(
                f"{self._name}: no such camera; cameras here: {there}; check its cable and power"
            )

    def _open_imu(self, imu: ImuTrack) -> None:
        dai = self._dai
        node = self._pipeline.create(dai.node.IMU)
        node.enableIMUSensor([dai.IMUSensor.ACCELEROMETER_RAW, dai.IMUSensor.GYROSCOPE_RAW], IMU_HZ)
        node.setBatchReportThreshold(1)
        self._samples = node.out.createOutputQueue(maxSize=IMU_QUEUE, blocking=False)
        self.imu = imu

    def read(self, timeout_s: float) -> Frame | None:
        """The newest image; see `Source.read`."""
        try:
            message = self._images.get(timedelta(seconds=timeout_s))
            self._take_samples()
        except RuntimeError as error:
            raise SourceError(f"{self._name}: the camera failed ({' '.join(str(error).split())})") from error
        now_ns = self._clock()
        if message is None:
            if now_ns - self._last_ns > PATIENCE_S * 1e9:
                raise SourceError(
                    f"{self._name}: the camera stopped delivering (nothing for {PATIENCE_S:g} s); check its cable"
                )
            return None
        self._last_ns = now_ns
        taken_ns = _nanoseconds(message.getTimestamp())
        rgb = cv2.cvtColor(message.getCvFrame(), cv2.COLOR_BGR2RGB)
        frame = Frame(rgb, epoch_ns(taken_ns), self._sequence, taken_ns=taken_ns, camera=self._camera)
        self._sequence += 1
        return frame

    def _take_samples(self) -> None:
        """Hand the track what has come since the last frame."""
        while self.imu is not None and (batch := self._samples.tryGet()) is not None:
            for packet in batch.packets:
                gyro, accel = packet.gyroscope, packet.acceleroMeter
                stamp_ns = epoch_ns(_nanoseconds(gyro.getTimestamp()))
                self.imu.push(stamp_ns, (gyro.x, gyro.y, gyro.z), (accel.x, accel.y, accel.z))

    def describe(self) -> str:
        """Camera, size and rate."""
        return f"{self._name}, {self.size[1]}x{self.size[0]} at {self.fps:g} FPS"

    def close(self) -> None:
        """Stop the pipeline and let the device go."""
        pipeline, self._pipeline = self._pipeline, None
        device, self._device = self._device, None
        if pipeline is not None and pipeline.isRunning():
            pipeline.stop()
        if device is not None:
            device.close()


def _nanoseconds(since: timedelta) -> int:
    """On the host's steady clock, which is `time.monotonic_ns`; exact to a microsecond."""
    return since // timedelta(microseconds=1) * 1000


def _camera_model(dai: Any, calibration: Any, socket: Any, size: tuple[int, int]) -> CameraModel:
    height, width = size
    k = np.array(calibration.getCameraIntrinsics(socket, width, height))
    distortion = tuple(float(value) for value in calibration.getDistortionCoefficients(socket))
    model: Distortion = "rational_polynomial"
    if calibration.getDistortionModel(socket) == dai.CameraModel.Fisheye:
        model, distortion = "equidistant", distortion[:4]
    return CameraModel(width, height, k[0, 0], k[1, 1], k[0, 2], k[1, 2], model, distortion)


def _imu_calibration(dai: Any, calibration: Any, socket: Any) -> ImuCalibration:
    """With the extrinsics from the device's memory; some devices have none."""
    transform: NDArray[np.float64] | None
    try:
        transform = np.array(
            calibration.getImuToCameraExtrinsics(socket, useSpecTranslation=True, unit=dai.LengthUnit.METER)
        )
    except RuntimeError:
        transform = None
    return ImuCalibration(transform, nominal_rate_hz=IMU_HZ)
