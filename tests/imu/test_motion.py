"""Rotation, bias and gravity, against the exact truth of the simulation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from m2h_runtime.errors import CalibrationError
from m2h_runtime.imu import so3
from m2h_runtime.imu.preintegration import preintegrate
from m2h_runtime.imu.track import ImuCalibration, ImuTrack
from m2h_runtime.simulation.imu import ImuSamples, KalibrImu, simulate_imu
from m2h_runtime.simulation.trajectory import BODY_FROM_OPTICAL, Trajectory, inverse, stamps_ns

if TYPE_CHECKING:
    from numpy.typing import NDArray

FPS = 30.0
BIAS = (0.02, -0.03, 0.08)
DOWN = np.array((0.0, 0.0, -1.0))


def imu_from_camera() -> NDArray[np.float64]:
    """Ahead of the camera, tilted, with a lever arm: no axis of the one is an axis of the other."""
    transform = np.eye(4)
    transform[:3, :3] = so3.exp(np.array((0.3, -0.2, 0.5))) @ BODY_FROM_OPTICAL
    transform[:3, 3] = (0.05, 0.02, -0.03)
    return transform


CAMERA_FROM_IMU = inverse(imu_from_camera())


def walking(rest_s: float = 0.0) -> Trajectory:
    """Stand for `rest_s`, then walk with steps, sway, turns and nods for 20 s."""
    times = np.linspace(0.0, rest_s + 20.0, 2001)
    t = np.maximum(times - rest_s, 0.0)
    begun = t**2 / (t**2 + 1.0)  # no jerk where the walk begins
    positions = np.column_stack((begun * t, 0.2 * begun * np.sin(2 * t), 1.4 + 0.02 * begun * np.sin(11 * t)))
    yaw, pitch = 0.8 * begun * np.sin(0.7 * t), 0.2 * begun * np.sin(1.1 * t)
    return Trajectory(times, positions, yaw, pitch, 0.05 * begun * np.sin(5.5 * t))


def sample(trajectory: Trajectory, *, noise: bool, rate_hz: float = 200.0) -> ImuSamples:
    rng = np.random.default_rng(0)
    return simulate_imu(trajectory, KalibrImu(), imu_from_camera(), rng, rate_hz=rate_hz, noise=noise)


class Played:
    """A recording that was played into a track, frame by frame, and what came out next to the truth."""

    def __init__(
        self,
        trajectory: Trajectory,
        *,
        noise: bool,
        bias: tuple[float, float, float] = (0.0, 0.0, 0.0),
        calibrated: tuple[float, float, float] = (0.0, 0.0, 0.0),
        skip: int = 1,
    ) -> None:
        samples = sample(trajectory, noise=noise)
        self.reports: list[str | None] = []
        calibration = ImuCalibration(CAMERA_FROM_IMU, gyro_bias=calibrated)
        self.track = ImuTrack(calibration, self.reports.append)
        times = np.arange(0.0123, trajectory.duration_s - 0.01, skip / FPS)
        self.truth = trajectory.poses(times)[:, :3, :3]
        self.rotations, self.gravity, fed, previous = [], [], 0, None
        for stamp in stamps_ns(times).tolist():
            ready = int(np.searchsorted(samples.stamps_ns, stamp)) + 1
            for i in range(fed, min(ready, len(samples.stamps_ns))):
                self.track.push(int(samples.stamps_ns[i]), samples.gyro[i] + bias, samples.accel[i])
            window, fed, previous = self.track.window(previous, stamp), ready, stamp
            if window is not None:
                assert window.camera_rotation is not None
                assert window.gravity is not None
                self.rotations.append(window.camera_rotation)
                self.gravity.append(window.gravity)

    @property
    def rotation_errors(self) -> NDArray[np.float64]:
        """rad, per frame after the first."""
        steps = np.swapaxes(self.truth[1:], 1, 2) @ self.truth[:-1]
        pairs = zip(self.rotations, steps, strict=True)
        return np.array([np.linalg.norm(so3.log(have @ want.T)) for have, want in pairs])

    @property
    def chained_error(self) -> float:
        """rad, of all rotations one after the other."""
        total = np.eye(3)
        for rotation in self.rotations:
            total = rotation @ total
        return float(np.linalg.norm(so3.log(total @ self.truth[0].T @ self.truth[-1])))

    @property
    def gravity_errors(self) -> NDArray[np.float64]:
        """Degrees, per frame after the first."""
        down = np.swapaxes(self.truth[1:], 1, 2) @ DOWN
        return np.rad2deg(np.arccos(np.clip((down * self.gravity).sum(axis=1), -1.0, 1.0)))


def test_rotation_between_frames_is_exact_without_noise() -> None:
    played = Played(walking(), noise=False)
    assert len(played.rotations) == 599
    assert played.rotation_errors.max() < 2e-6
    assert played.chained_error < 1e-4
    assert played.reports == []


def test_rotation_turns_vectors_of_the_earlier_camera_into_the_later_one() -> None:
    """And not the other way round: at a turn to the left, what was ahead is to the right (x) afterwards."""
    times = np.linspace(0.0, 1.0, 11)
    zero = np.zeros(11)
    played = Played(Trajectory(times, np.zeros((11, 3)), 1.0 * times, zero, zero), noise=False, skip=6)
    ahead = played.rotations[0] @ (0.0, 0.0, 1.0)
    assert ahead == pytest.approx((np.sin(0.2), 0.0, np.cos(0.2)), abs=1e-6)


def test_drift_stays_small_with_the_noise_of_a_real_sensor() -> None:
    played = Played(walking(), noise=True)
    assert played.rotation_errors.max() < 3e-4
    assert np.rad2deg(played.chained_error) < 0.5


def test_bias_is_learned_while_standing_still_and_taken_away_afterwards() -> None:
    played = Played(walking(rest_s=2.5), noise=True, bias=BIAS)
    assert played.track.gyro_bias == pytest.approx(BIAS, abs=5e-4)
    learned = played.rotation_errors[60:]
    assert learned.max() < 4e-4
    assert played.gravity_errors[75:].max() < 1.0


def test_bias_is_not_learned_while_moving() -> None:
    played = Played(walking(), noise=False, bias=BIAS)
    assert played.track.gyro_bias is None
    assert played.rotation_errors.max() == pytest.approx(np.linalg.norm(BIAS) / FPS, rel=0.05)


def test_a_steady_turn_is_no_bias() -> None:
    times = np.linspace(0.0, 3.0, 31)
    zero = np.zeros(31)
    played = Played(Trajectory(times, np.zeros((31, 3)), 0.2 * times, zero, zero), noise=False)
    assert played.track.gyro_bias is None
    assert played.rotation_errors.max() < 1e-6


def test_calibrated_bias_counts_from_the_first_frame() -> None:
    played = Played(walking(), noise=False, bias=BIAS, calibrated=BIAS)
    assert played.rotation_errors.max() < 2e-6
    assert played.track.gyro_bias == pytest.approx(BIAS)


@pytest.mark.parametrize("skip", [1, 5], ids=["30 FPS", "6 FPS"])
def test_gravity_is_within_a_degree_on_a_walk(skip: int) -> None:
    played = Played(walking(rest_s=2.0), noise=True, skip=skip)
    assert played.gravity_errors.max() < 1.0
    assert np.linalg.norm(played.gravity, axis=1) == pytest.approx(np.ones(len(played.gravity)))


def test_gravity_finds_back_from_a_start_in_motion() -> None:
    played = Played(walking(), noise=True, calibrated=(1e-9, 0.0, 0.0))
    assert played.gravity_errors[450:].max() < 1.0


def test_gravity_lives_through_a_blow() -> None:
    track = ImuTrack(ImuCalibration(CAMERA_FROM_IMU, gyro_bias=(1e-9, 0.0, 0.0)))
    rest = CAMERA_FROM_IMU[:3, :3].T @ (0.0, -9.81, 0.0)  # the camera upright
    for i in range(601):
        blow = np.array((40.0, 0.0, 0.0)) if 504 <= i < 536 else 0.0
        track.push(i * 5_000_000, (0.0, 0.0, 0.0), rest + blow)
    gravity = [window.gravity for i in range(1, 30) if (window := track.window((i - 1) * 10**8, i * 10**8))]
    assert gravity == pytest.approx(np.tile((0.0, 1.0, 0.0), (29, 1)), abs=1e-6)


def test_gravity_is_unknown_in_free_fall() -> None:
    track = ImuTrack(ImuCalibration(CAMERA_FROM_IMU))
    for i in range(40):
        track.push(i * 5_000_000, (0.1, 0.0, 0.0), (0.0, 0.0, 0.02))
    window = track.window(0, 100_000_000)
    assert window is not None
    assert window.gravity is None
    assert window.camera_rotation is not None


def test_gravity_counts_the_samples_of_frames_that_were_replaced() -> None:
    """The camera turned by a right angle between two windows: gravity follows, since the samples are still there."""
    track = ImuTrack(ImuCalibration(np.eye(4), gyro_bias=(1e-9, 0.0, 0.0)))
    for i in range(401):
        turning = 200 <= i < 300
        angle = np.pi / 2 * np.clip((i - 200) / 100, 0, 1)
        up = (0.0, -9.81 * np.cos(angle), 9.81 * np.sin(angle))
        track.push(i * 5_000_000, (np.pi if turning else 0.0, 0.0, 0.0), up)
    before = track.window(0, 900_000_000)
    after = track.window(1_900_000_000, 2_000_000_000)
    assert before is not None
    assert before.gravity == pytest.approx((0, 1, 0), abs=1e-6)
    assert after is not None
    assert after.gravity == pytest.approx((0, 0, -1), abs=0.02)


def test_preintegration_knows_how_it_depends_on_the_bias() -> None:
    samples = sample(walking(), noise=False)
    stamps, gyro = samples.stamps_ns[2000:2100], samples.gyro[2000:2100]
    change = np.array((0.01, -0.02, 0.03))
    first_guess = preintegrate(stamps, gyro, np.zeros(3))
    exact = preintegrate(stamps, gyro, change).rotation
    assert np.linalg.norm(so3.log(first_guess.corrected(change) @ exact.T)) < 1e-4
    assert np.linalg.norm(so3.log(first_guess.rotation @ exact.T)) > 1e-2  # the check can fail
    assert first_guess.duration_s == pytest.approx(0.495)


def test_preintegration_is_the_product_of_the_steps() -> None:
    rng = np.random.default_rng(0)
    for count in (2, 3, 9, 50):
        gyro = rng.normal(size=(count, 3))
        result = preintegrate(np.arange(count, dtype=np.int64) * 10**8, gyro, np.zeros(3))
        rotation = np.eye(3)
        for k, step in enumerate((gyro[1:] + gyro[:-1]) / 20):
            rotation = rotation @ so3.exp(step)
            assert result.rotations[k + 1] == pytest.approx(rotation, abs=1e-12)
        assert result.rotation == pytest.approx(rotation, abs=1e-12)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"camera_from_imu": np.ones((4, 4))}, "T_cam_imu"),
        ({"camera_from_imu": np.diag((1.0, 1.0, -1.0, 1.0))}, "T_cam_imu"),
        ({"camera_from_imu": np.eye(3)}, "T_cam_imu"),
        ({"time_offset_s": float("nan")}, "time offset"),
        ({"gyro_bias": (0.0, float("inf"), 0.0)}, "three finite numbers"),
        ({"nominal_rate_hz": 0.0}, "positive"),
    ],
)
def test_bad_calibration_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        ImuCalibration(**wrong)  # type: ignore[arg-type]


def test_rounded_extrinsics_still_give_a_rotation_and_a_unit_vector() -> None:
    track = ImuTrack(ImuCalibration(np.round(CAMERA_FROM_IMU, 4)))
    for i in range(40):
        track.push(i * 5_000_000, (0.1, 0.2, 0.0), (0.0, 0.0, 9.81))
    window = track.window(0, 100_000_000)
    assert window is not None
    assert window.camera_rotation is not None
    assert window.camera_rotation @ window.camera_rotation.T == pytest.approx(np.eye(3), abs=1e-12)
    assert np.linalg.norm(window.gravity) == pytest.approx(1.0, abs=1e-12)
