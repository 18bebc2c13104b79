from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from m2h_runtime.errors import InputError
from m2h_runtime.simulation.imu import KalibrImu, simulate_imu
from m2h_runtime.simulation.trajectory import BODY_FROM_OPTICAL, START_NS, Trajectory
from m2h_runtime.simulation.walk import Clearance, FreeSpace, free_view, plan_walk

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

GRAVITY = 9.80665
STYLES = ("handheld", "wheeled", "drone")
SPEEDS = {"handheld": 1.1, "wheeled": 0.7, "drone": 1.4}
HEIGHTS = {"handheld": (1.2, 1.65), "wheeled": (0.35, 1.0), "drone": (0.8, 1.9)}
PITCHES = {"handheld": (-25.0, 10.0), "wheeled": (-5.0, 0.0), "drone": (-30.0, 10.0)}
LEAST_RADIUS = {"handheld": 0.20, "wheeled": 0.22, "drone": 0.25}


def imu_ahead(lever: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> NDArray[np.float64]:
    transform = np.eye(4)
    transform[:3, :3] = BODY_FROM_OPTICAL
    transform[:3, 3] = lever
    return transform


def still(duration_s: float = 10.0) -> Trajectory:
    times = np.linspace(0.0, duration_s, 50)
    zero = np.zeros(50)
    return Trajectory(times, np.tile((1.0, 2.0, 1.5), (50, 1)), zero, zero, zero)


def circling(radius: float = 2.0, rate: float = 0.5) -> Trajectory:
    """Counter-clockwise, looking along the way."""
    times = np.linspace(0.0, 12.0, 601)
    angle = rate * times
    positions = np.column_stack((radius * np.cos(angle), radius * np.sin(angle), np.full(601, 1.0)))
    return Trajectory(times, positions, angle + np.pi / 2, np.zeros(601), np.zeros(601))


def tumbling() -> Trajectory:
    times = np.linspace(0.0, 10.0, 501)
    positions = np.column_stack((np.sin(times), np.cos(0.7 * times), 1 + 0.2 * np.sin(1.3 * times)))
    return Trajectory(
        times, positions, 2 * np.sin(0.6 * times), 0.6 * np.sin(times), 0.4 * np.cos(1.7 * times)
    )


def apartment() -> FreeSpace:
    """12 m x 10 m, walls of 15 cm, four rooms in a chain 2 - 0 - 1 - 3 with doors of 90 cm, and furniture."""
    blocked = np.zeros((200, 240), bool)
    blocked[:3] = blocked[-3:] = True
    blocked[:, :3] = blocked[:, -3:] = True
    blocked[98:101] = True
    blocked[:, 118:121] = True
    blocked[98:101, 40:58] = blocked[98:101, 170:188] = blocked[40:58, 118:121] = False
    blocked[20:40, 30:60] = blocked[130:150, 150:190] = blocked[150:190, 20:50] = True
    rooms = [(0, (0, 0, 6, 5)), (1, (6, 0, 12, 5)), (2, (0, 5, 6, 10)), (3, (6, 5, 12, 10))]
    return FreeSpace(blocked, (0.0, 0.0), 0.05, rooms)


def exact_clearance(free: FreeSpace, points: NDArray[np.float64]) -> float:
    """Smallest distance to the squares of the blocked cells, by hand."""
    row, column = np.nonzero(free.occupancy)
    centres = np.column_stack((column, row)) * free.cell + free.cell / 2 + free.origin
    beyond = np.maximum(np.abs(points[:, None] - centres[None]) - free.cell / 2, 0.0)
    return float(np.sqrt((beyond**2).sum(-1)).min())


# Trajectory


def test_pose_looks_along_yaw_and_pitch() -> None:
    times = np.linspace(0, 1, 10)
    yaw, pitch = np.full(10, np.pi / 2), np.full(10, np.deg2rad(30))
    pose = Trajectory(times, np.zeros((10, 3)), yaw, pitch, np.zeros(10)).pose(0.5)
    right, down, forward = pose[:3, :3].T
    assert forward == pytest.approx([0, np.cos(np.pi / 6), 0.5], abs=1e-9)  # north, and 30 degrees up
    assert right == pytest.approx([1, 0, 0], abs=1e-9)
    assert down == pytest.approx([0, 0.5, -np.cos(np.pi / 6)], abs=1e-9)


def test_positive_roll_lowers_the_right_side() -> None:
    times, zero = np.linspace(0, 1, 10), np.zeros(10)
    pose = Trajectory(times, np.zeros((10, 3)), zero, zero, np.full(10, 0.1)).pose(0.5)
    assert pose[2, 0] == pytest.approx(-np.sin(0.1))


def test_circle_has_the_derivatives_of_a_circle() -> None:
    trajectory = circling(radius=2.0, rate=0.5)
    times = np.linspace(1, 11, 50)
    assert np.linalg.norm(trajectory.velocity(times), axis=1) == pytest.approx(np.ones(50), abs=1e-6)
    outwards = trajectory.poses(times)[:, :2, 3] / 2.0
    assert trajectory.acceleration(times)[:, :2] == pytest.approx(-0.5 * outwards, abs=1e-5)
    assert trajectory.angular_velocity(times) == pytest.approx(np.tile((0, -0.5, 0), (50, 1)), abs=1e-6)
    assert trajectory.length_m == pytest.approx(12.0, abs=1e-4)
    assert trajectory.duration_s == 12.0


def test_rotation_derivatives_agree_with_differences_of_poses() -> None:
    trajectory, step = tumbling(), 1e-4
    times = np.linspace(0.5, 9.5, 200)
    before, after = (Rotation.from_matrix(trajectory.poses(times + d)[:, :3, :3]) for d in (-step, step))
    differences = (before.inv() * after).as_rotvec() / (2 * step)
    assert np.abs(trajectory.angular_velocity(times) - differences).max() < 1e-6
    rates = [trajectory.angular_velocity(times + d) for d in (-step, step)]
    assert np.abs(trajectory.angular_acceleration(times) - (rates[1] - rates[0]) / (2 * step)).max() < 1e-6


def test_shape_of_times_is_kept() -> None:
    trajectory = tumbling()
    assert trajectory.pose(1.0).shape == (4, 4)
    assert trajectory.poses(np.ones((2, 3))).shape == (2, 3, 4, 4)
    assert trajectory.velocity([1.0, 2.0]).shape == (2, 3)


@pytest.mark.parametrize("time", [-0.1, 10.1, np.array([1.0, 11.0])])
def test_time_outside_is_refused(time: float) -> None:
    with pytest.raises(InputError, match=r"lasts from 0 to 10\.000 s"):
        tumbling().pose(time)


def test_bad_samples_are_refused() -> None:
    times, zero, places = np.linspace(0, 1, 10), np.zeros(10), np.zeros((10, 3))
    with pytest.raises(InputError, match="increase from 0"):
        Trajectory(times + 1, places, zero, zero, zero)
    with pytest.raises(InputError, match=r"\(10, 3\) positions"):
        Trajectory(times, places[:9], zero, zero, zero)
    with pytest.raises(InputError, match="not finite"):
        Trajectory(times, places, zero + np.nan, zero, zero)
    with pytest.raises(InputError, match="80 degrees"):
        Trajectory(times, places, zero, zero + 1.5, zero)


# IMU


def test_standing_still_measures_gravity_upwards() -> None:
    samples = simulate_imu(still(), KalibrImu(), imu_ahead(), np.random.default_rng(0), noise=False)
    assert len(samples.stamps_ns) == 2001
    assert samples.stamps_ns[0] == START_NS
    assert set(np.diff(samples.stamps_ns)) == {5_000_000}
    assert samples.accel == pytest.approx(np.tile((0, 0, GRAVITY), (2001, 1)), abs=1e-6)
    assert np.abs(samples.gyro).max() < 1e-9
    assert not samples.bias_gyro.any()
    assert not samples.bias_accel.any()


def test_lever_arm_of_a_circle() -> None:
    """The sensor is 0.5 m nearer to the centre, to the left: its circle has a radius of 1.5 m."""
    to_the_left = imu_ahead((0.0, -0.5, 0.0))
    samples = simulate_imu(
        circling(2.0, 0.5), KalibrImu(), to_the_left, np.random.default_rng(0), noise=False
    )
    inner = slice(200, -200)
    assert np.median(samples.accel[inner], axis=0) == pytest.approx([0, 1.5 * 0.25, GRAVITY], abs=1e-4)
    assert np.median(samples.gyro[inner], axis=0) == pytest.approx([0, 0, 0.5], abs=1e-5)


@pytest.mark.parametrize("style", STYLES)
def test_dead_reckoning_of_exact_samples_returns_to_the_truth(style: str) -> None:
    trajectory = plan_walk(apartment(), style, 10.0, np.random.default_rng(3))  # type: ignore[arg-type]
    lever = imu_ahead((0.03, -0.05, 0.02))
    samples = simulate_imu(trajectory, KalibrImu(), lever, np.random.default_rng(0), noise=False)
    times = (samples.stamps_ns - START_NS) * 1e-9
    truth = trajectory.poses(times) @ np.linalg.inv(lever)
    step = times[1]
    just_after = (trajectory.pose(1e-5) @ np.linalg.inv(lever))[:3, 3]
    velocity = (just_after - truth[0, :3, 3]) / 1e-5
    position, rotation = truth[0, :3, 3].copy(), Rotation.from_matrix(truth[0, :3, :3])
    for i in range(len(times) - 1):
        turned = rotation * Rotation.from_rotvec((samples.gyro[i] + samples.gyro[i + 1]) / 2 * step)
        force = (rotation.apply(samples.accel[i]) + turned.apply(samples.accel[i + 1])) / 2
        change = force - (0, 0, GRAVITY)
        position += velocity * step + change * step**2 / 2
        velocity += change * step
        rotation = turned
    assert np.linalg.norm(position - truth[-1, :3, 3]) < 0.02
    off = rotation.inv() * Rotation.from_matrix(truth[-1, :3, :3])
    assert np.rad2deg(off.magnitude()) < 0.1


def test_white_noise_has_its_density_at_every_averaging_time() -> None:
    """The Allan deviation of white noise is density / sqrt(tau), whatever the rate."""
    model = KalibrImu(gyroscope_random_walk=0.0, accelerometer_random_walk=0.0)
    samples = simulate_imu(still(500.0), model, imu_ahead(), np.random.default_rng(1), rate_hz=100)
    for values, density in (
        (samples.gyro, model.gyroscope_noise_density),
        (samples.accel, model.accelerometer_noise_density),
    ):
        for count, tau in ((1, 0.01), (10, 0.1), (100, 1.0)):
            means = values[: len(values) // count * count].reshape(-1, count, 3).mean(1)
            allan = np.sqrt((np.diff(means, axis=0) ** 2).mean() / 2)
            assert allan == pytest.approx(density / tau**0.5, rel=0.1)


def test_variance_of_the_bias_grows_with_time() -> None:
    model, ends = KalibrImu(), []
    for seed in range(200):
        samples = simulate_imu(still(5.0), model, imu_ahead(), np.random.default_rng(seed))
        assert not samples.bias_accel[0].any()
        ends.append((samples.bias_accel[[200, 1000]], samples.bias_gyro[[200, 1000]]))
    deviation = np.sqrt((np.array(ends) ** 2).mean(axis=(0, 3)))  # 600 draws: 3 % deviation of each
    walks = np.array((model.accelerometer_random_walk, model.gyroscope_random_walk))
    assert deviation / walks[:, None] == pytest.approx(np.tile(np.sqrt((1.0, 5.0)), (2, 1)), rel=0.12)


def test_noise_is_a_function_of_the_seed() -> None:
    first, again, other = (
        simulate_imu(still(1.0), KalibrImu(), imu_ahead(), np.random.default_rng(seed)) for seed in (5, 5, 6)
    )
    assert (first.gyro == again.gyro).all()
    assert (first.accel == again.accel).all()
    assert (first.accel != other.accel).any()


def test_imu_file_comes_back(tmp_path: Path) -> None:
    model = KalibrImu(1.1e-3, 2e-5, 3e-4, 4e-6, 400.0, "/imu0")
    model.write(tmp_path / "imu.yaml")
    assert KalibrImu.read(tmp_path / "imu.yaml") == model


def test_imu_file_of_a_kalibr_result_is_read(tmp_path: Path) -> None:
    path = tmp_path / "imu-camera.yaml"
    path.write_text(
        "imu0:\n  T_i_b: []\n  accelerometer_noise_density: 0.01\n  accelerometer_random_walk: 2e-04\n"
        "  gyroscope_noise_density: 0.005\n  gyroscope_random_walk: 4.0e-06\n  rostopic: /imu0\n"
        "  update_rate: 200.0\n"
    )
    assert KalibrImu.read(path) == KalibrImu(0.01, 2e-4, 0.005, 4e-6, 200.0, "/imu0")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("update_rate: 200\n", "accelerometer_noise_density is missing"),
        ("- 1\n", "holds no entries"),
        ("a: [\n", "is not YAML"),
        (
            "accelerometer_noise_density: much\naccelerometer_random_walk: 1\ngyroscope_noise_density: 1\n"
            "gyroscope_random_walk: 1\nupdate_rate: 200\n",
            "is 'much'",
        ),
        (
            "accelerometer_noise_density: -1\naccelerometer_random_walk: 1\ngyroscope_noise_density: 1\n"
            "gyroscope_random_walk: 1\nupdate_rate: 200\n",
            "is -1",
        ),
    ],
)
def test_bad_imu_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "imu.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        KalibrImu.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_absent_imu_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        KalibrImu.read(tmp_path / "none.yaml")


