"""Temporal alignment on simulated walks: flicker of depth and labels, accuracy, and milliseconds a frame.

    python benchmarks/temporal.py --out benchmarks/results/temporal.json --picture docs/images/temporal.jpg

Each walk is rendered and perceived once, at the engine's size. Then the same perceptions are aligned with true poses, with the
poses of a drifting odometry and with the gyroscope alone, and compared with what the engine said.

Flicker: for every two frames in a row, the pixels of the second whose point the first one sees, too, by the true geometry; the
median of |change of the depth's error|, averaged over the pairs. Flips: the share of these pixels whose label changed.
Both say nothing about accuracy, which is beside them: depth RMSE and mIoU over the same pixels.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from machine import facts  # beside this script

from m2h_runtime import open_engine
from m2h_runtime.calibration.camera import CameraModel
from m2h_runtime.frame import Frame
from m2h_runtime.imu import so3
from m2h_runtime.imu.track import ImuCalibration, ImuTrack
from m2h_runtime.simulation.episode import STYLES, Episode, default_camera, reserved_seeds
from m2h_runtime.simulation.imu import KalibrImu, simulate_imu
from m2h_runtime.simulation.trajectory import BODY_FROM_OPTICAL, stamps_ns
from m2h_runtime.temporal import Alignment, AlignmentSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from m2h_runtime.engine.base import Engine
    from m2h_runtime.perception import Perception

FPS, BEGIN_S = 15.0, 4.0
SAME = 0.03
"""A point of one frame is seen by the other if the depths differ by less than this share."""
ODOMETRY_RAD, ODOMETRY_M, ODOMETRY_SHARE = np.radians(0.1), 0.002, 0.02
"""Standard deviations of what the odometry is off after each frame: rotation, position, and scale of the step."""
TIMED_SIZES = {"320x240": (240, 320), "engine's size": None}
ROUNDS = 5
LATE = 3


class Moment(NamedTuple):
    """A frame with its pose and IMU window, what the engine made of it, and its true depth and NYUD20 labels."""

    frame: Frame
    perception: Perception
    depth: NDArray[np.float32]
    labels: NDArray[np.uint8]


@dataclass(frozen=True)
class Walk:
    """A walk that has been perceived; all at the engine's size."""

    name: str
    camera: CameraModel
    moments: list[Moment]

    @cached_property
    def pairs(self) -> list[Pair]:
        """Of each frame but the first with the one before."""
        return [
            correspond(self.camera, before, here)
            for before, here in zip(self.moments, self.moments[1:], strict=False)
        ]


class Pair(NamedTuple):
    """Where a frame's points are in the frame before, (N,) each: rows and columns here and there."""

    here: tuple[NDArray[np.intp], NDArray[np.intp]]
    there: tuple[NDArray[np.intp], NDArray[np.intp]]


def perceive(engine: Engine, seed: int, style: str, count: int) -> Walk:
    """Render a walk from `BEGIN_S` on and let the engine see it."""
    height, width = engine.manifest.size
    pinhole = default_camera(width, height)
    camera = CameraModel(width, height, pinhole.fx, pinhole.fy, pinhole.cx, pinhole.cy)
    episode = Episode(seed, style, BEGIN_S + count / FPS + 1, pinhole)
    imu_from_camera = np.eye(4)
    imu_from_camera[:3, :3] = BODY_FROM_OPTICAL
    samples = simulate_imu(episode.trajectory, KalibrImu(), imu_from_camera, np.random.default_rng(seed))
    track, fed, before, moments = ImuTrack(ImuCalibration(imu_from_camera.T)), 0, None, []
    for index in range(count):
        time_s = BEGIN_S + index / FPS
        stamp_ns = int(stamps_ns(time_s))
        while (track.newest_ns or 0) < stamp_ns:
            track.push(int(samples.stamps_ns[fed]), samples.gyro[fed], samples.accel[fed])
            fed += 1
        shot = episode.shot(time_s)
        frame = Frame(
            shot.image,
            stamp_ns,
            index,
            imu=track.window(before, stamp_ns),
            world_from_camera=shot.world_from_camera,
        )
        moments.append(Moment(frame, engine.infer(shot.image), shot.view.depth, shot.view.labels20))
        before = stamp_ns
    return Walk(f"{seed}-{style}", camera, moments)


def correspond(camera: CameraModel, before: Moment, here: Moment) -> Pair:
    """By the true depths and poses; the nearest pixels."""
    way = np.linalg.inv(before.frame.world_from_camera) @ here.frame.world_from_camera
    rows, columns = np.nonzero(here.depth > 0)
    depth = here.depth[rows, columns].astype(np.float64)
    rays = np.stack(((columns - camera.cx) / camera.fx, (rows - camera.cy) / camera.fy, np.ones(len(rows))))
    x, y, z = way[:3, :3] @ (rays * depth) + way[:3, 3:]
    ahead = np.maximum(z, 1e-6)
    there_rows = np.rint(np.clip(camera.fy * y / ahead + camera.cy, -1, camera.height)).astype(int)
    there_columns = np.rint(np.clip(camera.fx * x / ahead + camera.cx, -1, camera.width)).astype(int)
    seen = (
        (there_rows >= 0)
        & (there_rows < camera.height)
        & (there_columns >= 0)
        & (there_columns < camera.width)
    )
    seen &= z > 0
    seen[seen] = np.abs(before.depth[there_rows[seen], there_columns[seen]] - z[seen]) < SAME * z[seen]
    return Pair((rows[seen], columns[seen]), (there_rows[seen], there_columns[seen]))


