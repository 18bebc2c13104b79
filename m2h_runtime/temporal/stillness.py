"""Whether the picture moved, for poses that say that the camera stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from m2h_runtime.calibration.fit import stretched

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIZE = (120, 160)
CORNERS, LEAST_CORNERS = 60, 12
"""So many are followed; with fewer than the second nothing can be said."""
LEAST_PX = 0.5
"""At `SIZE`: a quarter of a degree through a usual lens, and more than noise moves a corner."""


def moved(before: NDArray[np.uint8], now: NDArray[np.uint8]) -> bool:
    """Whether most corners of the picture are elsewhere; one thing that moves in front of it does not count.

    Args:
        before: uint8 (H, W, 3), RGB.
        now: as `before`.
    """
    first, second = (cv2.cvtColor(stretched(image, SIZE), cv2.COLOR_RGB2GRAY) for image in (before, now))
    corners = cv2.goodFeaturesToTrack(first, CORNERS, qualityLevel=0.02, minDistance=8)
    if corners is None:
        return False
    found, followed, _ = cv2.calcOpticalFlowPyrLK(first, second, corners, None)
    ways = np.linalg.norm(found - corners, axis=-1)[followed > 0]
    return bool(len(ways) >= LEAST_CORNERS and np.median(ways) > LEAST_PX)
