"""Warping against rendered truth and geometry worked out by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from m2h_export.models.warping import (
    INDOORS,
    PAPERS,
    DepthRange,
    at_stride,
    cost_volume,
    homographies,
    pixel_centres,
    plane_depths,
    sample,
    sweep_grid,
)
from m2h_runtime.simulation.episode import Episode, default_camera

if TYPE_CHECKING:
    from torch import Tensor

WIDTH, HEIGHT = 120, 96


@dataclass(frozen=True)
class Rendered:
    """Two frames of a walk; tensors have a batch axis."""

    pictures: Tensor  # (2, 3, H, W), linear light
    depth: Tensor  # (2, 1, H·W)
    neighbour_from_camera: Tensor  # (1, 4, 4), of the first to the second
    world_from_camera: Tensor  # (2, 4, 4)
    camera: Tensor  # (1, 4)


@pytest.fixture(scope="module")
def pair() -> Rendered:
    lens = default_camera(WIDTH, HEIGHT)
    episode = Episode(1, "handheld", 4.0, lens)
    shots = [episode.shot(time) for time in (1.0, 1.5)]
    poses = torch.from_numpy(np.stack([shot.world_from_camera for shot in shots]))
    return Rendered(
        torch.from_numpy(np.stack([shot.view.radiance for shot in shots])).permute(0, 3, 1, 2).contiguous(),
        torch.from_numpy(np.stack([shot.view.depth for shot in shots])).flatten(1)[:, None],
        (torch.linalg.inv(poses[1]) @ poses[0])[None].float(),
        poses,
        torch.tensor([[lens.fx, lens.fy, lens.cx, lens.cy]]),
    )


def landmarks(pair: Rendered) -> Tensor:
    """(2, 6, H, W): waves over the world at what every pixel sees, so that two views agree wherever they meet."""
    fx, fy, cx, cy = pair.camera[0]
    x, y, one = pixel_centres(HEIGHT, WIDTH, pair.camera)
    rays = torch.stack([(x - cx) / fx, (y - cy) / fy, one])
    maps = []
    for depth, pose in zip(pair.depth, pair.world_from_camera.float(), strict=True):
        points = pose[:3, :3] @ (rays * depth) + pose[:3, 3:]
        maps.append(torch.cat([torch.sin(2 * points), torch.cos(2 * points)]))
    return torch.stack(maps).unflatten(2, (HEIGHT, WIDTH))


def warped(maps: Tensor, pair: Rendered, pose: Tensor) -> tuple[Tensor, Tensor]:
    """(1, C, 1, H·W) of the second view at the first's true depth, and the mask of what both see, well inside."""
    matrix, shift = homographies(pose, pair.camera, pair.camera)
    positions = sweep_grid(matrix, shift, 1 / pair.depth[:1], (HEIGHT, WIDTH))
    x, y = positions[0, 0].T
    inside = (x > 1) & (x < WIDTH - 2) & (y > 1) & (y < HEIGHT - 2)
    # What lies before the point in the neighbour hides it.
    seen = sample(pair.depth[1:].view(1, 1, HEIGHT, WIDTH), positions)[0, 0, 0]
    around = pair.depth[1].view(1, 1, HEIGHT, WIDTH)
    spread = F.max_pool2d(around, 3, 1, 1) + F.max_pool2d(-around, 3, 1, 1)
    smooth = sample(spread, positions)[0, 0, 0] < 0.05 * seen
    point = (pose[:, 2:3, :3] @ _points(pair) + pose[:, 2:3, 3:])[0, 0]
    return sample(maps[1:], positions), inside & smooth & ((seen - point).abs() < 0.02 * point)


def _points(pair: Rendered) -> Tensor:
    fx, fy, cx, cy = pair.camera[0]
    x, y, one = pixel_centres(HEIGHT, WIDTH, pair.camera)
    return (torch.stack([(x - cx) / fx, (y - cy) / fy, one]) * pair.depth[0])[None]


def test_true_depth_and_pose_reproduce_the_view_from_its_neighbour(pair: Rendered) -> None:
    maps = landmarks(pair)
    found, both = warped(maps, pair, pair.neighbour_from_camera)
    assert both.float().mean() > 0.4, "the views overlap"
    moved = (maps[0] - maps[1]).abs().flatten(1)[:, both].mean()
    off = (found[0, :, 0] - maps[0].flatten(1)).abs()[:, both]
    # Waves of 3 m; where an edge of depth slips through the mask, interpolation mixes two surfaces.
    assert off.quantile(0.99) < 0.01
    assert off.median() < 2e-4
    assert moved > 20 * off.mean(), "and the views are not the same to begin with"


