"""Runs shown in Rerun: files read back by Rerun's own reader, and a server with Rerun's own client."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from stand_ins import LiveScript, NumpyEngine, Script, observation
from tiny_engine import LABELS, SIZE, picture, twin

from m2h_runtime.calibration.camera import CameraModel
from m2h_runtime.calibration.fit import Fit
from m2h_runtime.engine.manifest import read_manifest
from m2h_runtime.errors import InputError, SinkError
from m2h_runtime.frame import Frame
from m2h_runtime.pipeline import Health, Level, Pipeline
from m2h_runtime.ros.messages import colored_points
from m2h_runtime.sinks import rerun_scene as scene
from m2h_runtime.sinks import rerun_sink
from m2h_runtime.sinks.rerun_sink import (
    Address,
    RerunFileSink,
    RerunServerSink,
    check_rerun,
    rerun_target,
)
from m2h_runtime.view import View

if TYPE_CHECKING:
    from collections.abc import Iterator

    from m2h_runtime.engine.manifest import Manifest
    from m2h_runtime.sinks import Observation

rerun = pytest.importorskip("rerun", reason="needs rerun-sdk: pip install '.[rerun]'")

START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 100_000_000
CAMERA = CameraModel(96, 64, 80, 80, 47.5, 31.5)
PICTURES = {f"/{scene.PIXELS}/{name}" for name in scene.PICTURES}


@pytest.fixture
def manifest(tiny_engine: Path) -> Manifest:
    return read_manifest(tiny_engine)


@pytest.fixture
def health() -> Health:
    return Health()


class Walk(Script):
    """The tiny engine's pictures from a camera that is known and moves along x."""

    def read(self, timeout_s: float) -> Frame | None:
        frame = super().read(timeout_s)
        return frame and walked(frame.sequence)


def walked(index: int, **facts: Any) -> Frame:
    pose = np.eye(4)
    pose[:3, :3], pose[0, 3] = cv2.Rodrigues(np.array([0.0, 0.1, 0.0]))[0], index
    stamp_ns = START_NS + index * PERIOD_NS
    known = {"camera": CAMERA, "world_from_camera": pose} | facts
    return Frame(picture(index), stamp_ns, index, **known)


def viewed(index: int) -> View:
    frame = walked(index)
    return View(frame, twin(frame.image), Fit("stretch", SIZE, SIZE), SIZE)


def written(sink: RerunFileSink, *observations: Observation) -> Path:
    for each in observations:
        sink.write(each)
    sink.close()
    return sink._path


class Recording:
    """What Rerun's reader finds in a file: rows of one component by entity, in the order of the frames."""

    def __init__(self, path: Path) -> None:
        from rerun.chunk import RrdReader

        reader = RrdReader(path)
        self.blueprints = reader.blueprints()
        self.chunks = [(chunk, chunk.to_record_batch()) for chunk in reader.stream()]
        self.entities = {chunk.entity_path for chunk, _ in self.chunks}

    def rows(self, entity: str, component: str) -> list[Any]:
        """Values, one a row, sorted by frame; static ones as they come."""
        found: list[tuple[int, Any]] = []
        for chunk, batch in self.chunks:
            if chunk.entity_path == f"/{entity}" and component in batch.schema.names:
                values = batch.column(component).to_pylist()
                frames = [0] * len(values) if chunk.is_static else batch.column(scene.FRAME).to_pylist()
                found += [pair for pair in zip(frames, values, strict=True) if pair[1] is not None]
        return [value for _, value in sorted(found, key=lambda pair: pair[0])]

    def stamps(self, entity: str) -> list[int]:
        columns = [
            batch.column(scene.STAMP) for chunk, batch in self.chunks if chunk.entity_path == f"/{entity}"
        ]
        return sorted(value.value for column in columns for value in column)


