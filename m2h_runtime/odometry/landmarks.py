"""`Landmarks`: points of the room, each on the ray on which it was first seen."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEPTH_SD = 0.15
"""Of one depth of a network at one point, as a part of it."""
LEAST_SD = 0.04
"""It does not get better than this: a network's faults are alike from frame to frame."""


@dataclass(slots=True)
class Landmarks:
    """N of them, by rows.

    Attributes:
        pixels: float32 (N, 2), x and y in the picture that was followed last.
        eyes: float64 (N, 3), where the camera was that saw it first, metres, world.
        rays: float64 (N, 3), from there to it, world; as long as a depth of 1 m.
        depths: float64 (N,), metres: it is at `eyes` + `rays` * `depths`.
        information: float64 (N,), 1 / variance of the depth, relative to it.
        pixel_sd: float64 (N,), how well it can be followed, pixels.
    """

    pixels: NDArray[np.float32]
    eyes: NDArray[np.float64]
    rays: NDArray[np.float64]
    depths: NDArray[np.float64]
    information: NDArray[np.float64]
    pixel_sd: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.depths)

    @property
    def points(self) -> NDArray[np.float64]:
        """float64 (N, 3), metres, world."""
        return self.eyes + self.rays * self.depths[:, None]

    @property
    def depth_sd(self) -> NDArray[np.float64]:
        """float64 (N,), of the depth, as a part of it."""
        return np.sqrt(1 / self.information + LEAST_SD**2)

    def keep(self, mask: NDArray[np.bool_]) -> Landmarks:
        """Those only."""
        return Landmarks(*(getattr(self, field.name)[mask] for field in fields(self)))

    def join(self, others: Landmarks) -> Landmarks:
        """These and those."""
        return Landmarks(
            *(
                np.concatenate((getattr(self, field.name), getattr(others, field.name)))
                for field in fields(self)
            )
        )

    def measure(self, pose: NDArray[np.float64], depths: NDArray[np.float64], weight: float) -> None:
        """Take in what a network says from another place.

        Args:
            pose: float64 (4, 4), world from camera.
            depths: float64 (N,), metres along that camera's axis; NaN: nothing.
            weight: what it counts, where what was said at first sight counts 1.
        """
        ahead = pose[:3, 2]
        along = self.rays @ ahead
        said = (depths - (self.eyes - pose[:3, 3]) @ ahead) / np.where(np.abs(along) > 0.3, along, np.nan)
        good = np.isfinite(said) & (said > 0)
        gained = np.where(good, weight / DEPTH_SD**2, 0.0)
        total = self.information + gained
        self.depths = self.depths + gained / total * np.where(good, said - self.depths, 0.0)
        self.information = total

    def turn(self, rotation: NDArray[np.float64], about: NDArray[np.float64]) -> None:
        """Rotate the world (3, 3) about a point (3,)."""
        self.eyes = about + (self.eyes - about) @ rotation.T
        self.rays = self.rays @ rotation.T


def none() -> Landmarks:
    """Not one."""
    return Landmarks(np.empty((0, 2), np.float32), *np.empty((2, 0, 3)), *np.empty((3, 0)))


def seen(
    pose: NDArray[np.float64],
    pixels: NDArray[np.float32],
    rays: NDArray[np.float64],
    depths: NDArray[np.float64],
    pixel_sd: NDArray[np.float64],
) -> Landmarks:
    """New ones, from the camera at `pose` (4, 4): float32 (N, 2) pixels, float64 (N, 2) x/z and y/z, (N,) metres."""
    eyes = np.repeat(pose[None, :3, 3], len(depths), axis=0)
    directions = np.column_stack((rays, np.ones(len(rays)))) @ pose[:3, :3].T
    return Landmarks(pixels, eyes, directions, depths, np.full(len(depths), 1 / DEPTH_SD**2), pixel_sd)
