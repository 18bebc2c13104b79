"""Two rooms with a door between them, a table and a bed: boxes, seen exactly.

y 3 +-----------------+-----------------+
    |      0          D        1        |     D: door, x = 0, y from 1.05 to 1.95, 2 m high
    |  table          D         bed     |
y 0 +-----------------+-----------------+
  x -4                0                 4
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from shapes import FAR, box_depth, looking

from m2h_runtime.calibration.camera import CameraModel
from m2h_runtime.label_space import load_label_space
from m2h_runtime.scene_graph import SceneGraphBuilder
from m2h_runtime.scene_graph.sightings import Sighting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

CAMERA = CameraModel(128, 96, 70.0, 70.0, 63.5, 47.5)
SPACE = load_label_space("nyud20")
WALL, FLOOR, CEILING, BED, TABLE = 1, 2, 3, 9, 11
HALL = ((-4.0, 0.0, 0.0), (4.0, 3.0, 2.6))
PARTITION = [
    ((-0.06, 0.0, 0.0), (0.06, 1.05, 2.6)),
    ((-0.06, 1.95, 0.0), (0.06, 3.0, 2.6)),
    ((-0.06, 1.05, 2.0), (0.06, 1.95, 2.6)),
]
TABLE_BOX = ((-3.2, 0.4, 0.0), (-2.2, 1.2, 0.75))
BED_BOX = ((1.8, 0.2, 0.0), (3.8, 1.2, 0.5))


def sighting(eye: Sequence[float], target: Sequence[float], stamp_ns: int = 0) -> Sighting:
    """What a camera sees from `eye` on its way to `target`."""
    pose = looking(eye, target)
    depth, labels = seen(pose)
    rgb = np.stack([labels * 20] * 3, axis=-1)
    return Sighting(depth, labels, rgb, CAMERA, pose, stamp_ns)


def seen(pose: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Depth and NYUD20 labels of the house."""
    depth = box_depth(pose, *HALL, CAMERA)
    v, u = np.mgrid[: CAMERA.height, : CAMERA.width]
    flat = np.stack([(u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, np.ones(u.shape)], axis=-1)
    height = pose[2, 3] + depth * (flat @ pose[2, :3])
    labels = np.where(height < 0.01, FLOOR, np.where(height > 2.59, CEILING, WALL)).astype(np.uint8)
    things = [(box, WALL) for box in PARTITION] + [(TABLE_BOX, TABLE), (BED_BOX, BED)]
    for box, label in things:
        distance = box_depth(pose, *box, CAMERA)
        nearer = distance < np.minimum(depth, FAR)
        depth, labels = np.where(nearer, distance, depth), np.where(nearer, label, labels).astype(np.uint8)
    return depth.astype(np.float32), labels


def walk(x: float, first: int = 0) -> Iterator[Sighting]:
    """A turn on the spot in the middle of a room, looking up and down a little, from two places."""
    for place, y in enumerate((0.9, 2.2)):
        for step in range(12):
            yaw, rise = step * np.pi / 6, (-0.45, 0.25)[step % 2]
            for lift in (rise, -rise):
                eye = (x + 0.5 * place, y, 1.4)
                target = (eye[0] + np.cos(yaw), eye[1] + np.sin(yaw), eye[2] + lift)
                first += 1
                yield sighting(eye, target, first * 100_000_000)


def walked(rooms: Sequence[float] = (-1.4, 1.0)) -> SceneGraphBuilder:
    """A builder that has been in the rooms around these x, with its graph made after each."""
    builder = SceneGraphBuilder(SPACE)
    for number, x in enumerate(rooms):
        for one in walk(x, 100 * number):
            builder.add(one)
        builder.update()
    return builder
