"""A simulated walk with its truth: what a perfect perception would say."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from m2h_runtime.calibration.camera import CameraModel
from m2h_runtime.frame import Frame
from m2h_runtime.scene_graph.sightings import Sighting
from m2h_runtime.sources.simulation import parse_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from m2h_runtime.simulation.apartment import Apartment


class TrueView(NamedTuple):
    """One frame and what there is to see in it.

    Attributes:
        frame: image, stamp, camera and true pose.
        depth: float32 (H, W), metres along the optical axis, 0 where the ray leaves the building.
        labels: uint8 (H, W), NYUv2-40 ids.
        objects: int32 (H, W), ids of `Apartment.objects`, 0 the building.
    """

    frame: Frame
    depth: NDArray[np.float32]
    labels: NDArray[np.uint8]
    objects: NDArray[np.int32]

    @property
    def sighting(self) -> Sighting:
        """The truth, to be mapped."""
        frame = self.frame
        assert frame.camera is not None and frame.world_from_camera is not None  # noqa: S101  # made here
        return Sighting(
            self.depth, self.labels, frame.image, frame.camera, frame.world_from_camera, frame.stamp_ns
        )


class TrueWalk:
    """A walk through a simulated apartment, rendered where it is asked for.

    Args:
        name: which, as in "9001-handheld"; see `sources.simulation.parse_name`.
        size: (H, W).
        duration_s: length, seconds.
        rate_hz: frames a second.

    Raises:
        InputError: no such walk, or the extra `simulation` is not installed.
    """

    def __init__(self, name: str, size: tuple[int, int], duration_s: float, rate_hz: float) -> None:
        from m2h_runtime.simulation.episode import Episode, default_camera

        seed, style = parse_name(name)
        pinhole = default_camera(*size[::-1])
        self.count = max(1, int(duration_s * rate_hz))
        self._rate_hz = rate_hz
        self._episode = Episode(seed, style, duration_s, pinhole)
        self._camera = CameraModel(
            pinhole.width, pinhole.height, pinhole.fx, pinhole.fy, pinhole.cx, pinhole.cy
        )

    @property
    def apartment(self) -> Apartment:
        """The truth."""
        return self._episode.apartment

    def views(self) -> Iterator[TrueView]:
        """All frames, in order."""
        for number in range(self.count):
            time_s = number / self._rate_hz
            shot = self._episode.shot(time_s)
            frame = Frame(
                shot.image,
                round(time_s * 1e9),
                number,
                camera=self._camera,
                world_from_camera=np.asarray(shot.world_from_camera, np.float64),
            )
            yield TrueView(frame, shot.view.depth, shot.view.labels, shot.view.objects)