def test_extrinsics_that_are_no_rotation_are_refused() -> None:
    with pytest.raises(InputError, match="imu_from_camera: is not a rigid transform"):
        simulate_imu(still(), KalibrImu(), np.diag((1.0, 1.0, -1.0, 1.0)), np.random.default_rng(0))


# Walk


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_walk_keeps_its_limits(style: str, seed: int) -> None:
    free = apartment()
    trajectory = plan_walk(free, style, 60.0, np.random.default_rng(seed))  # type: ignore[arg-type]
    assert trajectory.duration_s == 60.0
    times = np.arange(0.0, 60.0, 0.01)
    places = trajectory.poses(times)[:, :3, 3]
    near = places[::20, :2]
    assert exact_clearance(free, near) >= LEAST_RADIUS[style]
    low, high = HEIGHTS[style]
    assert (places[:, 2] >= low).all()
    assert (places[:, 2] <= high).all()
    angles = np.rad2deg(trajectory.angles(times))
    assert angles[:, 1].min() >= PITCHES[style][0] - 0.1
    assert angles[:, 1].max() <= PITCHES[style][1] + 0.1
    assert np.abs(angles[:, 2]).max() <= 3.1
    assert np.abs(np.gradient(angles[:, 0], 0.01)).max() < 90.0
    horizontal = np.linalg.norm(trajectory.velocity(times)[:, :2], axis=1)
    assert horizontal.max() < SPEEDS[style] + 0.1  # swaying adds to it
    assert np.linalg.norm(trajectory.acceleration(times), axis=1).max() < 5.0
    for _, (x0, y0, x1, y1) in free.rooms:
        inside = (places[:, 0] > x0) & (places[:, 0] < x1) & (places[:, 1] > y0) & (places[:, 1] < y1)
        assert inside.any()


