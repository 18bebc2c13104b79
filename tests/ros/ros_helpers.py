"""What the ROS tests share: a receiver in another process, frames, and a camera that delivers them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tiny_engine import picture

from m2h_runtime.calibration.camera import CameraModel
from m2h_runtime.calibration.fit import Fit
from m2h_runtime.frame import Frame
from m2h_runtime.sinks.base import Observation
from m2h_runtime.sources.base import EndOfStream, Source

if TYPE_CHECKING:
    from collections.abc import Callable

    from m2h_runtime.engine.base import Engine
    from m2h_runtime.ros.outputs import RosSink

RECEIVER = Path(__file__).with_name("receiver.py")
SIZE = (120, 160)
CAMERA = CameraModel(160, 120, 140.0, 141.0, 79.5, 59.5)
TRANSPORT_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")


class Receiver:
    """`receiver.py` as a process of its own, with a plain environment."""

    def __init__(
        self, sink: RosSink, outputs: list[str], folder: Path, *options: str, classes: int = 41
    ) -> None:
        topics = {name: [sink.topics[name], sink.profile.outputs[name].encoding] for name in outputs}
        self._result = folder / f"receiver_{time.monotonic_ns()}.json"
        expected = json.dumps({"topics": topics, "classes": classes})
        environ = {name: value for name, value in os.environ.items() if name not in TRANSPORT_VARIABLES}
        self.process = subprocess.Popen(
            [sys.executable, RECEIVER, expected, "--json", self._result, *options],
            env=environ,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"
        wait_for(lambda: set(outputs) <= set(sink.subscribed()))

    def result(self, timeout_s: float = 30.0) -> dict[str, Any]:
        """What it received, once it has ended by itself."""
        self.process.wait(timeout_s)
        result: dict[str, Any] = json.loads(self._result.read_text())
        return result


def wait_for(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Until `condition` holds."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def make_frame(sequence: int, size: tuple[int, int] = SIZE, camera: CameraModel | None = CAMERA) -> Frame:
    """`picture(sequence)` with a stamp that counts in steps of 0.1 s."""
    return Frame(
        picture(sequence % 7, size),
        1_700_000_000_000_000_123 + sequence * 100_000_000,
        sequence,
        "cam_optical_frame",
        taken_ns=time.monotonic_ns(),
        camera=camera,
    )


class SteadyCamera(Source):
    """So many frames of `make_frame`, one each `period_s`."""

    live = True

    def __init__(self, count: int, period_s: float = 0.1, **frame: Any) -> None:
        super().__init__()
        self._count, self._period_s, self._frame = count, period_s, frame
        self._sequence = 0
        self._due = time.monotonic()

    def read(self, timeout_s: float) -> Frame | None:
        if self._sequence == self._count:
            raise EndOfStream
        self._due += self._period_s
        time.sleep(max(0.0, self._due - time.monotonic()))
        self._sequence += 1
        return make_frame(self._sequence - 1, **self._frame)

    def describe(self) -> str:
        return "steady camera"


def pixels(message: Any) -> Any:
    """The array of a sensor_msgs/Image, whoever decoded it."""
    dtypes = {"32FC1": np.float32, "32FC3": np.float32, "16UC1": np.uint16, "16SC1": np.int16}
    array = np.frombuffer(bytes(message.data), dtypes.get(message.encoding, np.uint8))
    channels = 3 if message.encoding in ("rgb8", "32FC3") else 1
    shape = (message.height, message.width) if channels == 1 else (message.height, message.width, channels)
    return array.reshape(shape)


def observed(engine: Engine, frame: Frame) -> Observation:
    """What the engine says about `frame`, as the pipeline hands it out."""
    fit = Fit("stretch", frame.image.shape[:2], engine.manifest.size)
    perception = engine.infer(fit.apply(frame.image)).stamped(frame)
    return Observation(frame, perception, 10.0, fit, 1.0, frame)
