"""How good one frame's pose is, as one number."""

from __future__ import annotations

ENOUGH = 40
"""Inliers; more make it no better."""
USUAL_PX = 1.5
"""Median residual of good frames."""
CONFLICT = 6.0
"""Standard deviations between the pictures' rotation and the gyroscope's: one of them is wrong."""


def quality(inliers: int, of: int, residual_px: float, disagreement: float) -> float:
    """0 to 1.

    Args:
        inliers: landmarks that agree with the pose.
        of: landmarks that were there before; a fast turn or blur loses many.
        residual_px: median distance of the inliers.
        disagreement: with the gyroscope, standard deviations; 0 without one.
    """
    enough = min(1.0, inliers / ENOUGH)
    exact = min(1.0, USUAL_PX / max(residual_px, 1e-9))
    return enough * (inliers / of) * exact * max(0.0, 1 - disagreement / CONFLICT)