def true_poses(walk: Walk) -> Iterator[Frame]:
    """As the simulation has them."""
    return (moment.frame for moment in walk.moments)


def odometry(walk: Walk) -> Iterator[Frame]:
    """True steps, each off a little, one after the other."""
    rng = np.random.default_rng(1)
    true = [moment.frame.world_from_camera for moment in walk.moments]
    said = true[0]
    for index, moment in enumerate(walk.moments):
        if index:
            step = np.linalg.inv(true[index - 1]) @ true[index]
            step[:3, :3] = step[:3, :3] @ so3.exp(rng.normal(0, ODOMETRY_RAD, 3))
            step[:3, 3] = step[:3, 3] * (1 + rng.normal(0, ODOMETRY_SHARE)) + rng.normal(0, ODOMETRY_M, 3)
            said = said @ step
        yield replace(moment.frame, world_from_camera=said)


def gyroscope(walk: Walk) -> Iterator[Frame]:
    """No poses."""
    return (replace(moment.frame, world_from_camera=None) for moment in walk.moments)


def late(walk: Walk) -> Iterator[Frame]:
    """Each frame has the pose of `LATE` frames before, and no gyroscope knows better: shows that figures can get worse."""
    for index, moment in enumerate(walk.moments):
        pose = walk.moments[max(0, index - LATE)].frame.world_from_camera
        yield replace(moment.frame, world_from_camera=pose, imu=None)


class Variant(NamedTuple):
    """A way to align."""

    frames: Callable[[Walk], Iterator[Frame]]
    settings: AlignmentSettings = AlignmentSettings()


VARIANTS = {
    "true poses": Variant(true_poses),
    "odometry": Variant(odometry),
    "gyroscope only": Variant(gyroscope),
    "poses 0.2 s late, no IMU (control)": Variant(late),
    "true poses, memory of 3": Variant(true_poses, AlignmentSettings(memory=3)),
    "true poses, memory of 12": Variant(true_poses, AlignmentSettings(memory=12)),
    "true poses, depth edges masked": Variant(true_poses, AlignmentSettings(masked=True)),
}


def aligned(walk: Walk, variant: Variant) -> tuple[list[Perception], dict[str, int]]:
    """The walk's perceptions, aligned, and the number of frames by state."""
    alignment = Alignment(variant.settings)
    frames = variant.frames(walk)
    outputs = [
        alignment.align(moment.perception, frame, walk.camera)
        for moment, frame in zip(walk.moments, frames, strict=True)
    ]
    return outputs, alignment.report()["frames"]


def measured(
    walks: list[Walk], said: Sequence[list[Perception]], where: Sequence[list[Perception]]
) -> dict[str, float]:
    """The figures of `said`, over the pixels where `where` has a depth."""
    flicker, flips, squares, shares = [], [], [], []
    hits = np.zeros((256, 256), np.int64)
    for walk, outputs, masks in zip(walks, said, where, strict=True):
        errors = [out.depth - moment.depth for out, moment in zip(outputs, walk.moments, strict=True)]
        for index, (out, moment) in enumerate(zip(outputs, walk.moments, strict=True)):
            valid = (moment.depth > 0) & (masks[index].depth > 0)
            squares.append(np.square(errors[index][valid]).mean())
            shares.append(valid.mean())
            kinds = 256 * moment.labels[valid].astype(np.int64) + out.semantics[valid]
            hits += np.bincount(kinds, minlength=256 * 256).reshape(256, 256)
        for index, (here, there) in enumerate(walk.pairs):
            valid = (masks[index + 1].depth[here] > 0) & (masks[index].depth[there] > 0)
            flicker.append(np.median(np.abs(errors[index + 1][here] - errors[index][there])[valid]))
            flips.append(
                (outputs[index + 1].semantics[here] != outputs[index].semantics[there])[valid].mean()
            )
    right = np.diag(hits)
    union = hits.sum(0) + hits.sum(1) - right
    present = hits.sum(1) > 0
    return {
        "flicker_mm": 1000 * float(np.mean(flicker)),
        "flips": float(np.mean(flips)),
        "rmse_m": float(np.sqrt(np.mean(squares))),
        "miou": float((right[present] / union[present]).mean()),
        "pixels": float(np.mean(shares)),
    }


