"""What lights a room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Light:
    """A lamp (a small ball), or a window (a rectangle that shines into the room).

    Attributes:
        position: (3,) world metres, its centre.
        extent: (3,) half sizes that shadow rays are spread over, metres.
        power: (3,) linear RGB intensity.
        direction: (3,) unit vector that a window shines along; zeros for a lamp, which shines all round.
        room: id of its room.
    """

    position: NDArray[np.float64]
    extent: NDArray[np.float64]
    power: NDArray[np.float64]
    direction: NDArray[np.float64]
    room: int
