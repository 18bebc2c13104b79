"""The streaming loop through real ROS 2, in separate processes: overhead per frame, and five minutes of overload.

    python benchmarks/stream_ros.py overhead --out benchmarks/results/stream_ros.json
    python benchmarks/stream_ros.py overload --minutes 5 --out benchmarks/results/stream_ros.json

overhead: 640 x 480 frames at 8 a second through the demo engine; how long from the engine thread taking a frame until
the last message is published, minus the engine's time. Once with every output subscribed, once with depth and labels,
in turn, `--rounds` times. "bare" is the baseline: the same messages, made beforehand, published by rclpy in a loop that
does nothing else.

overload: a publisher in another process sends 640 x 480 images at 60 Hz on a topic, the engine is slowed down to 15 a
second, and a third process reads depth and labels and judges every frame (tests/ros/receiver.py). Age at publication per minute, drops, memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, ClassVar

os.environ.setdefault("ROS_DOMAIN_ID", "77")
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")

import cv2
import numpy as np
from machine import facts  # beside this script

from m2h_runtime import open_engine
from m2h_runtime.calibration.camera import CameraModel
from m2h_runtime.calibration.fit import Fit
from m2h_runtime.frame import Frame
from m2h_runtime.memory import keep_freed_memory
from m2h_runtime.pipeline import Pipeline
from m2h_runtime.ros.messages import encode, header_of
from m2h_runtime.ros.outputs import RosSink
from m2h_runtime.ros.profiles import load_profile
from m2h_runtime.ros.session import RosSession
from m2h_runtime.ros.topic_source import TopicSource
from m2h_runtime.sources.base import EndOfStream, Source

if TYPE_CHECKING:
    from m2h_runtime.engine.base import Engine
    from m2h_runtime.sinks.base import Observation

ROOT = Path(__file__).resolve().parent.parent
RECEIVER = ROOT / "tests" / "ros" / "receiver.py"
ENGINE = ROOT / "engines" / "m2h-nano-apartments"
SIZE = (480, 640)
CAMERA = CameraModel(640, 480, 525.0, 525.0, 319.5, 239.5)
DEPTH_AND_LABELS = ("depth", "labels")
WARM_UP = 10
OVERLOAD_HZ, ENGINE_HZ = 60.0, 15.0


class Camera(Source):
    """Textured frames of 640 x 480 at a steady rate."""

    live: ClassVar[bool] = True

    def __init__(self, frames: int, hz: float) -> None:
        super().__init__()
        self.fps = hz
        self._left = frames
        self._pictures = pictures()
        self._next_ns = time.monotonic_ns()
        self._sequence = 0

    def read(self, timeout_s: float) -> Frame | None:  # noqa: ARG002
        """The next picture when it is due."""
        if not self._left:
            raise EndOfStream
        time.sleep(max(0, self._next_ns - time.monotonic_ns()) / 1e9)
        self._next_ns += round(1e9 / (self.fps or 1))
        self._left -= 1
        self._sequence += 1
        image = self._pictures[self._sequence % len(self._pictures)].copy()
        return Frame(
            image,
            time.time_ns(),
            self._sequence,
            "camera_optical_frame",
            taken_ns=time.monotonic_ns(),
            camera=CAMERA,
        )

    def describe(self) -> str:
        """What it is."""
        return "frames in memory, 640x480"


def pictures() -> list[np.ndarray]:
    """A few smooth pictures with edges, (480, 640, 3) uint8."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(4):
        blocks = rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        made.append(cv2.resize(blocks, SIZE[::-1], interpolation=cv2.INTER_CUBIC))
    return made


