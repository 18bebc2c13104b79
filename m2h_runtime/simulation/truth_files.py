"""What every episode folder holds beside its pictures: camera, scene graph, poses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from m2h_runtime.simulation.libraries import require

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from m2h_runtime.simulation.apartment import Apartment
    from m2h_runtime.simulation.episode import Episode

FRAMES, EPISODE, SCENE = "frames.txt", "episode.yaml", "scene.yaml"


def write_truth(
    folder: Path,
    episode: Episode,
    poses: Iterable[tuple[str, NDArray[np.float64]]],
    extra: dict[str, Any] | None = None,
) -> None:
    """Write frames.txt, episode.yaml and scene.yaml.

    Args:
        folder: where to; it exists.
        episode: whose truth it is.
        poses: stamp in seconds, as text, and world_from_camera (4, 4) of every frame.
        extra: further entries of episode.yaml.
    """
    lines = [_tum_line(stamp, pose) for stamp, pose in poses]
    (folder / FRAMES).write_text("\n".join(lines) + "\n", encoding="utf-8")
    camera = episode.camera
    settings = {
        "seed": episode.seed,
        "style": episode.style,
        "duration_s": episode.duration_s,
        "frames": len(lines),
        "camera": {
            "width": camera.width,
            "height": camera.height,
            "fx": camera.fx,
            "fy": camera.fy,
            "cx": camera.cx,
            "cy": camera.cy,
            "distortion": list(camera.distortion),
        },
        **(extra or {}),
    }
    _write_yaml(folder / EPISODE, settings)
    _write_yaml(folder / SCENE, scene_graph(episode.apartment))


def scene_graph(apartment: Apartment) -> dict[str, Any]:
    """Rooms and objects of an apartment as plain data: what a scene-graph builder should find."""
    return {
        "seed": apartment.seed,
        "rooms": [
            {
                "id": room.id,
                "kind": room.kind,
                "low": [round(room.x0, 4), round(room.y0, 4), 0.0],
                "high": [round(room.x1, 4), round(room.y1, 4), round(room.height, 4)],
            }
            for room in apartment.rooms
        ],
        "objects": [
            {
                "id": thing.id,
                "kind": thing.kind,
                "nyudv2_40": thing.label,
                "room": thing.room,
                "low": [round(v, 4) for v in thing.low],
                "high": [round(v, 4) for v in thing.high],
            }
            for thing in apartment.objects
        ],
    }


def _write_yaml(path: Path, values: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(values, sort_keys=False, default_flow_style=None), encoding="utf-8")


def _tum_line(stamp: str, pose: NDArray[np.float64]) -> str:
    quaternion = require("scipy.spatial.transform").Rotation.from_matrix(pose[:3, :3]).as_quat()
    return " ".join((stamp, *(f"{value:.9f}" for value in (*pose[:3, 3], *quaternion))))
