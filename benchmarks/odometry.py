"""Visual odometry on simulated walks through apartments that no training has seen: how far it is off, and what it costs.

    python benchmarks/odometry.py                                    # three walks, some minutes on one core
    python benchmarks/odometry.py --walks 9001-handheld --seconds 5

Pictures have the simulation's blur, noise and exposure, and the IMU its noise and biases. Every frame is rendered and
perceived once and given to each contestant: the demo engine's depth and the true one, with the IMU and without it. Their
true poses are taken from them before.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import machine
import numpy as np
from sections.odometry import lines_of

from m2h_runtime import open_engine
from m2h_runtime.calibration.camera import CameraModel
from m2h_runtime.frame import Frame
from m2h_runtime.imu import so3
from m2h_runtime.imu.track import ImuCalibration, ImuTrack
from m2h_runtime.label_space import load_label_space
from m2h_runtime.odometry import VisualOdometry
from m2h_runtime.perception import Perception
from m2h_runtime.pipeline.health import Health
from m2h_runtime.pipeline.prepare import Preparation
from m2h_runtime.shipped import shipped_engine
from m2h_runtime.simulation.episode import Episode, default_camera
from m2h_runtime.simulation.imu import KalibrImu, simulate_imu
from m2h_runtime.simulation.trajectory import BODY_FROM_OPTICAL
from m2h_runtime.sources.simulation import parse_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from m2h_runtime.odometry import Estimate
    from m2h_runtime.simulation.episode import Shot

RESULTS = Path(__file__).resolve().parent / "results" / "odometry.json"
WALKS = ("9001-handheld", "9002-wheeled", "9003-drone")
SIZE, LARGE = (240, 320), (480, 640)
STEP = 10
"""Frames of the short-term error."""
GOOD = 0.5
"""Quality that parts good frames from doubtful ones."""


@dataclass
class Contestant:
    """One odometry on one walk.

    Attributes:
        depth: "true" or "engine".
        imu: it is given the IMU.
        large: its pictures are 640x480 (enlarged, for the cost alone).
    """

    depth: str
    imu: bool
    large: bool = False
    odometry: VisualOdometry = field(default_factory=lambda: VisualOdometry(Health()))
    estimates: list[Estimate] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)

    def take(self, frame: Frame, perception: Perception, camera: CameraModel, factor: float) -> None:
        """Track one frame and note the CPU time of this thread."""
        frame = frame if self.imu else replace(frame, imu=None)
        if self.large:
            image = cv2.resize(frame.image, LARGE[::-1], interpolation=cv2.INTER_LINEAR)
            assert frame.camera is not None
            frame = replace(frame, image=image, camera=frame.camera.resized(LARGE))
        began = time.thread_time()
        estimate = self.odometry.track(frame, perception, camera, factor)
        self.cpu_ms.append(1e3 * (time.thread_time() - began))
        assert estimate is not None
        self.estimates.append(estimate)


def main() -> int:
    """Walk, write the results and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--walks", nargs="+", default=list(WALKS), metavar="SEED-STYLE")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each walk (default 15)")
    parser.add_argument("--fps", type=float, default=30.0)
    parser.add_argument("--json", type=Path, default=RESULTS)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    rows = [row for walk in args.walks for row in measure(walk, args.seconds, args.fps)]
    options = "" if args.walks == list(WALKS) else f" --walks {' '.join(args.walks)}"
    record = {
        "command": f"python benchmarks/odometry.py{options} --seconds {args.seconds:g} --fps {args.fps:g}",
        "machine": machine.facts(),
        "engine": shipped_engine().name,
        "size": SIZE,
        "fps": args.fps,
        "rows": rows,
    }
    args.json.write_text(json.dumps(record, indent=1) + "\n")
    print("\n".join(lines_of(record)))
    return 0


def measure(walk: str, seconds: float, fps: float) -> list[dict[str, Any]]:
    """One walk for all contestants."""
    contestants = [Contestant(depth, imu) for depth in ("true", "engine") for imu in (True, False)]
    contestants.append(Contestant("engine", True, large=True))
    true = []
    with open_engine(shipped_engine(), threads=1) as engine:
        preparation = Preparation(engine.manifest)
        for frame, shot in frames(walk, seconds, fps):
            ready = preparation(frame)
            assert ready.engine_camera is not None and frame.camera is not None
            said = engine.infer(ready.image)
            exact = true_perception(shot)
            for one in contestants:
                if one.depth == "true":
                    one.take(frame, exact, frame.camera, 1.0)
                else:
                    one.take(ready.frame, said, ready.engine_camera, ready.depth_factor)
            true.append(shot.world_from_camera)
    return [{"walk": walk, **figures(one, np.array(true))} for one in contestants]