class Measured(RosSink):
    """The real sink; notes for each frame when its last message was published."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.overhead_ms: list[float] = []
        self.ages: list[tuple[float, float]] = []
        self.began_ns = time.monotonic_ns()

    def write(self, observation: Observation) -> None:
        """Publish, and note when that was done."""
        super().write(observation)
        now_ns = time.monotonic_ns()
        taken_ns = observation.frame.taken_ns
        spent = observation.perception.latencies_ns
        before_ns = spent["capture"] + spent["queue"] + spent["engine"]
        assert taken_ns is not None
        self.overhead_ms.append((now_ns - taken_ns - before_ns) / 1e6)
        self.ages.append(((now_ns - self.began_ns) / 1e9, (now_ns - taken_ns) / 1e6))


class Reader:
    """The strict receiver in its own process."""

    def __init__(self, sink: RosSink, outputs: tuple[str, ...], folder: Path, idle_s: float = 4.0) -> None:
        topics = {name: [sink.topics[name], sink.profile.outputs[name].encoding] for name in outputs}
        self._json = folder / f"reader_{time.monotonic_ns()}.json"
        expected = json.dumps({"topics": topics, "classes": 256})
        environ = {key: value for key, value in os.environ.items() if "DEFAULT_PROFILES_FILE" not in key}
        self.process = subprocess.Popen(
            [sys.executable, RECEIVER, expected, "--json", self._json, "--idle", str(idle_s)],
            env=environ,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n", "the receiver did not start"
        while not set(outputs) <= set(sink.wanted()):
            time.sleep(0.05)

    def result(self) -> dict:
        """What it accepted."""
        self.process.wait(60)
        return json.loads(self._json.read_text())


def bare(sink: Measured, engine: Engine, outputs: tuple[str, ...], frames: int) -> list[float]:
    """Milliseconds that rclpy and Fast DDS need for the messages of one frame, for each of `frames`."""
    frame = Camera(1, 8.0).read(1.0)
    assert frame is not None
    fit = Fit("stretch", SIZE, engine.manifest.size)
    view = sink.profile.view(frame, engine.infer(fit.apply(frame.image)), fit)
    messages = [(output, encode(output, view, sink.profile, header_of(view))) for output in outputs]
    spent = []
    for _ in range(frames):
        time.sleep(0.12)
        began_ns = time.monotonic_ns()
        for output, message in messages:
            sink._publishers[output].publish(message)
        spent.append((time.monotonic_ns() - began_ns) / 1e6)
    return spent


def overhead(rounds: int, frames: int, backend: str, threads: int | None) -> dict[str, object]:
    """p50 and p99 per set of outputs, over all rounds, and what the receivers accepted."""
    profile = load_profile("default")
    everything = tuple(name for name in profile.outputs if name not in ("imu", "points"))
    sets = {
        "all outputs": everything,
        "all outputs and points": (*everything, "points"),
        "depth and labels": DEPTH_AND_LABELS,
    }
    spent: dict[str, list[float]] = {name: [] for name in sets}
    share: dict[str, list[float]] = {name: [] for name in sets}
    floor: dict[str, list[float]] = {name: [] for name in sets}
    with (
        open_engine(ENGINE, backend, threads=threads) as engine,
        RosSession("m2h") as session,
        tempfile.TemporaryDirectory() as scratch,
    ):
        for turn in range(rounds):
            for name, outputs in sets.items():
                sink = Measured(session.node, profile)
                reader = Reader(sink, outputs, Path(scratch))
                Pipeline(Camera(frames + WARM_UP, 8.0), engine, [sink]).run()
                result = reader.result()
                spent[name] += sink.overhead_ms[WARM_UP:]
                share[name].append(len(result["accepted"]) / len(sink.overhead_ms))
                sink = Measured(session.node, profile)
                reader = Reader(sink, outputs, Path(scratch))
                floor[name] += bare(sink, engine, outputs, frames + WARM_UP)[WARM_UP:]
                sink.abort()
                reader.process.wait(60)
                print(
                    f"round {turn + 1}, {name}: p50 {median(spent[name]):.2f} ms, bare "
                    f"{median(floor[name]):.2f} ms, accepted {100 * share[name][-1]:.1f} %",
                    flush=True,
                )
        choice = engine.choice
    return {
        "engine": ENGINE.name,
        "backend": choice,
        "size": list(SIZE),
        "frames_per_set": rounds * frames,
        "sets": {
            name: {
                "outputs": list(sets[name]),
                "p50_ms": round(float(np.percentile(values, 50)), 2),
                "p95_ms": round(float(np.percentile(values, 95)), 2),
                "p99_ms": round(float(np.percentile(values, 99)), 2),
                "max_ms": round(max(values), 2),
                "accepted_share": round(min(share[name]), 4),
                "bare_p50_ms": round(median(floor[name]), 2),
            }
            for name, values in spent.items()
        },
    }


def play(topic: str, hz: float, seconds: float) -> None:
    """The camera's process: publishes images at `hz` with stamps of now."""
    import array

    import rclpy
    from sensor_msgs.msg import Image

    rclpy.init(args=[])
    node = rclpy.create_node("camera")
    publisher = node.create_publisher(
        Image, topic, 5
    )  # as drivers have it: reliable, Fast DDS's own transport
    data = [array.array("B", picture.tobytes()) for picture in pictures()]
    message = Image(height=SIZE[0], width=SIZE[1], encoding="rgb8", step=3 * SIZE[1])
    message.header.frame_id = "camera_optical_frame"
    begin = time.monotonic()
    count = 0
    while (due := begin + count / hz) < begin + seconds:
        time.sleep(max(0, due - time.monotonic()))
        message.header.stamp = node.get_clock().now().to_msg()
        message.data = data[count % len(data)]
        publisher.publish(message)
        count += 1
    print(count, flush=True)


