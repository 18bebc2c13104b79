"""The report of a calibration: a picture for the eye, and the figures as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from m2h_runtime.calibration.solve import rms
from m2h_runtime.calibration.views import GRID, coverage
from m2h_runtime.sinks.render import bar, captioned

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_runtime.calibration.board import Board
    from m2h_runtime.calibration.look import Search
    from m2h_runtime.calibration.solve import Solution
    from m2h_runtime.calibration.verdict import Verdict

PANEL_WIDTH = 640
GROUND, SEEN, LINE = (28, 28, 28), (52, 64, 84), (90, 90, 90)
GOOD, BAD = (80, 200, 120), (220, 70, 60)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def figures(solution: Solution, verdict: Verdict, board: Board, search: Search) -> dict[str, Any]:
    """All figures in plain JSON types; docs/calibration.md has the fields."""
    camera = solution.camera
    used = [(view, rms(r), True) for view, r in zip(solution.views, solution.residuals, strict=True)]
    dropped = [(view, error, False) for view, error in solution.dropped]
    return {
        "image_size": [camera.height, camera.width],
        "model": camera.distortion_model,
        "board": board.describe(),
        "images": search.images,
        "images_with_board": len(search.views),
        "rms_px": round(solution.rms_px, 4),
        "coverage": round(verdict.coverage, 3),
        "tilted_views": round(verdict.tilted, 3),
        "parameters": {
            name: {"value": value, "std": solution.deviations[name]}
            for name, value in solution.values.items()
        },
        "views": [
            {
                "name": view.name,
                "used": is_used,
                "rms_px": round(error, 4),
                "corners": len(view.corners.ids),
                "tilt_deg": round(view.tilt_deg, 1),
                "sharpness": round(view.sharpness, 3),
            }
            for view, error, is_used in used + dropped
        ],
        "warnings": [*verdict.warnings, *([verdict.fatal] if verdict.fatal else [])],
    }


def picture(solution: Solution, verdict: Verdict, title: str) -> NDArray[np.uint8]:
    """Coverage on the left, error by view on the right, under a title; uint8 (H, W, 3) RGB."""
    height = round(PANEL_WIDTH * solution.camera.height / solution.camera.width)
    left = captioned(
        _coverage(solution, height),
        f"corners, {verdict.coverage:.0%} of cells; red {_error_scale(solution):.2f} px off",
    )
    right = captioned(_errors(solution, height), f"error by view, rms {solution.rms_px:.3f} px; red: dropped")
    return np.vstack([bar(title, 2 * PANEL_WIDTH), np.hstack([left, right])])


def _coverage(solution: Solution, height: int) -> NDArray[np.uint8]:
    """Where corners were seen, coloured by their error; cells without any stay dark."""
    size = solution.camera.size
    seen = coverage(solution.views, size) > 0
    cells = np.where(seen[..., None], SEEN, GROUND).astype(np.uint8)
    panel: NDArray[np.uint8] = cv2.resize(cells, (PANEL_WIDTH, height), interpolation=cv2.INTER_NEAREST)
    for row in range(1, GRID[0]):
        panel[row * height // GRID[0]] = LINE
    for column in range(1, GRID[1]):
        panel[:, column * PANEL_WIDTH // GRID[1]] = LINE
    zoom, worst = PANEL_WIDTH / size[1], _error_scale(solution)
    for view, residuals in zip(solution.views, solution.residuals, strict=True):
        share = np.minimum(1, np.linalg.norm(residuals, axis=1) / worst)
        for (u, v), part in zip(view.corners.pixels, share, strict=True):
            color = tuple(round(g + part * (b - g)) for g, b in zip(GOOD, BAD, strict=True))
            cv2.circle(panel, (round(u * zoom), round(v * zoom)), 2, color, cv2.FILLED, cv2.LINE_AA)
    return panel


def _error_scale(solution: Solution) -> float:
    """The error that is drawn in full red, pixels."""
    return 3 * solution.rms_px


def _errors(solution: Solution, height: int) -> NDArray[np.uint8]:
    """A bar for each view, in the order of the recording; those that were dropped come last."""
    panel = np.full((height, PANEL_WIDTH, 3), GROUND, np.uint8)
    errors = [rms(r) for r in solution.residuals] + [error for _, error in solution.dropped]
    top, bottom, left = 40, height - 12, 56
    scale = (bottom - top) / max(errors)
    step = (PANEL_WIDTH - left - 12) / len(errors)
    for index, error in enumerate(errors):
        start, end = round(left + index * step), round(left + (index + 0.8) * step)
        color = GOOD if index < len(solution.residuals) else BAD
        cv2.rectangle(panel, (start, round(bottom - error * scale)), (end, bottom), color, cv2.FILLED)
    for error in (max(errors), solution.rms_px):
        row = round(bottom - error * scale)
        cv2.line(panel, (left, row), (PANEL_WIDTH - 12, row), LINE, 1)
        cv2.putText(panel, f"{error:.2f}", (8, row + 5), _FONT, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
    return panel
