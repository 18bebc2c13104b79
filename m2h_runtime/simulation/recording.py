"""Episodes on disk as a robot would have recorded them: a ROS 2 bag, its calibration, and the truth beside it.

ROOT/<split>/<seed>-<style>/
    bag/                       rosbag2 folder with MCAP storage (simulation.bag has the topics)
    camchain-imucam.yaml       Kalibr's calibration of camera and IMU
    imu.yaml                   Kalibr's noise model of the IMU
    frames.txt, episode.yaml, scene.yaml, mesh.ply    as in a training set; the stamps are those of the bag
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from m2h_runtime.files import folder_in_place
from m2h_runtime.simulation.bag import EpisodeBag, Rig
from m2h_runtime.simulation.calibration_files import write_calibration
from m2h_runtime.simulation.imu import simulate_imu
from m2h_runtime.simulation.mesh import write_mesh
from m2h_runtime.simulation.trajectory import stamps_ns
from m2h_runtime.simulation.truth_files import write_truth

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from m2h_runtime.simulation.episode import Episode
    from m2h_runtime.simulation.pinhole import Pinhole

BAG = "bag"
LABELS = "nyud20"
"""Label space of the bag's semantic images."""


def rig_of(camera: Pinhole) -> Rig:
    """The simulated sensors: camera, IMU and base share their origin, and the IMU has Kalibr's default noise."""
    return Rig(camera.matrix, (camera.width, camera.height), distortion=np.array([*camera.distortion, 0.0]))


def write_recording(
    episode: Episode,
    frames: int,
    fps: float,
    folder: Path,
    on_frame: Callable[[], None],
    *,
    mesh: bool = False,
) -> None:
    """Render `frames` frames, 1/`fps` s apart, into a bag in `folder`, which appears when all is written.

    Raises:
        InputError: the folder cannot be written, or the disk is full; nothing is left behind.
    """
    rig = rig_of(episode.camera)
    rng = np.random.default_rng((episode.seed, 13))
    imu = simulate_imu(episode.trajectory, rig.imu, rig.imu_from_camera, rng)
    times = np.arange(frames) / fps
    stamps = stamps_ns(times).tolist()
    with folder_in_place(folder) as temporary:
        with EpisodeBag.create(temporary / BAG, rig, episode.trajectory, imu) as bag:
            for time_s, stamp in zip(times.tolist(), stamps, strict=True):
                shot = episode.shot(time_s)
                bag.add_frame(stamp, shot.image, shot.view.depth, shot.view.labels20)
                on_frame()
        write_calibration(temporary, rig)
        # From integers: a double of seconds since 1970 is off by up to 0.1 microseconds.
        texts = [f"{stamp // 10**9}.{stamp % 10**9:09d}" for stamp in stamps]
        poses = zip(texts, episode.trajectory.poses(times), strict=True)
        write_truth(temporary, episode, poses, {"fps": fps, "labels": LABELS})
        if mesh:
            write_mesh(episode.apartment, temporary)