def frames(walk: str, seconds: float, fps: float) -> Iterator[tuple[Frame, Shot]]:
    """Frames without poses but with IMU windows, and what is true of them."""
    seed, style = parse_name(walk)
    pinhole = default_camera(*SIZE[::-1])
    camera = CameraModel(pinhole.width, pinhole.height, pinhole.fx, pinhole.fy, pinhole.cx, pinhole.cy)
    episode = Episode(seed, style, 60.0, pinhole)
    imu_from_camera = np.eye(4)
    imu_from_camera[:3, :3] = BODY_FROM_OPTICAL
    rng = np.random.default_rng((seed, 13))
    samples = simulate_imu(episode.trajectory, KalibrImu(), imu_from_camera, rng, rate_hz=200.0, start_ns=0)
    track = ImuTrack(ImuCalibration(imu_from_camera.T, nominal_rate_hz=200.0))
    fed, before_ns = 0, None
    for index in range(round(seconds * fps)):
        stamp_ns = round(index * 1e9 / fps)
        while track.newest_ns is None or track.newest_ns < stamp_ns:
            track.push(int(samples.stamps_ns[fed]), samples.gyro[fed], samples.accel[fed])
            fed += 1
        shot = episode.shot(index / fps)
        window = track.window(before_ns, stamp_ns)
        yield Frame(shot.image, stamp_ns, index, camera=camera, imu=window), shot
        before_ns = stamp_ns


def true_perception(shot: Shot) -> Perception:
    """The truth in the engine's place."""
    nothing = np.zeros(shot.view.depth.shape, np.uint8)
    return Perception(
        shot.view.depth.copy(),
        shot.view.labels20.copy(),
        nothing,
        shot.view.normals.astype(np.float32),
        nothing.copy(),
        load_label_space("nyud20"),
    )


def figures(one: Contestant, true: NDArray[np.float64]) -> dict[str, Any]:
    """What the table shows, as numbers; errors from the second frame on, when gravity is known."""
    said = np.array([estimate.world_from_camera for estimate in one.estimates])[1:]
    true, estimates = true[1:], one.estimates[1:]
    ways_m = np.linalg.norm(np.diff(true[:, :3, 3], axis=0), axis=1)
    path_m = np.concatenate(([0.0], np.cumsum(ways_m)))
    far = {i: int(np.searchsorted(path_m, path_m[i] + 1.0)) for i in range(0, len(true), 5)}
    metre = np.array([apart(said, true, i, j) for i, j in far.items() if j < len(true)])
    if not len(metre):
        raise SystemExit(f"this walk is {path_m[-1]:.2f} m long; give more --seconds, for 1 m at least")
    short = np.array([apart(said, true, i, i + STEP) for i in range(len(true) - STEP)])
    single_mm = 1e3 * np.array([apart(said, true, i - 1, i)[0] for i in range(1, len(true))])
    quality = np.array([estimate.quality for estimate in estimates[1:]])
    aligned = from_start(said, true)
    errors_m = np.linalg.norm(aligned - true[:, :3, 3], axis=1)
    stated_m = np.sqrt([np.trace(estimate.covariance[:3, :3]) for estimate in estimates])
    return {
        "depth": one.depth,
        "imu": one.imu,
        "large": one.large,
        "frames": len(one.estimates),
        "path_m": round(float(path_m[-1]), 2),
        "per_metre_percent": middle(100 * metre[:, 0]),
        "per_metre_deg": middle(np.degrees(metre[:, 1])),
        "per_10_frames_mm": middle(1e3 * short[:, 0]),
        "per_10_frames_deg": middle(np.degrees(short[:, 1])),
        "good_frames_mm": middle(single_mm[quality >= GOOD]),
        "doubtful_frames_mm": middle(single_mm[quality < GOOD]),
        "ate_m": round(ate(said[:, :3, 3], true[:, :3, 3]), 4),
        "drift_percent": round(float(100 * errors_m[-1] / path_m[-1]), 2),
        "within_2_sd": round(float((errors_m <= 2 * stated_m).mean()), 3),
        "lost": round(float(np.mean([estimate.state == "lost" for estimate in estimates])), 4),
        "segments": estimates[-1].segment + 1,
        "cpu_ms": middle(np.array(one.cpu_ms[1:])),
        "cpu_p95_ms": round(float(np.percentile(one.cpu_ms[1:], 95)), 2),
    }


def middle(values: NDArray[np.float64]) -> float | None:
    """The median; None of nothing."""
    return round(float(np.median(values)), 3) if len(values) else None


def apart(said: NDArray[np.float64], true: NDArray[np.float64], i: int, j: int) -> tuple[float, float]:
    """The error of the way from frame `i` to `j`: metres and rad."""
    wrong = np.linalg.inv(np.linalg.inv(true[i]) @ true[j]) @ np.linalg.inv(said[i]) @ said[j]
    return float(np.linalg.norm(wrong[:3, 3])), float(np.linalg.norm(so3.log(wrong[:3, :3])))


def from_start(said: NDArray[np.float64], true: NDArray[np.float64]) -> NDArray[np.float64]:
    """Positions (N, 3) in the true world, joined at the first pose by place and heading; both have z up."""
    turn = true[0, :3, :3] @ said[0, :3, :3].T
    heading = np.arctan2(turn[1, 0] - turn[0, 1], turn[0, 0] + turn[1, 1])
    about_z = so3.exp(np.array((0.0, 0.0, heading)))
    return np.asarray((said[:, :3, 3] - said[0, :3, 3]) @ about_z.T + true[0, :3, 3])


def ate(said: NDArray[np.float64], true: NDArray[np.float64]) -> float:
    """Root mean square distance after Umeyama's alignment without scale, metres."""
    there, here = true - true.mean(axis=0), said - said.mean(axis=0)
    left, _, right = np.linalg.svd(there.T @ here)
    rotation = left @ np.diag((1, 1, np.sign(np.linalg.det(left @ right)))) @ right
    return float(np.sqrt(((here @ rotation.T - there) ** 2).sum(axis=1).mean()))


if __name__ == "__main__":
    raise SystemExit(main())
