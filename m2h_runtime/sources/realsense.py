"""A RealSense camera: its colour stream and, where it has one, its IMU. Needs the extra `realsense`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

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


class RealSenseSource(Source):
    """Colour images in RGB, stamped by the camera's clock as librealsense maps it onto the host's (global time).

    Depth is not read. The IMU's samples are those of the gyroscope, each with the latest acceleration.

    Args:
        serial: of the camera; "" takes the first.
        size: (height, width) of the colour stream; None is `DEFAULT_SIZE`.
        fps: frames a second; None is `DEFAULT_FPS`.
        imu: gets the samples; None makes a track with the camera's own extrinsics.
        health: told what is wrong with the samples, and None when all is well again.
        clock: the monotonic clock, integer nanoseconds.

    Raises:
        SourceError: no such camera, busy, or it has no such size and rate.
        InputError: pyrealsense2 is not installed.
    """

    live = True

    def __init__(
        self,
        serial: str = "",
        size: tuple[int, int] | None = None,
        fps: float | None = None,
        imu: ImuTrack | None = None,
        health: Callable[[str | None], None] | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        super().__init__()
        self._rs = require("pyrealsense2", "a RealSense camera", "realsense")
        self._name = f"realsense {serial}".strip()
        self._clock = clock
        self._sequence = 0
        self._started: list[Any] = []
        self._accel: list[float] | None = None
        self.size, self.fps = size or DEFAULT_SIZE, fps or DEFAULT_FPS
        try:
            self._open(serial, imu, health)
        except RuntimeError as error:  # all that librealsense raises
            self.close()
            raise SourceError(
                f"{self._name}: cannot be opened ({error}); `rs-enumerate-devices` lists what is there"
            ) from error
        except BaseException:
            self.close()
            raise
        self._last_ns = clock()

    def _open(self, serial: str, imu: ImuTrack | None, health: Callable[[str | None], None] | None) -> None:
        rs = self._rs
        self._check_presence(serial)
        height, width = self.size
        self._pipeline, config = self._new(serial)
        config.enable_stream(rs.stream.color, width, height, rs.format.rgb8, round(self.fps or DEFAULT_FPS))
        colour = self._pipeline.start(config)
        self._started.append(self._pipeline)
        self._camera = _camera_model(colour.get_stream(rs.stream.color).as_video_stream_profile())
        device = colour.get_device()
        for sensor in device.query_sensors():
            if sensor.supports(rs.option.global_time_enabled):
                sensor.set_option(rs.option.global_time_enabled, 1)
        if any(sensor.is_motion_sensor() for sensor in device.query_sensors()):
            self._open_imu(serial, colour.get_stream(rs.stream.color), imu, health)

    def _check_presence(self, serial: str) -> None:
        """The library itself would wait for the camera, for 20 s."""
        number = self._rs.camera_info.serial_number
        serials = [device.get_info(number) for device in self._rs.context().query_devices()]
        if serial not in serials and (serial or not serials):
            raise SourceError(
                f"{self._name}: no such camera; cameras here: {', '.join(serials) or 'none'}; check its cable"
            )

    def _open_imu(
        self,
        serial: str,
        colour: Any,
        imu: ImuTrack | None,
        health: Callable[[str | None], None] | None,
    ) -> None:
        """A pipeline of its own: together with images, samples would wait for them."""
        rs = self._rs
        pipeline, config = self._new(serial)
        config.enable_stream(rs.stream.accel)
        config.enable_stream(rs.stream.gyro)
        profile = config.resolve(rs.pipeline_wrapper(pipeline))
        gyro = profile.get_stream(rs.stream.gyro)
        if imu is None:
            camera_from_imu = _transform(gyro.get_extrinsics_to(colour))
            imu = ImuTrack(ImuCalibration(camera_from_imu, nominal_rate_hz=gyro.fps()), health)
        self.imu = imu
        pipeline.start(config, self._on_motion)
        self._started.append(pipeline)

    def _new(self, serial: str) -> tuple[Any, Any]:
        config = self._rs.config()
        if serial:
            config.enable_device(serial)
        return self._rs.pipeline(), config

    def _on_motion(self, frame: Any) -> None:
        """Called by librealsense's thread, sample by sample."""
        motion = frame.as_motion_frame()
        data = motion.get_motion_data()
        values = [data.x, data.y, data.z]
        if frame.get_profile().stream_type() == self._rs.stream.accel:
            self._accel = values
        elif self._accel is not None and self.imu is not None:
            self.imu.push(self._stamp_ns(frame), values, self._accel)

    def _stamp_ns(self, frame: Any) -> int:
        """Since the Unix epoch; the time of arrival where the camera has no global time."""
        if frame.get_frame_timestamp_domain() == self._rs.timestamp_domain.hardware_clock:
            return epoch_ns(self._clock())
        return round(1e6 * float(frame.get_timestamp()))

    def read(self, timeout_s: float) -> Frame | None:
        """The next image; see `Source.read`."""
        try:
            there, frames = self._pipeline.try_wait_for_frames(max(1, round(1e3 * timeout_s)))
        except RuntimeError as error:
            raise SourceError(f"{self._name}: the camera failed ({error})") from error
        now_ns = self._clock()
        if not there:
            if now_ns - self._last_ns > PATIENCE_S * 1e9:
                raise SourceError(
                    f"{self._name}: the camera stopped delivering (nothing for {PATIENCE_S:g} s); check its cable"
                )
            return None
        self._last_ns = now_ns
        colour = frames.get_color_frame()
        stamp_ns = self._stamp_ns(colour)
        image = np.array(colour.get_data())  # a copy: librealsense takes its buffer back
        taken_ns = now_ns - (epoch_ns(now_ns) - stamp_ns)
        frame = Frame(image, stamp_ns, self._sequence, taken_ns=taken_ns, camera=self._camera)
        self._sequence += 1
        return frame

    def describe(self) -> str:
        """Camera, size and rate."""
        return f"{self._name}, {self.size[1]}x{self.size[0]} at {self.fps:g} FPS"

    def close(self) -> None:
        """Stop the streams."""
        while self._started:
            self._started.pop().stop()


def _camera_model(profile: Any) -> CameraModel:
    """As the ROS driver of the camera has it: whatever Brown-Conrady is plumb_bob."""
    lens = profile.get_intrinsics()
    distortion = tuple(float(value) for value in lens.coeffs)
    model: Distortion = "plumb_bob"
    if lens.model.name == "kannala_brandt4":
        model, distortion = "equidistant", distortion[:4]
    return CameraModel(lens.width, lens.height, lens.fx, lens.fy, lens.ppx, lens.ppy, model, distortion)


def _transform(extrinsics: Any) -> NDArray[np.float64]:
    """(4, 4) of a rotation by columns and a translation in metres."""
    transform = np.eye(4)
    transform[:3, :3] = np.reshape(extrinsics.rotation, (3, 3)).T
    transform[:3, 3] = extrinsics.translation
    return transform
