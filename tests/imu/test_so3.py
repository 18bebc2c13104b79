from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from m2h_runtime.imu import so3

ANGLES = (0.0, 1e-12, 1e-8, 1e-4, 1e-3, 0.5, 2.0, np.pi - 1e-3, np.pi - 1e-7, np.pi - 1e-12)


@pytest.mark.parametrize("angle", ANGLES)
def test_exp_and_log_are_exact_at_every_angle(angle: float) -> None:
    axes = np.random.default_rng(0).normal(size=(100, 3))
    vectors = axes / np.linalg.norm(axes, axis=1, keepdims=True) * angle
    assert so3.exp(vectors) == pytest.approx(Rotation.from_rotvec(vectors).as_matrix(), abs=1e-14)
    for vector in vectors:
        assert so3.log(so3.exp(vector)) == pytest.approx(vector, abs=1e-13, rel=1e-9)


@pytest.mark.parametrize("axis", np.eye(3))
def test_log_of_half_a_turn_lies_on_its_axis(axis: np.ndarray) -> None:
    assert np.abs(so3.log(so3.exp(np.pi * axis))) == pytest.approx(np.pi * axis, abs=1e-12)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 0.9e-3, 1.1e-3, 0.7, 3.0])
def test_right_jacobian_tells_the_change_of_the_rotation(angle: float) -> None:
    vector = angle * np.array((0.6, -0.64, 0.48))
    step = 1e-6
    for axis in np.eye(3):
        ahead, behind = (so3.exp(vector).T @ so3.exp(vector + sign * step * axis) for sign in (1, -1))
        change = (so3.log(ahead) - so3.log(behind)) / (2 * step)
        assert so3.right_jacobian(vector) @ axis == pytest.approx(change, abs=1e-9)
