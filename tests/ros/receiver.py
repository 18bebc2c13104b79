"""A strict receiver in a process of its own: what Hydra does with the topics, and no mercy.

It knows nothing of m2h_runtime and has the middleware's default transport. Every topic gets a subscription of its
own, reliable, queue of one (IMU: 200). A frame is accepted if all outputs came with the same stamp and frame id,
images and camera_info have the same size and the wanted encodings, depth is finite and not negative, and labels are
in range.

    python receiver.py '{"topics": {"depth": ["/m2h/depth/image", "32FC1"], ...}, "classes": 20}' --json result.json

It prints "ready" when every topic has a publisher, and ends after `--frames` accepted frames, when nothing has come
for `--idle` seconds after the first message, or on SIGTERM. `--raw FOLDER` keeps the serialized bytes instead of
judging them: FOLDER/<output>/<stamp>.cdr.
"""

from __future__ import annotations

import argparse
import json
import signal
import struct
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from sensor_msgs.msg import CameraInfo, Image, Imu, PointCloud2

TYPES = {"camera_info": CameraInfo, "imu": Imu, "points": PointCloud2}
DTYPES = {"rgb8": np.uint8, "mono8": np.uint8, "32FC1": np.float32, "32FC3": np.float32}
DTYPES |= {"16UC1": np.uint16, "16SC1": np.int16}
CHANNELS = {"rgb8": 3, "32FC3": 3}
START_S = 20.0


class Judge:
    """Puts the messages of each stamp together."""

    def __init__(self, topics: dict[str, list[str]], classes: int) -> None:
        self.topics = topics
        self.classes = classes
        self.framed = {output for output in topics if output != "imu"}
        self.seen: Counter[str] = Counter()
        self.headers: dict[int, dict[str, tuple[Any, ...]]] = {}
        self.arrivals: dict[int, dict[str, int]] = {}
        self.accepted: list[int] = []
        self.imu_stamps: list[int] = []
        self.errors: list[str] = []
        self.last = time.monotonic()

    def take(self, output: str, message: Any) -> None:
        self.last = time.monotonic()
        self.seen[output] += 1
        stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        if output == "imu":
            self.imu_stamps.append(stamp)
            return
        if fault := self.fault(output, message):
            self.errors.append(f"{output} at {stamp}: {fault}")
            return
        size = None if output == "points" else (message.height, message.width)
        self.headers.setdefault(stamp, {})[output] = (message.header.frame_id, size)
        self.arrivals.setdefault(stamp, {})[output] = time.monotonic_ns()
        if self.headers[stamp].keys() == self.framed:
            self.complete(stamp)

    def complete(self, stamp: int) -> None:
        frames = {frame for frame, _ in self.headers[stamp].values()}
        sizes = {size for _, size in self.headers[stamp].values() if size}
        if len(frames) > 1 or len(sizes) > 1:
            self.errors.append(f"at {stamp}: frames {frames}, sizes {sizes}")
        elif self.accepted and stamp <= self.accepted[-1]:
            self.errors.append(f"at {stamp}: after {self.accepted[-1]}")
        else:
            self.accepted.append(stamp)

    def fault(self, output: str, message: Any) -> str | None:
        if output == "camera_info":
            fx, cx, fy, cy = (message.k[index] for index in (0, 2, 4, 5))
            good = fx > 0 and fy > 0 and 0 < cx <= message.width and 0 < cy <= message.height
            return None if good else f"k {message.k}"
        if output == "points":
            return None if len(message.data) == message.row_step * message.height else "row_step"
        wanted = self.topics[output][1]
        if message.encoding != wanted:
            return f"encoding {message.encoding}, wanted {wanted}"
        pixels = np.frombuffer(message.data, DTYPES[wanted])
        if pixels.size != message.height * message.width * CHANNELS.get(wanted, 1):
            return f"{pixels.size} values for {message.width}x{message.height}"
        if message.is_bigendian or message.step * message.height != pixels.nbytes:
            return f"step {message.step}, big-endian {message.is_bigendian}"
        return self.value_fault(output, pixels)

    def value_fault(self, output: str, pixels: Any) -> str | None:
        if output == "depth" and not (np.all(np.isfinite(pixels)) and pixels.min() >= 0):
            return "not finite or negative"
        if output == "labels" and not -1 <= int(pixels.min()) <= int(pixels.max()) < self.classes:
            return f"{int(pixels.min())}..{int(pixels.max())}"
        return None

    def result(self) -> dict[str, Any]:
        return {
            "seen": dict(self.seen),
            "accepted": self.accepted,
            "stamps": sorted(self.headers),
            "imu_stamps": self.imu_stamps,
            "errors": self.errors[:20],
            "arrived_ns": {stamp: max(its.values()) for stamp, its in self.arrivals.items()},
        }


class Keeper(Judge):
    """Only keeps the bytes."""

    def __init__(self, topics: dict[str, list[str]], folder: Path) -> None:
        super().__init__(topics, 0)
        self.folder = folder

    def take(self, output: str, message: Any) -> None:
        self.last = time.monotonic()
        self.seen[output] += 1
        sec, nanosec = struct.unpack_from("<iI", message, 4)
        stamp = sec * 10**9 + nanosec
        (self.folder / output).mkdir(parents=True, exist_ok=True)
        (self.folder / output / f"{stamp}.cdr").write_bytes(message)
        if output != "imu":
            self.headers.setdefault(stamp, {})[output] = ("", None)
            if self.headers[stamp].keys() == self.framed:
                self.accepted.append(stamp)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("expected", type=json.loads)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=10**9)
    parser.add_argument("--idle", type=float, default=3.0)
    parser.add_argument("--raw", type=Path)
    args = parser.parse_args()
    topics = args.expected["topics"]
    judge = Keeper(topics, args.raw) if args.raw else Judge(topics, args.expected["classes"])
    rclpy.init(args=[])
    node = rclpy.create_node("strict_receiver")
    subscriptions = [
        node.create_subscription(
            TYPES.get(output, Image),
            topic,
            partial(judge.take, output),
            200 if output == "imu" else 1,  # samples come in bursts, one for each frame
            raw=bool(args.raw),
        )
        for output, (topic, _) in topics.items()
    ]
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    start = time.monotonic()
    ready = False
    while not ended and len(judge.accepted) < args.frames:
        try:
            rclpy.spin_once(node, timeout_sec=0.1)
        except ExternalShutdownException:
            break
        if not ready and all(node.count_publishers(its.topic_name) for its in subscriptions):
            ready = True
            sys.stdout.write("ready\n")
            sys.stdout.flush()
        if not ready and time.monotonic() - start > START_S:
            judge.errors.append(f"not every topic has a publisher after {START_S:g} s")
            break
        if judge.seen and time.monotonic() - judge.last > args.idle:
            break
    args.json.write_text(json.dumps(judge.result()))


if __name__ == "__main__":
    main()