def test_walk_starts_at_rest() -> None:
    trajectory = plan_walk(apartment(), "wheeled", 20.0, np.random.default_rng(0))
    before = trajectory.poses(np.linspace(0, 0.3, 10))[:, :3, 3]
    assert np.linalg.norm(before - before[0], axis=1).max() < 0.002
    assert trajectory.length_m > 3.0


def test_handheld_bobs_at_the_rate_of_steps() -> None:
    trajectory = plan_walk(apartment(), "handheld", 60.0, np.random.default_rng(1))
    z = trajectory.poses(np.arange(0, 60, 0.02))[:, 2, 3]
    power = np.abs(np.fft.rfft(z - z.mean())) ** 2
    frequency = np.fft.rfftfreq(len(z), 0.02)
    fast = frequency > 1.0
    assert 1.6 < frequency[fast][power[fast].argmax()] < 2.0


def test_walk_is_a_function_of_the_seed() -> None:
    first, again, other = (
        plan_walk(apartment(), "drone", 15.0, np.random.default_rng(seed)).poses(np.arange(15.0))
        for seed in (4, 4, 5)
    )
    assert (first == again).all()
    assert np.abs(first - other).max() > 0.1


def test_look_prefers_the_free_view() -> None:
    """In a corridor of 1.2 m the average view is much farther than the walls at the sides."""
    blocked = np.ones((24 + 6, 240), bool)
    blocked[3:-3, 3:-3] = False
    free = FreeSpace(blocked, (0.0, 0.0), 0.05)
    trajectory = plan_walk(free, "handheld", 30.0, np.random.default_rng(0))
    times = np.arange(0, 30, 0.2)
    places, yaw = trajectory.poses(times)[:, :2, 3], trajectory.angles(times)[:, 0]
    looks = free_view(free, places, yaw).mean()
    random = free_view(free, places, np.random.default_rng(0).uniform(-np.pi, np.pi, len(times))).mean()
    assert looks > 1.25 * random