def compared(walks: list[Walk], variant: Variant) -> dict[str, Any]:
    """What the engine said and what came of it, over the same pixels."""
    raw = [[moment.perception for moment in walk.moments] for walk in walks]
    outputs, states = zip(*(aligned(walk, variant) for walk in walks), strict=True)
    return {
        "states": dict(sum((Counter(frames) for frames in states), Counter())),
        "engine": measured(walks, raw, outputs),
        "aligned": measured(walks, outputs, outputs),
    }


def milliseconds(walk: Walk, size: tuple[int, int] | None) -> dict[str, float]:
    """Of one core a frame, with poses; the best of the rounds' medians, and the worst frame of that round."""
    camera = walk.camera.resized(size) if size else walk.camera
    inputs = [resized(moment.perception, camera.size) for moment in walk.moments]
    rounds = []
    for _ in range(ROUNDS):
        alignment, took = Alignment(), []
        for perception, moment in zip(inputs, walk.moments, strict=True):
            begin_ns = time.thread_time_ns()
            alignment.align(perception, moment.frame, camera)
            took.append((time.thread_time_ns() - begin_ns) / 1e6)
        rounds.append((median(took[1:]), max(took[1:])))
    best = min(rounds)
    return {"median_ms": round(best[0], 2), "worst_ms": round(best[1], 2)}


def resized(perception: Perception, size: tuple[int, int]) -> Perception:
    """Nearest neighbours: for timing only."""
    rows, columns = (np.arange(n) * m // n for n, m in zip(size, perception.size, strict=True))
    pick = np.ix_(rows, columns)
    return replace(
        perception,
        **{
            name: np.ascontiguousarray(getattr(perception, name)[pick])
            for name in ("depth", "semantics", "confidence", "normals", "edges")
        },
    )


def draw(walk: Walk, index: int, path: Path) -> None:
    """Image, change of the depth's error since the frame before, and labels with what flipped: engine above, aligned below."""
    rows = []
    raw = [moment.perception for moment in walk.moments]
    here, there = walk.pairs[index - 1]
    for title, said in (("engine", raw), ("aligned", aligned(walk, VARIANTS["true poses"])[0])):
        errors = [said[i].depth - walk.moments[i].depth for i in (index - 1, index)]
        change = np.zeros(walk.camera.size, np.float32)
        change[here] = np.abs(errors[1][here] - errors[0][there])
        heat = cv2.applyColorMap(cv2.convertScaleAbs(change, alpha=255 / 0.3), cv2.COLORMAP_INFERNO)
        labels = said[index].label_space.palette[said[index].semantics][..., ::-1].copy()
        flipped = said[index].semantics[here] != said[index - 1].semantics[there]
        labels[here[0][flipped], here[1][flipped]] = 255
        image = walk.moments[index].frame.image[..., ::-1]
        row = np.hstack(
            [
                titled(image, title),
                titled(heat, "depth: change, 0 to 0.3 m"),
                titled(labels, "labels: flips white"),
            ]
        )
        rows.append(row)
    cv2.imwrite(str(path), np.vstack(rows), [cv2.IMWRITE_JPEG_QUALITY, 88])


def titled(picture: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """An enlarged copy under its caption."""
    large = cv2.resize(picture, None, fx=1.5, fy=1.5, interpolation=cv2.INTER_NEAREST)
    captioned = cv2.copyMakeBorder(large, 24, 0, 0, 4, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    return cv2.putText(captioned, text, (4, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)


def main() -> None:
    """Perceive, compare, time, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", type=Path, default=Path("engines/m2h-nano-apartments"))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(reserved_seeds()["test"]))
    parser.add_argument("--frames", type=int, default=75, help="of each walk, 15 a second")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--picture", type=Path, help="JPEG of two frames of the first walk")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    with open_engine(args.engine) as engine:
        choice = engine.choice
        walks = []
        for number, seed in enumerate(args.seeds):
            walks.append(perceive(engine, seed, STYLES[number % len(STYLES)], args.frames))
            print(f"{walks[-1].name}: perceived", flush=True)
    result = {
        "command": "python " + " ".join(sys.argv),
        "machine": facts(),
        "engine": {"folder": args.engine.name, "choice": choice},
        "walks": [walk.name for walk in walks],
        "frames": args.frames,
        "fps": FPS,
        "odometry": {
            "rotation_deg": float(np.degrees(ODOMETRY_RAD)),
            "position_m": ODOMETRY_M,
            "scale": ODOMETRY_SHARE,
        },
        "variants": {name: compared(walks, variant) for name, variant in VARIANTS.items()},
        "thread_time": {name: milliseconds(walks[0], size) for name, size in TIMED_SIZES.items()},
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    for name, pair in result["variants"].items():
        before, after = pair["engine"], pair["aligned"]
        cuts = (
            f"{key} -{100 * (1 - after[key] / before[key]):.0f} %"
            for key in ("flicker_mm", "flips", "rmse_m")
        )
        print(f"{name:32} {', '.join(cuts)}, mIoU {100 * before['miou']:.1f} -> {100 * after['miou']:.1f}")
    print(result["thread_time"])
    if args.picture:
        draw(walks[0], min(args.frames - 1, 30), args.picture)


if __name__ == "__main__":
    main()
