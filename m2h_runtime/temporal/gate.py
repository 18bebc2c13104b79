"""How much two frames may differ about one surface: learned, as networks differ in how steady they are."""

from __future__ import annotations

FIRST = 0.05
"""The difference between frames that is taken for usual before any was seen, as a share of the depth."""
LEARNED = 0.1
"""Share of the newest frame in what is usual."""
WIDTH, TURN_WIDTH = 4.0, 3.0
"""The gate is so many usual differences wide: the usual one is a median, so 4 are about 2.7 standard deviations. Where
only the rotation is known it is narrower, as what the camera moved looks like noise."""
NARROWEST, WIDEST = 0.03, 0.25
"""Two surfaces a quarter apart are two, however bad the network."""
UNUSUAL = 3.0
"""A frame that differs so many times as much as usual does not fit its pose,"""
NOT_BELOW, ABOVE_ALL = 0.03, 0.15
"""unless by no more than the first; and by the second always."""


class Gate:
    """Knows how much frames usually differ from their history: the median over the picture, averaged over time."""

    def __init__(self) -> None:
        self._usual = FIRST

    def fits(self, residual: float | None) -> bool:
        """Whether a pose can be right with which the frame differs so much from its history; then learn from it.

        Args:
            residual: median of |history - frame| / frame; None: nothing is in common, which speaks for no pose and
                against none.
        """
        if residual is None:
            return True
        fits = residual <= min(ABOVE_ALL, max(NOT_BELOW, UNUSUAL * self._usual))
        # At most a tenth up a frame: one wrong pose teaches little, and a worse network is learned in a second.
        self._usual += LEARNED * (min(residual, 2 * self._usual) - self._usual)
        return fits

    def width(self, metric: bool) -> float:
        """Relative difference from which on two depths are of two surfaces.

        Args:
            metric: False: only the rotation is known.
        """
        return min(WIDEST, max(NARROWEST, (WIDTH if metric else TURN_WIDTH) * self._usual))