def test_free_view_by_hand() -> None:
    blocked = np.zeros((400, 400), bool)
    blocked[:, 240] = True  # a wall at x = 2 m, seen from x = 0 m
    free = FreeSpace(blocked, (-10.0, -10.0), 0.05)
    rays = np.minimum(2.0 / np.cos(np.deg2rad([25, 12.5, 0, 12.5, 25])), 5.0)
    seen = free_view(free, np.array([[0.0, 0.0], [0.0, 0.0]]), np.array([0.0, np.pi]))
    assert seen == pytest.approx([(rays.mean() + rays.min()) / 2, 5.0], abs=0.06)


def test_clearance_is_a_tight_lower_bound() -> None:
    free = apartment()
    points = np.random.default_rng(0).uniform((0.3, 0.3), (5.5, 4.5), (200, 2))
    bound = Clearance(free)(points)
    for point, claimed in zip(points, bound, strict=True):
        truth = exact_clearance(free, point[None])
        assert truth - 0.0151 <= claimed <= truth + 1e-9
    assert Clearance(free)(np.array([[-1.0, 2.0], [5.95, 1.0]])).tolist() == [0.0, 0.0]


def test_room_behind_a_narrow_door_is_left_out() -> None:
    free = apartment()
    free.occupancy[98:101, 42:58] = True  # 10 cm are left of the door to room 2
    places = plan_walk(free, "wheeled", 60.0, np.random.default_rng(0)).poses(np.arange(0, 60, 0.1))[:, :2, 3]
    assert not ((places[:, 0] < 6) & (places[:, 1] > 5)).any()
    assert exact_clearance(free, places) >= 0.22


def test_nowhere_to_walk_is_said() -> None:
    full = FreeSpace(np.ones((50, 50), bool), (0.0, 0.0), 0.05)
    with pytest.raises(InputError, match="no free cell"):
        plan_walk(full, "handheld", 10.0, np.random.default_rng(0))


def test_bad_wishes_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="no style 'crawl'"):
        plan_walk(apartment(), "crawl", 10.0, rng)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="duration"):
        plan_walk(apartment(), "drone", 0.0, rng)
    with pytest.raises(InputError, match="ceiling"):
        plan_walk(apartment(), "handheld", 10.0, rng, ceiling=1.4)
    with pytest.raises(InputError, match="boolean matrix"):
        FreeSpace(np.zeros((5, 5), np.uint8), (0, 0), 0.05)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"at most 0\.2"):
        FreeSpace(np.zeros((5, 5), bool), (0, 0), 0.0)