def test_a_run_is_read_back_frame_by_frame(tmp_path: Path, tiny_engine: Path, health: Health) -> None:
    engine = NumpyEngine(tiny_engine)
    sink = RerunFileSink(tmp_path / "run.rrd", engine.manifest, "numpy", health)
    pipeline = Pipeline(Walk(40), engine, [sink], health=health)
    pipeline.run()
    read = Recording(tmp_path / "run.rrd")
    assert pipeline.counts.written == {"rerun": 40}
    figures = {f"/{name}" for name in (scene.LATENCY, scene.FPS, scene.LEVEL)}
    assert read.entities >= PICTURES | figures | {f"/{scene.CAMERA}", f"/{scene.PIXELS}", f"/{scene.POINTS}"}
    assert read.stamps(scene.POINTS) == [START_NS + index * PERIOD_NS for index in range(40)]
    assert len(read.rows(f"{scene.PIXELS}/edges", "EncodedImage:blob")) == 40
    assert read.blueprints
    assert [path.name for path in tmp_path.iterdir()] == ["run.rrd"]


def test_depth_is_millimetres_and_labels_have_their_names(
    tmp_path: Path, manifest: Manifest, health: Health
) -> None:
    sink = RerunFileSink(tmp_path / "run.rrd", manifest, "numpy", health)
    read = Recording(written(sink, observation(walked(0)), observation(walked(1), depth_factor=2.0)))
    view = viewed(1)
    blob = read.rows(f"{scene.PIXELS}/depth", "EncodedDepthImage:blob")[1][0]
    depth = cv2.imdecode(np.frombuffer(bytes(blob), np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.abs(depth / 1000 - 2 * view.depth).max() < 0.00051
    assert read.rows(f"{scene.PIXELS}/depth", "EncodedDepthImage:meter") == [[1000.0]] * 2
    (buffer,) = read.rows(f"{scene.PIXELS}/semantics", "SegmentationImage:buffer")[1]
    assert bytes(buffer) == view.semantics.tobytes()
    (context,) = read.rows(f"{scene.PIXELS}/semantics", "AnnotationContext:context")
    names = [entry["class_description"]["info"]["label"] for entry in context[0]]
    assert names == list(LABELS.classes)


def test_the_cloud_is_that_of_the_topics(tmp_path: Path, manifest: Manifest, health: Health) -> None:
    sink = RerunFileSink(tmp_path / "run.rrd", manifest, "numpy", health)
    read = Recording(written(sink, observation(walked(1))))
    points = np.array(read.rows(scene.POINTS, "Points3D:positions")[0])
    colors = np.array(read.rows(scene.POINTS, "Points3D:colors")[0])
    view = viewed(1)
    assert np.array_equal(points, colored_points(view)[:, :3])
    red, green, blue = view.rgb.reshape(-1, 3).astype(np.uint32).T
    assert np.array_equal(colors, red << 24 | green << 16 | blue << 8 | 255)
    (matrix,) = read.rows(scene.PIXELS, "Pinhole:image_from_camera")[0]
    assert np.allclose(np.array(matrix).reshape(3, 3).T, CAMERA.matrix)
    (place,) = read.rows(scene.CAMERA, "Transform3D:translation")[0]
    (turn,) = read.rows(scene.CAMERA, "Transform3D:mat3x3")[0]
    pose = walked(1).world_from_camera
    assert pose is not None
    assert np.allclose(place, pose[:3, 3]) and np.allclose(np.array(turn).reshape(3, 3).T, pose[:3, :3])


def test_a_dense_cloud_is_thinned_out_evenly() -> None:
    points = np.arange(400_000, dtype=np.float32).reshape(-1, 4)
    kept, colors = scene.thinned(points, 1000)
    assert kept.shape == (1000, 3) and colors.shape == (1000,)
    gaps = np.diff(kept[:, 0] / 4)
    assert kept[0, 0] == 0 and kept[-1, 0] == points[-1, 0] and {*gaps} <= {100, 101}


def test_pictures_have_the_cameras_shape_and_the_engines_resolution() -> None:
    assert scene.shown_size(Fit("stretch", (480, 640), (224, 224))) == (224, 299)
    assert scene.shown_size(Fit("letterbox", (480, 640), (224, 224))) == (168, 224)
    assert scene.shown_size(Fit("crop", (480, 640), (224, 224))) == (224, 299)
    assert scene.shown_size(Fit("stretch", (120, 160), (224, 224))) == (120, 160)


def test_no_depth_is_zero_and_so_is_depth_that_16_bits_cannot_hold() -> None:
    assert scene.millimetres(np.array([[0.0, 0.0006, 1.2344, 65.5, 65.6]], np.float32)).tolist() == [
        [0, 1, 1234, 65500, 0]
    ]


def test_without_intrinsics_or_pose_the_rest_is_shown_and_said_once(
    tmp_path: Path, manifest: Manifest, health: Health, caplog: pytest.LogCaptureFixture
) -> None:
    sink = RerunFileSink(tmp_path / "run.rrd", manifest, "numpy", health)
    frames = [walked(index, camera=None, world_from_camera=None) for index in range(3)]
    read = Recording(written(sink, *map(observation, frames)))
    assert read.entities >= PICTURES and not {f"/{scene.POINTS}", f"/{scene.CAMERA}"} & read.entities
    assert [record.message for record in caplog.records] == [
        "Rerun shows no points, as the camera's intrinsics are unknown; give --calibration"
    ]


def test_a_pose_that_is_no_longer_known_is_said_once(
    tmp_path: Path, manifest: Manifest, health: Health, caplog: pytest.LogCaptureFixture
) -> None:
    sink = RerunFileSink(tmp_path / "run.rrd", manifest, "numpy", health)
    frames = [walked(0), *(walked(index, world_from_camera=None) for index in (1, 2)), walked(3)]
    read = Recording(written(sink, *map(observation, frames)))
    assert [place[0][0] for place in read.rows(scene.CAMERA, "Transform3D:translation")] == [0, 3]
    assert [record.message for record in caplog.records] == [
        "the source knows the camera's pose no more; Rerun shows it where it was last"
    ]


def test_figures_and_changes_of_the_health_are_there(
    tmp_path: Path, manifest: Manifest, health: Health
) -> None:
    sink = RerunFileSink(tmp_path / "run.rrd", manifest, "numpy", health)
    first, second = (observation(walked(index), fps=10.0 + index) for index in range(2))
    stages = {"engine": 2_000_000, "queue": 500_000}
    sink.write(replace(first, perception=first.perception.stamped(first.frame, stages)))
    health.report("imu", Level.DEGRADED, "no samples")
    sink.write(replace(second, perception=second.perception.stamped(second.frame, stages)))
    sink.close()
    health.ok("imu")  # outlives the recording
    read = Recording(tmp_path / "run.rrd")
    assert read.rows(scene.LATENCY, "Scalars:scalars") == [[2.0, 0.5]] * 2
    assert read.rows(scene.LATENCY, "SeriesLines:names") == [["engine", "queue"]]
    assert read.rows(scene.FPS, "Scalars:scalars") == [[10.0], [11.0]]
    assert read.rows(scene.LEVEL, "Scalars:scalars") == [[0.0], [1.0]]
    texts = [batch for chunk, batch in read.chunks if chunk.entity_path == f"/{scene.CHANGES}"]
    assert [text.column("TextLog:text").to_pylist() for text in texts] == [[["imu degraded: no samples"]]]
    assert [text.column("TextLog:level").to_pylist() for text in texts] == [[["WARN"]]]


def test_stamps_of_a_video_count_from_its_start(tmp_path: Path, manifest: Manifest, health: Health) -> None:
    sink = RerunFileSink(tmp_path / "run.rrd", manifest, "numpy", health)
    frames = [Frame(picture(index), 40_000_000 * index, index) for index in range(2)]
    read = Recording(written(sink, *map(observation, frames)))
    assert read.stamps(scene.FPS) == [0, 40_000_000]


def test_nobody_sees_half_a_recording(tmp_path: Path, manifest: Manifest, health: Health) -> None:
    path = tmp_path / "run.rrd"
    path.write_bytes(b"the one before")
    sink = RerunFileSink(path, manifest, "numpy", health)
    sink.write(observation(walked(0)))
    assert path.read_bytes() == b"the one before"
    sink.abort()
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == b"the one before"
    written(RerunFileSink(path, manifest, "numpy", health), observation(walked(0)))
    assert list(tmp_path.iterdir()) == [path] and path.stat().st_mode & 0o777 == 0o644


def test_a_run_without_frames_leaves_no_file(tmp_path: Path, manifest: Manifest, health: Health) -> None:
    RerunFileSink(tmp_path / "run.rrd", manifest, "numpy", health).close()
    RerunFileSink(tmp_path / "run.rrd", manifest, "numpy", health).abort()
    assert not list(tmp_path.iterdir())


FULL = """
import resource, signal, sys
from pathlib import Path
import numpy as np
sys.path.insert(0, {tests!r})
from stand_ins import observation
from tiny_engine import picture
from m2h_runtime.calibration.camera import CameraModel
from m2h_runtime.engine.manifest import read_manifest
from m2h_runtime.frame import Frame
from m2h_runtime.pipeline import Health
from m2h_runtime.sinks import rerun_sink
rerun_sink.FLUSH_S = 0.5
camera = CameraModel(96, 64, 80, 80, 47.5, 31.5)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
sink = rerun_sink.RerunFileSink(Path({path!r}), read_manifest(Path({engine!r})), "numpy", Health())
try:
    for index in range({frames}):
        sink.write(observation(Frame(picture(index), index, index, camera=camera)))
    sink.close()
except Exception as error:
    sink.abort()
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(("limit", "frames"), [(300_000, 200), (20_000, 3)], ids=["midway", "at the end"])
def test_a_file_that_cannot_grow_is_one_line_and_leaves_nothing(
    tmp_path: Path, tiny_engine: Path, limit: int, frames: int
) -> None:
    tests = str(Path(__file__).parents[1])
    path = str(tmp_path / "run.rrd")
    code = FULL.format(tests=tests, limit=limit, path=path, engine=str(tiny_engine), frames=frames)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    expected = f"SinkError {path}: the recording cannot be written (file too large); free some space or choose another"
    assert (done.stdout.strip(), done.stderr) == (expected, "")
    assert not list(tmp_path.iterdir())


def test_targets_are_files_or_addresses() -> None:
    assert rerun_target("out/run.rrd") == Path("out/run.rrd")
    assert rerun_target("9876") == Address("127.0.0.1", 9876)
    assert rerun_target("0.0.0.0:9877").url == "rerun+http://127.0.0.1:9877/proxy"
    for wrong in ("run.mcap", "0", "70000", "host:", ":9876", "rerun+http://host:9876/proxy"):
        with pytest.raises(InputError, match=r"give FILE\.rrd, or the PORT or HOST:PORT"):
            rerun_target(wrong)


def test_wrong_places_are_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="cannot be written"):
        check_rerun(str(tmp_path / "nowhere" / "run.rrd"))
    with pytest.raises(InputError, match=r"no\.such\.host\.invalid:9876: no such host"):
        check_rerun("no.such.host.invalid:9876")
    with pytest.raises(SinkError, match=r"192\.0\.2\.1:9876: cannot be listened at"):
        check_rerun("192.0.2.1:9876")
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(SinkError, match="address already in use"),
    ):
        check_rerun(str(taken.getsockname()[1]))


def test_a_missing_library_names_the_extra(
    tmp_path: Path, manifest: Manifest, health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(InputError, match=r"rerun: is not installed, and --rerun needs it; .*\[rerun\]"):
        RerunFileSink(tmp_path / "run.rrd", manifest, "numpy", health)


# Live


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def client(url: str, path: Path, home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Rerun's own program, which receives what a server sends and saves it."""
    import rerun_cli

    program = (
        Path(rerun_cli.__file__).parent / "rerun"
    )  # the module beside it is a launcher, which signals miss
    command = [str(program), url, "--port", str(free_port()), "--save", str(path)]
    environment = {**os.environ, "HOME": str(home), "RUST_LOG": "off"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def until(true: Any, patience_s: float = 10.0) -> None:
    ends_s = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < ends_s
        time.sleep(0.02)


@pytest.mark.filterwarnings("ignore:RRD file has no footer")  # the client was interrupted
def test_a_viewer_that_comes_late_gets_the_run(tmp_path: Path, manifest: Manifest, health: Health) -> None:
    sink = RerunServerSink(Address("127.0.0.1", free_port()), manifest, "numpy", health)
    for index in range(5):
        sink.write(observation(walked(index)))
    got = tmp_path / "got.rrd"
    with client(sink.address.url, got, tmp_path) as viewer:
        until(lambda: got.exists() and got.stat().st_size > 200_000)
        for index in range(5, 10):
            sink.write(observation(walked(index)))
        sink.close()
        viewer.send_signal(signal.SIGINT)
        viewer.wait(10)
    read = Recording(got)
    assert read.stamps(scene.POINTS) == [START_NS + index * PERIOD_NS for index in range(10)]
    assert len(read.rows(f"{scene.PIXELS}/semantics", "AnnotationContext:context")) == 1


def test_the_port_is_free_again_after_a_run(manifest: Manifest, health: Health) -> None:
    address = Address("localhost", free_port())
    for end in (RerunServerSink.close, RerunServerSink.abort):
        sink = RerunServerSink(address, manifest, "numpy", health)
        with pytest.raises(SinkError, match="address already in use"):
            RerunServerSink(address, manifest, "numpy", health)
        sink.write(observation(walked(0)))
        end(sink)


@contextmanager
def hung_viewer(sink: RerunServerSink, folder: Path) -> Iterator[Observation]:
    """A viewer that took something and then stopped; yields what was sent, until the sink noticed."""
    large = Frame(np.random.default_rng(0).integers(0, 255, (900, 1200, 3), np.uint8), START_NS, 0)
    big = observation(large, twin(large.image))
    got = folder / "got.rrd"
    with client(sink.address.url, got, folder) as viewer:
        sink.write(big)
        until(lambda: got.exists() and got.stat().st_size > 100_000)
        viewer.send_signal(signal.SIGSTOP)
        for _ in range(200):
            if not sink._sent():
                break
            sink.write(big)
        yield big


def test_a_viewer_that_hangs_costs_frames_and_is_told(
    tmp_path: Path, manifest: Manifest, health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rerun_sink, "PATIENCE_S", 0.05)
    sink = RerunServerSink(Address("127.0.0.1", free_port()), manifest, "numpy", health)
    with hung_viewer(sink, tmp_path) as big:
        assert "viewer: a Rerun viewer does not keep up" in health.worst().text
        began_s = time.monotonic()
        sink.write(big)
        assert time.monotonic() - began_s < 1  # left out
    until(lambda: sink._sent())  # it is gone
    assert health.worst().level is Level.OK
    sink.abort()


def test_a_viewer_that_hangs_does_not_hold_up_the_end(
    tmp_path: Path, manifest: Manifest, health: Health
) -> None:
    sink = RerunServerSink(Address("127.0.0.1", free_port()), manifest, "numpy", health)
    with hung_viewer(sink, tmp_path):
        began_s = time.monotonic()
        sink.close()
        assert time.monotonic() - began_s < 1


def test_live_and_recorded_runs_are_never_held_up(tiny_engine: Path, health: Health) -> None:
    for source in (Walk(60), LiveScript(60)):
        engine = NumpyEngine(tiny_engine)
        sink = RerunServerSink(Address("127.0.0.1", free_port()), engine.manifest, "numpy", health)
        pipeline = Pipeline(source, engine, [sink], health=health)
        began_s = time.monotonic()
        pipeline.run()
        assert time.monotonic() - began_s < 20  # two seconds, and what a busy machine needs
        counts = pipeline.counts
        assert 0 < counts.written["rerun"] <= counts.perceived
        assert counts.captured == 60
