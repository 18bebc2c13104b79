"""Plane sweep: a neighbour's features seen from the reference camera at assumed depths, and how well they match.

Cameras are pinholes with intrinsics (fx, fy, cx, cy) in pixels, pixel centres at integers. Poses are
`neighbour_from_camera`: they take points of the reference camera's optical frame to the neighbour's, metres.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

NEAREST = 1e-3
"""A point is behind the neighbour, or as good as, when its depth there is below this part of its depth here."""


class DepthRange(NamedTuple):
    """Planes are uniform in inverse depth between these depths, metres, both included."""

    near_m: float
    far_m: float


INDOORS = DepthRange(0.25, 10.0)
PAPERS = DepthRange(0.0001, 10.0)
"""What the papers print. Uniform in inverse depth, 127 of its 128 planes are nearer than 13 mm."""


def plane_depths(depths: DepthRange, count: int) -> Tensor:
    """Float32 (count,), metres, far to near."""
    inverse = torch.linspace(1 / depths.far_m, 1 / depths.near_m, count, dtype=torch.float64, device="cpu")
    return (1 / inverse).float()


def at_stride(intrinsics: Tensor, stride: int) -> Tensor:
    """The camera (…, 4) of a map whose cells are `stride` pixels wide; cell centres at integers."""
    fx, fy, cx, cy = intrinsics.unbind(-1)
    return torch.stack(
        [fx / stride, fy / stride, (cx + 0.5) / stride - 0.5, (cy + 0.5) / stride - 0.5], dim=-1
    )


def homographies(neighbour_from_camera: Tensor, camera: Tensor, neighbour: Tensor) -> tuple[Tensor, Tensor]:
    """A and b of q = A p + b / d: where pixel p = (x, y, 1) of a plane of depth d lies in the neighbour.

    The inverse of the camera matrix is written out and the rotation's part that is identity is split off, so that
    a pose without rotation gives A = I bit for bit whatever the (equal) intrinsics are.

    Args:
        neighbour_from_camera: (B, 3, 4) or (B, 4, 4).
        camera: intrinsics (B, 4) of the reference.
        neighbour: intrinsics (B, 4) of the neighbour.

    Returns:
        A (B, 3, 3) and b (B, 3), pixels and pixel metres.
    """
    turn = neighbour_from_camera[:, :3, :3] - torch.eye(3, dtype=camera.dtype, device=camera.device)
    fx, fy, cx, cy = camera.unbind(-1)
    one, zero = torch.ones_like(fx), torch.zeros_like(fx)
    inverse = _matrix([one / fx, zero, -cx / fx, zero, one / fy, -cy / fy, zero, zero, one])
    nx, ny, nu, nv = neighbour.unbind(-1)
    matrix = _matrix([nx, zero, nu, zero, ny, nv, zero, zero, one])
    rescale = _matrix(
        [nx / fx, zero, nu - cx * (nx / fx), zero, ny / fy, nv - cy * (ny / fy), zero, zero, one]
    )
    shift = product(matrix, neighbour_from_camera[:, :3, 3:])[..., 0]
    return rescale + product(product(matrix, turn), inverse), shift


def product(a: Tensor, b: Tensor) -> Tensor:
    """Matrix product that autocast leaves in float32: in half precision a grid would be pixels off."""
    return (a[..., None] * b[..., None, :, :]).sum(dim=-2)


def _matrix(entries: list[Tensor]) -> Tensor:
    return torch.unflatten(torch.stack(entries, dim=-1), -1, (3, 3))


def pixel_centres(rows: int, cols: int, like: Tensor) -> Tensor:
    """(3, rows·cols): x, y and 1 of every cell, row-major."""
    ys, xs = torch.meshgrid(
        torch.arange(rows, dtype=like.dtype, device=like.device),
        torch.arange(cols, dtype=like.dtype, device=like.device),
        indexing="ij",
    )
    return torch.stack([xs, ys, torch.ones_like(xs)]).flatten(1)


def sweep_grid(matrix: Tensor, shift: Tensor, inverse_depth: Tensor, size: tuple[int, int]) -> Tensor:
    """Where the reference's cells lie in the neighbour's map.

    Args:
        matrix: A (B, 3, 3).
        shift: b (B, 3).
        inverse_depth: 1/d: (L,) for planes, or (B, L, h·w) for depths of its own for every cell.
        size: (h, w) of the reference's map.

    Returns:
        Positions (B, L, h·w, 2), x and y in cells of the neighbour's map; far outside of any map where the point is
        behind the neighbour.
    """
    straight = product(matrix, pixel_centres(*size, matrix))  # (B, 3, N)
    if inverse_depth.ndim == 1:
        inverse_depth = inverse_depth[None, :, None]
    q = straight[:, None] + shift[:, None, :, None] * inverse_depth[:, :, None]  # (B, L, 3, N)
    ahead = q[:, :, 2:]
    position = q[:, :, :2] / ahead.clamp(min=NEAREST)
    outside = torch.full_like(position, -1e4)
    return torch.where(ahead > NEAREST, position, outside).transpose(2, 3)


def sample(features: Tensor, positions: Tensor) -> Tensor:
    """Bilinear values of a map at positions in cells; zeros outside.

    Args:
        features: (B, K, h, w).
        positions: (B, L, N, 2), x and y; their dtype is the result's.

    Returns:
        (B, K, L, N).
    """
    rows, cols = features.shape[-2:]
    span = torch.tensor([max(cols - 1, 1), max(rows - 1, 1)], dtype=positions.dtype, device=positions.device)
    # What is three maps away is as far outside as anything: clamped, so that no index overflows.
    grid = (2 * positions / span - 1).clamp(-4, 4)
    return F.grid_sample(features.to(grid.dtype), grid, padding_mode="zeros", align_corners=True)


def cost_volume(
    features: Tensor,
    neighbours: Tensor,
    neighbour_from_camera: Tensor,
    camera: Tensor,
    cameras: Tensor,
    depths: Tensor,
) -> Tensor:
    """How well every plane's features match (CvM paper, eq. 2): their dot product over sqrt(K), mean over neighbours.

    Args:
        features: (B, K, h, w) of the reference view.
        neighbours: (B, N, K, h, w).
        neighbour_from_camera: (B, N, 3, 4) or (B, N, 4, 4).
        camera: intrinsics (B, 4) of the reference, cells of the map.
        cameras: intrinsics (B, N, 4) of the neighbours.
        depths: (L,) of the planes, metres.

    Returns:
        (B, L, h, w), zero where a plane leaves the neighbour's picture or lies behind its camera.
    """
    rows, cols = features.shape[-2:]
    reference = features.flatten(2)[:, :, None] / features.shape[1] ** 0.5  # (B, K, 1, h·w)
    total = torch.zeros_like(reference[:, 0])
    for j in range(neighbours.shape[1]):
        matrix, shift = homographies(neighbour_from_camera[:, j], camera, cameras[:, j])
        positions = sweep_grid(matrix, shift, 1 / depths, (rows, cols))
        total = total + (reference * sample(neighbours[:, j], positions)).sum(dim=1)
    return torch.unflatten(total / neighbours.shape[1], 2, (rows, cols))
