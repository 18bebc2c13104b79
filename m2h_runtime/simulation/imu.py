"""What an inertial sensor on the camera would measure along a trajectory.

The noise model is Kalibr's ("IMU Noise Model" in its wiki): white noise of a given density plus a bias that walks
at random. IMU frame: x forward, y left, z up when the camera looks ahead, unless `imu_from_camera` says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from m2h_runtime.errors import InputError
from m2h_runtime.files import reason, write_atomically
from m2h_runtime.simulation.trajectory import START_NS, check_rigid, inverse, stamps_ns

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from m2h_runtime.simulation.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class KalibrImu:
    """The contents of a Kalibr imu.yaml.

    The defaults are what EuRoC (Burri et al. 2016) states for its MEMS sensor, an ADIS16448.

    Attributes:
        accelerometer_noise_density: m/s^2/sqrt(Hz).
        accelerometer_random_walk: m/s^3/sqrt(Hz).
        gyroscope_noise_density: rad/s/sqrt(Hz).
        gyroscope_random_walk: rad/s^2/sqrt(Hz).
        update_rate: Hz.
        rostopic: topic of the samples.

    Raises:
        InputError: a number is not finite, negative, or the rate is zero.
    """

    accelerometer_noise_density: float = 2.0e-3
    accelerometer_random_walk: float = 3.0e-3
    gyroscope_noise_density: float = 1.6968e-4
    gyroscope_random_walk: float = 1.9393e-5
    update_rate: float = 200.0
    rostopic: str = "/imu/data"

    def __post_init__(self) -> None:
        for name in NUMBERS:
            value = getattr(self, name)
            if not np.isfinite(value) or value < 0 or (name == "update_rate" and value == 0):
                raise InputError(f"imu: {name} is {value}; give a positive number")

    @classmethod
    def read(cls, path: Path) -> KalibrImu:
        """Read imu.yaml, or the entry imu0 of the imu-<name>.yaml that a Kalibr calibration writes.

        Raises:
            InputError: the file cannot be read, or an entry is missing or no number.
        """
        entries = _mapping(path)
        values: dict[str, Any] = {}
        for name in NUMBERS:
            if name not in entries:
                raise InputError(f"{path}: {name} is missing; add it as in a Kalibr imu.yaml")
            try:
                values[name] = float(entries[name])
            except (TypeError, ValueError) as error:
                raise InputError(f"{path}: {name} is {entries[name]!r}; give a number") from error
        try:
            return cls(**values, rostopic=str(entries.get("rostopic", cls().rostopic)))
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    def write(self, path: Path) -> None:
        """Write imu.yaml.

        Raises:
            InputError: `path` cannot be written.
        """
        # By hand: YAML 1.1 writes and reads 2e-05 as a text.
        lines = [f"{name}: {getattr(self, name):.10e}" for name in NUMBERS]
        write_atomically(path, "\n".join([*lines, f"rostopic: {self.rostopic}", ""]).encode())


NUMBERS = tuple(field.name for field in fields(KalibrImu) if field.name != "rostopic")


def _mapping(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({reason(error)}); name a Kalibr imu.yaml") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is not YAML; name a Kalibr imu.yaml") from error
    if isinstance(content, dict) and isinstance(content.get("imu0"), dict):
        content = content["imu0"]
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no entries; name a Kalibr imu.yaml")
    return content


@dataclass(frozen=True, slots=True)
class ImuSamples:
    """What the sensor reported, with the biases that it hid.

    Attributes:
        stamps_ns: (N,) int64; the first is the trajectory's time 0.
        gyro: (N, 3) float64, angular velocity in the IMU frame, rad/s.
        accel: (N, 3) float64, specific force in the IMU frame, m/s^2; points up when standing still.
        bias_gyro: (N, 3) float64, part of `gyro`, rad/s.
        bias_accel: (N, 3) float64, part of `accel`, m/s^2.
    """

    stamps_ns: NDArray[np.int64]
    gyro: NDArray[np.float64]
    accel: NDArray[np.float64]
    bias_gyro: NDArray[np.float64]
    bias_accel: NDArray[np.float64]


def simulate_imu(
    trajectory: Trajectory,
    model: KalibrImu,
    imu_from_camera: NDArray[np.float64],
    rng: np.random.Generator,
    gravity: float = 9.80665,
    rate_hz: float | None = None,
    start_ns: int = START_NS,
    noise: bool = True,
) -> ImuSamples:
    """Sample the sensor over the whole trajectory.

    Args:
        trajectory: of the camera.
        model: noise densities and walks; the biases start at zero.
        imu_from_camera: (4, 4), takes optical coordinates to IMU coordinates; its translation is the lever arm.
        rng: source of the noise.
        gravity: m/s^2, along -z of the world.
        rate_hz: samples per second; the model's `update_rate` unless given.
        start_ns: stamp of the trajectory's time 0.
        noise: False gives the exact motion, and zero biases.

    Raises:
        InputError: `imu_from_camera` is not rigid, or the rate is not positive.
    """
    imu_from_camera = check_rigid("imu_from_camera", imu_from_camera)
    rate = model.update_rate if rate_hz is None else rate_hz
    if not rate > 0:
        raise InputError(f"imu: a rate of {rate} Hz; give a positive one")
    times = np.arange(int(trajectory.duration_s * rate + 1e-6) + 1) / rate
    gyro, accel = _exact(trajectory, imu_from_camera, gravity, times)
    bias_gyro, bias_accel = np.zeros_like(gyro), np.zeros_like(accel)
    if noise:
        bias_gyro = _random_walk(model.gyroscope_random_walk, rate, gyro.shape, rng)
        bias_accel = _random_walk(model.accelerometer_random_walk, rate, accel.shape, rng)
        # White noise of density sigma, averaged over one period dt: sigma / sqrt(dt).
        gyro = gyro + bias_gyro + rng.normal(0, model.gyroscope_noise_density * rate**0.5, gyro.shape)
        accel = accel + bias_accel + rng.normal(0, model.accelerometer_noise_density * rate**0.5, accel.shape)
    return ImuSamples(stamps_ns(times, start_ns), gyro, accel, bias_gyro, bias_accel)


def _exact(
    trajectory: Trajectory, imu_from_camera: NDArray[np.float64], gravity: float, times: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Angular velocity and specific force in the IMU frame, each (N, 3), without noise.

    A point at lever arm r accelerates by a + alpha x r + omega x (omega x r), all in the optical frame here.
    """
    lever = inverse(imu_from_camera)[:3, 3]
    omega, alpha = trajectory.angular_velocity(times), trajectory.angular_acceleration(times)
    world_from_camera = trajectory.poses(times)[:, :3, :3]
    force = trajectory.acceleration(times) + np.array((0.0, 0.0, gravity))
    force = np.einsum("nji,nj->ni", world_from_camera, force)
    force += np.cross(alpha, lever) + np.cross(omega, np.cross(omega, lever))
    rotation = imu_from_camera[:3, :3]
    return omega @ rotation.T, force @ rotation.T


def _random_walk(
    density: float, rate: float, shape: tuple[int, ...], rng: np.random.Generator
) -> NDArray[np.float64]:
    """(N, 3) from zero, with steps of deviation density * sqrt(dt): its variance after time t is density^2 t."""
    steps = rng.normal(0, density * rate**-0.5, shape)
    steps[0] = 0.0
    return np.cumsum(steps, axis=0)
