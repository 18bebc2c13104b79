"""Is a calibration good enough to use, and what would make it better?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from m2h_runtime.calibration.views import coverage

if TYPE_CHECKING:
    from m2h_runtime.calibration.solve import Solution

TILTED_DEG = 15.0
"""Views that are tilted less tell focal length and distance badly apart."""
GOOD_COVERAGE, LEAST_COVERAGE = 0.7, 0.4
GOOD_TILTED = 0.25
GOOD_RMS_PX = 0.8
GOOD_FOCAL, WORST_FOCAL = 0.005, 0.03
"""Standard deviation of the focal lengths, as a share of them."""


@dataclass(frozen=True)
class Verdict:
    """Of one solution.

    Attributes:
        coverage: share of the picture's cells in which corners were seen, 0..1.
        tilted: share of views that are tilted by `TILTED_DEG` or more.
        focal: standard deviation of the focal lengths, as a share of them; the worse of the two.
        warnings: what is not good, and what to do.
        fatal: what makes the result useless, and what to do; "" if nothing does.
    """

    coverage: float
    tilted: float
    focal: float
    warnings: list[str]
    fatal: str


def judge(solution: Solution) -> Verdict:
    """Judge coverage, tilt, fit and certainty."""
    covered = float((coverage(solution.views, solution.camera.size) > 0).mean())
    tilted = sum(view.tilt_deg >= TILTED_DEG for view in solution.views) / len(solution.views)
    focal = max(solution.deviations[name] / solution.values[name] for name in ("fx", "fy"))
    return Verdict(
        covered, tilted, focal, _warnings(solution, covered, tilted, focal), _fatal(covered, focal)
    )


def _warnings(solution: Solution, covered: float, tilted: float, focal: float) -> list[str]:
    warnings = []
    if covered < GOOD_COVERAGE:
        warnings.append(
            f"the board was seen in {covered:.0%} of the picture; show it in the dark cells of the report, "
            "the corners above all"
        )
    if tilted < GOOD_TILTED:
        warnings.append(
            f"{tilted:.0%} of the views are tilted; tilt the board by 20 to 40 degrees to all sides"
        )
    if focal > GOOD_FOCAL:
        warnings.append(
            f"the focal length is uncertain by {focal:.1%}; show the board nearer and more tilted"
        )
    if solution.rms_px > GOOD_RMS_PX:
        warnings.append(
            f"the error of {solution.rms_px:.2f} px is large; glue the board to something flat, hold it still, "
            "or try the other --model"
        )
    return warnings


def _fatal(covered: float, focal: float) -> str:
    if covered < LEAST_COVERAGE:
        return (
            f"the board was seen in {covered:.0%} of the picture, at least {LEAST_COVERAGE:.0%} is needed; "
            "move it through the whole picture, into the corners too"
        )
    if not focal <= WORST_FOCAL:
        return (
            f"the focal length is uncertain by {focal:.1%}; tilt the board by 20 to 40 degrees to all sides "
            "and bring it nearer"
        )
    return ""