def test_the_rendered_picture_is_reproduced(pair: Rendered) -> None:
    found, both = warped(pair.pictures, pair, pair.neighbour_from_camera)
    own = pair.pictures[0].flatten(1)
    off = (found[0, :, 0] - own).abs()[:, both]
    assert off.median() < 0.02 * own[:, both].mean()


@pytest.mark.parametrize("wrong", ["inverse pose", "no pose", "half the depth"])
def test_the_comparison_sees_wrong_geometry(pair: Rendered, wrong: str) -> None:
    maps, pose = landmarks(pair), pair.neighbour_from_camera
    _, both = warped(maps, pair, pose)
    if wrong == "half the depth":
        pair = Rendered(pair.pictures, pair.depth / 2, pose, pair.world_from_camera, pair.camera)
    elif wrong == "inverse pose":
        pose = torch.linalg.inv(pose)
    else:
        pose = torch.eye(4)[None]
    found, _ = warped(maps, pair, pose)
    assert (found[0, :, 0] - maps[0].flatten(1)).abs()[:, both].mean() > 0.02


def random_cameras(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand((count, 4), generator=generator) * 500 + 30


def test_the_identity_pose_is_the_identity_grid_bit_for_bit() -> None:
    """Whatever the intrinsics are, and at every depth."""
    lens, size = random_cameras(50), (14, 19)
    matrix, shift = homographies(torch.eye(4).expand(50, 4, 4), lens, lens)
    assert torch.equal(matrix, torch.eye(3).expand(50, 3, 3))
    positions = sweep_grid(matrix, shift, 1 / plane_depths(PAPERS, 9), size)
    centres = pixel_centres(*size, matrix)[:2].T
    assert torch.equal(positions, centres.expand(50, 9, -1, 2))


def test_the_identity_pose_gives_the_features_themselves() -> None:
    features = torch.randn(1, 5, 14, 19)
    matrix, shift = homographies(torch.eye(4)[None], random_cameras(1), random_cameras(1))
    found = sample(features, sweep_grid(matrix, shift, 1 / plane_depths(INDOORS, 4), (14, 19)))
    assert (found - features.flatten(2)[:, :, None]).abs().max() < 2e-5


def test_a_rotation_moves_no_plane_more_than_another() -> None:
    turn = torch.linalg.matrix_exp(torch.tensor([[0, -0.02, 0.05], [0.02, 0, 0.03], [-0.05, -0.03, 0]]))
    pose = torch.cat([turn, torch.zeros(3, 1)], dim=1)[None]
    lens = torch.tensor([[40.0, 42, 10, 7]])
    positions = sweep_grid(*homographies(pose, lens, lens), 1 / plane_depths(INDOORS, 5), (14, 19))
    assert torch.equal(positions[:, 0], positions[:, 4])
    x, y = 3, 11
    ray = torch.tensor([(x - 10) / 40, (y - 7) / 42, 1.0])
    there = turn @ ray
    expected = torch.stack([40 * there[0] / there[2] + 10, 42 * there[1] / there[2] + 7])
    torch.testing.assert_close(positions[0, 2, y * 19 + x], expected)


def test_two_lenses_at_one_place_see_the_same_rays() -> None:
    near, far = torch.tensor([[40.0, 41, 10, 7]]), torch.tensor([[80.0, 90, 22, 12]])
    matrix, shift = homographies(torch.eye(4)[None], near, far)
    positions = sweep_grid(matrix, shift, torch.ones(1), (14, 19))[0, 0].view(14, 19, 2)
    torch.testing.assert_close(positions[7, 10], torch.tensor([22.0, 12]))
    torch.testing.assert_close(positions[9, 15], torch.tensor([80 * 5 / 40 + 22, 90 * 2 / 41 + 12]))


def test_a_coarser_map_has_the_same_camera() -> None:
    """The centre of cell i of a map of stride 8 is pixel 8 i + 3.5."""
    lens = torch.tensor([100.0, 110, 40, 30])
    fx, fy, cx, cy = at_stride(lens, 8)
    for cell in (0, 3.0, 7):
        pixel = 8 * cell + 3.5
        assert (cell - cx) / fx == pytest.approx(float((pixel - 40) / 100))
        assert (cell - cy) / fy == pytest.approx(float((pixel - 30) / 110))


# Cost volume


@pytest.mark.parametrize("true_m", [0.5, 1.0, 2.0, 4.0])
def test_the_best_plane_is_the_true_one(true_m: float) -> None:
    """A textured wall straight ahead: a camera that moved sideways sees it shifted by f t / d."""
    depths, lens = plane_depths(INDOORS, 64), torch.tensor([[30.0, 30, 12, 8]])
    step_m = 4 * true_m / 30  # four cells
    features = torch.randn(1, 32, 16, 28, generator=torch.Generator().manual_seed(0))
    pose = torch.eye(4)[None, None].clone()
    pose[..., 0, 3] = -step_m  # the neighbour stands to the right, so that points are further left
    neighbour = features.roll(-4, 3)
    costs = cost_volume(features, neighbour[:, None], pose, lens, lens[:, None], depths)
    assert costs.shape == (1, 64, 16, 28)
    best = costs[0, :, :, 5:].argmax(dim=0)
    truth = (1 / depths - 1 / true_m).abs().argmin()
    assert ((best - truth).abs() <= 1).float().mean() > 0.99


def test_cost_is_the_scaled_dot_product_averaged_over_neighbours() -> None:
    features, others = torch.randn(1, 16, 6, 7), torch.randn(1, 2, 16, 6, 7)
    lens = random_cameras(1)
    poses = torch.eye(4).expand(1, 2, 4, 4)
    costs = cost_volume(
        features, others, poses, lens, lens[:, None].expand(1, 2, 4), plane_depths(INDOORS, 3)
    )
    wanted = (features[:, None] * others).sum(dim=2).mean(dim=1) / 4
    torch.testing.assert_close(costs, wanted[:, None].expand(1, 3, 6, 7), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("direction", ["behind", "beside"])
def test_what_the_neighbour_cannot_see_costs_nothing(direction: str) -> None:
    features, lens = torch.ones(1, 4, 6, 7), torch.tensor([[10.0, 10, 3, 3]])
    pose = torch.eye(4)[None, None].clone()
    if direction == "behind":
        pose[..., 2, 3] = -20.0  # the neighbour stands past the furthest plane
    else:
        pose[..., 0, 3] = 50.0
    costs = cost_volume(features, features[:, None], pose, lens, lens[:, None], plane_depths(INDOORS, 8))
    assert not costs.any()


def test_half_precision_training_keeps_the_geometry_exact() -> None:
    features = torch.randn(1, 8, 14, 19)
    pose = torch.eye(4)[None, None].clone()
    pose[..., :3, 3] = torch.tensor([0.1, 0.02, 0.05])
    lens = torch.tensor([[40.0, 42, 10, 7]])
    inputs = (features, features[:, None], pose, lens, lens[:, None], plane_depths(INDOORS, 8))
    exact = cost_volume(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        found = cost_volume(*inputs)
    assert torch.equal(found, exact)


def test_gradients_reach_both_views() -> None:
    features = torch.randn(1, 4, 6, 7, requires_grad=True)
    others = torch.randn(1, 1, 4, 6, 7, requires_grad=True)
    pose = torch.eye(4)[None, None].clone()
    pose[..., 0, 3] = 0.1
    lens = torch.tensor([[10.0, 10, 3, 3]])
    cost_volume(
        features, others, pose, lens, lens[:, None], plane_depths(INDOORS, 4)
    ).square().sum().backward()
    assert features.grad is not None and features.grad.abs().min() > 0
    assert others.grad is not None and others.grad.any()


# Planes


def test_planes_are_uniform_in_inverse_depth() -> None:
    depths = plane_depths(DepthRange(0.25, 10.0), 128)
    assert depths[0] == pytest.approx(10)
    assert depths[-1] == pytest.approx(0.25)
    steps = (1 / depths.double()).diff()
    assert steps.max() - steps.min() < 1e-5


def test_the_papers_range_spends_all_planes_but_one_on_the_first_centimetres() -> None:
    depths = plane_depths(PAPERS, 128)
    assert depths[0] == pytest.approx(10)
    assert 0.0125 < depths[1] < 0.013