def overload(minutes: float) -> dict[str, object]:
    """Ages per minute, drops and memory."""
    environ = {**os.environ}  # as it is before our transport profile is set
    with tempfile.TemporaryDirectory() as scratch, RosSession("m2h") as session:
        engine = open_engine(ENGINE, threads=1)
        slow(engine, 1 / ENGINE_HZ)
        sink = Measured(session.node, load_profile("default"))
        source = TopicSource(session.node, "/camera/color/image_raw")
        reader = Reader(sink, DEPTH_AND_LABELS, Path(scratch), idle_s=10)
        seconds = 60 * minutes
        arguments = ["play", "--topic", source.topic, "--seconds", str(seconds + 5)]
        camera = subprocess.Popen([sys.executable, __file__, *arguments], env=environ)
        pipeline = Pipeline(source, engine, [sink])
        memory: list[tuple[float, float]] = []
        ended = threading.Event()

        def watch() -> None:
            begin = time.monotonic()
            while not ended.wait(5):
                memory.append((time.monotonic() - begin, resident_mb()))
                if time.monotonic() - begin > seconds:
                    pipeline.stop()
                    return

        watcher = threading.Thread(target=watch)
        watcher.start()
        pipeline.run()
        ended.set()
        watcher.join()
        camera.wait(30)
        result = reader.result()
        source.close()
        engine.close()
    start_s = sink.ages[0][0]
    by_minute: dict[int, list[float]] = {}
    for at_s, age_ms in sink.ages:
        by_minute.setdefault(int((at_s - start_s) // 60), []).append(age_ms)
    ages = np.array([age for _, age in sink.ages])
    engine_ms = pipeline.latencies.summaries()["engine"].p50_ms
    settled = [mb for at_s, mb in memory if at_s >= 20]
    return {
        "engine": f"{ENGINE.name}, slowed down",
        "input_hz": OVERLOAD_HZ,
        "seconds": seconds,
        "captured": pipeline.counts.captured,
        "perceived": pipeline.counts.perceived,
        "replaced": pipeline.counts.replaced,
        "fps": round(pipeline.fps, 2),
        "engine_p50_ms": round(engine_ms, 2),
        "age_p50_ms": round(float(np.percentile(ages, 50)), 1),
        "age_p99_ms": round(float(np.percentile(ages, 99)), 1),
        "age_max_ms": round(float(ages.max()), 1),
        "age_p99_bound_ms": round(2 * engine_ms + 20, 1),
        "age_p50_by_minute_ms": [
            round(median(values), 1) for _, values in sorted(by_minute.items()) if len(values) > 100
        ],
        "accepted_share": round(len(result["accepted"]) / len(sink.ages), 4),
        "memory_growth_mb": round(median(settled[-5:]) - median(settled[:5]), 2) if settled else None,
        "memory_mb": [round(mb, 1) for _, mb in memory],
    }


def slow(engine: object, seconds: float) -> None:
    """Every inference takes at least so long."""
    infer = engine._infer  # type: ignore[attr-defined]

    def slowly(image: np.ndarray) -> object:
        begin = time.monotonic()
        outputs = infer(image)
        time.sleep(max(0.0, seconds - (time.monotonic() - begin)))
        return outputs

    engine._infer = slowly  # type: ignore[attr-defined]


def resident_mb() -> float:
    """Memory of this process."""
    line = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")
    )
    return int(line.split()[1]) / 1024


def main() -> None:
    """Measure one part and put it into the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=("overhead", "overload", "play"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--topic", default="/camera/color/image_raw")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--threads", type=int, help="of the engine")
    parser.add_argument("--name", help="of the result in the JSON (default: the part's)")
    parser.add_argument("--out", type=Path, help="JSON file; the other part in it is kept")
    args = parser.parse_args()
    cv2.setNumThreads(1)  # as m2h-run does
    keep_freed_memory()
    if args.part == "play":
        play(args.topic, OVERLOAD_HZ, args.seconds)
        return
    if args.part == "overhead":
        result = overhead(args.rounds, args.frames, args.backend, args.threads)
    else:
        result = overload(args.minutes)
    result["machine"] = facts()
    print(json.dumps({k: v for k, v in result.items() if k != "machine"}, indent=1))
    if args.out is not None:
        kept = json.loads(args.out.read_text()) if args.out.exists() else {}
        kept[args.name or args.part] = result
        args.out.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
