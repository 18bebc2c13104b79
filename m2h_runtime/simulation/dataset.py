"""Episodes on disk, for training: PNG files that anything reads, and the true scene graph beside them.

ROOT/<split>/<seed>-<style>/
    rgb/000000.png        8 bit RGB
    depth/000000.png      16 bit, millimetres along the optical axis, 0 unknown
    labels/000000.png     8 bit, NYUv2-40 ids, 0 unknown
    normals/000000.png    16 bit RGB, (n + 1)·32767 for x right, y down, z forward; 0 0 0 unknown
    objects/000000.png    16 bit, ids of scene.yaml, 0 the building
    frames.txt            one line per frame: stamp (s) tx ty tz qx qy qz qw, world from camera (the TUM format)
    episode.yaml          seed, style, camera
    scene.yaml            rooms and objects with boxes
    mesh.ply              with --mesh: the apartment's triangles (simulation.mesh)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from m2h_runtime.errors import InputError
from m2h_runtime.files import folder_in_place
from m2h_runtime.simulation.mesh import write_mesh
from m2h_runtime.simulation.truth_files import write_truth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from m2h_runtime.simulation.episode import Episode, Shot

NORMAL_SCALE = 32767.0
DEPTH_UNIT_M = 0.001
MAPS = ("rgb", "depth", "labels", "normals", "objects")


def write_episode(
    episode: Episode, shots: Iterable[Shot], folder: Path, on_frame: Callable[[], None], *, mesh: bool = False
) -> None:
    """Write an episode's shots into `folder`, which appears when all is written.

    Raises:
        InputError: the folder cannot be written, or the disk is full; nothing is left behind.
    """
    with folder_in_place(folder) as temporary:
        for name in MAPS:
            (temporary / name).mkdir()
        poses = []
        for index, shot in enumerate(shots):
            for name, values in _maps(shot).items():
                _write_png(temporary / name / f"{index:06d}.png", values)
            poses.append((f"{shot.time_s:.9f}", shot.world_from_camera))
            on_frame()
        write_truth(temporary, episode, poses)
        if mesh:
            write_mesh(episode.apartment, temporary)


def _maps(shot: Shot) -> dict[str, NDArray[Any]]:
    """What goes into a shot's files, by folder; colours and normals as BGR, which OpenCV turns into RGB files."""
    view = shot.view
    normals = np.round((view.normals + 1) * NORMAL_SCALE) * (view.depth > 0)[..., None]
    return {
        "rgb": shot.image[..., ::-1],
        "depth": np.round(view.depth / DEPTH_UNIT_M).clip(0, 65535).astype(np.uint16),
        "labels": view.labels,
        "normals": normals.astype(np.uint16)[..., ::-1],
        "objects": view.objects.astype(np.uint16),
    }


def _write_png(path: Path, values: NDArray[Any]) -> None:
    if not cv2.imwrite(str(path), values, [cv2.IMWRITE_PNG_COMPRESSION, 1]):
        raise InputError(f"{path}: cannot be written; free some space or choose another --out")
