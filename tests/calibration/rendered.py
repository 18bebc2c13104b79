"""Photographs of boards by cameras that are known exactly."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

from m2h_runtime.calibration.board import Board
from m2h_runtime.calibration.camera import CameraModel

if TYPE_CHECKING:
    from collections.abc import Iterator

CHARUCO = Board("charuco", (8, 6))
CHESSBOARD = Board("chessboard", (10, 7))
PINHOLE = CameraModel(640, 480, 520.0, 515.0, 331.0, 228.0, "plumb_bob", (-0.25, 0.09, 0.001, -0.0008, 0.0))
FISHEYE = CameraModel(640, 480, 330.0, 332.0, 315.0, 246.0, "equidistant", (0.02, -0.01, 0.004, -0.001))
OVERSAMPLED = 2
TEXELS = 64
"""Of the board's picture, per square."""


def photographs(
    board: Board, camera: CameraModel, count: int, most_tilt: float = 0.6
) -> Iterator[np.ndarray]:
    """`count` gray photographs, the same ones at every call; tilts are up to `most_tilt` rad about either axis."""
    rng = np.random.default_rng(7)
    for _ in range(count):
        yield photograph(board, camera, *_placed(board, camera, rng, most_tilt), rng)


def photograph(
    board: Board, camera: CameraModel, rotation: np.ndarray, corner: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The board at `rotation` with its corner at `corner` (camera frame), blurred and with noise."""
    sheet = cv2.copyMakeBorder(board.picture(TEXELS), *(TEXELS,) * 4, cv2.BORDER_CONSTANT, value=255)
    on_board = _rays(camera) @ np.linalg.inv(np.column_stack([rotation[:, 0], rotation[:, 1], corner])).T
    texels = on_board[:, :2] / on_board[:, 2:] / (board.square_mm / 1000) * TEXELS + TEXELS - 0.5
    texels[on_board[:, 2] <= 0] = -9
    maps = texels.astype(np.float32).reshape(camera.height * OVERSAMPLED, -1, 2)
    sharp = cv2.resize(
        cv2.remap(sheet, maps, None, cv2.INTER_LINEAR, borderValue=90),
        (camera.width, camera.height),
        interpolation=cv2.INTER_AREA,
    )
    gray = cv2.GaussianBlur(0.7 * sharp.astype(np.float32) + 30, (0, 0), 0.7)
    return np.clip(gray + rng.normal(0, 2.0, gray.shape), 0, 255).astype(np.uint8)


@lru_cache
def _rays(camera: CameraModel) -> np.ndarray:
    """Points (N, 3) at z = 1 of every pixel, oversampled."""
    fine = camera.resized((camera.height * OVERSAMPLED, camera.width * OVERSAMPLED))
    v, u = np.mgrid[0 : fine.height, 0 : fine.width].astype(np.float64)
    pixels = np.stack([u, v], axis=-1).reshape(-1, 1, 2)
    undistort = cv2.fisheye.undistortPoints if fine.distortion_model == "equidistant" else cv2.undistortPoints
    flat = undistort(pixels, fine.matrix, np.array(fine.distortion)).reshape(-1, 2)
    return np.column_stack([flat, np.ones(len(flat))])


def _placed(
    board: Board, camera: CameraModel, rng: np.random.Generator, most_tilt: float
) -> tuple[np.ndarray, np.ndarray]:
    tilt, roll = rng.uniform(-most_tilt, most_tilt, 2), rng.uniform(-0.3, 0.3)
    rotation = cv2.Rodrigues(np.array([*tilt, 0]))[0] @ cv2.Rodrigues(np.array([0, 0, roll]))[0]
    board_size = np.array(board.squares) * board.square_mm / 1000
    share = rng.uniform(0.35, 0.7)
    distance = camera.fx * board_size[0] / (share * camera.width)
    u = (rng.uniform(share / 2, 1 - share / 2) - 0.5) * camera.width
    v = (rng.uniform(0.4 * share, 1 - 0.4 * share) - 0.5) * camera.height
    middle = np.array([u / camera.fx * distance, v / camera.fy * distance, distance])
    return rotation, middle - rotation @ np.array([*board_size / 2, 0])
