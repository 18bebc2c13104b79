"""The scene graph's node as a process: another one sends it depth, labels and odometry, and hears what it says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from house import TABLE_BOX, walk
from ros_helpers import TRANSPORT_VARIABLES, wait_for

from m2h_runtime.odometry.estimate import Estimate
from m2h_runtime.ros import cdr, graph_node
from m2h_runtime.ros.endpoints import latched, message_class, reliable
from m2h_runtime.ros.graph_markers import MARKER, MARKERS
from m2h_runtime.ros.messages import CAMERA_INFO, IMAGE, ODOMETRY
from m2h_runtime.ros.odometry import TF_TYPE, odometry
from m2h_runtime.ros.profiles import load_profile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from m2h_runtime.ros.session import RosSession
    from m2h_runtime.scene_graph.sightings import Sighting

for _library in ("skimage", "scipy", "spark_dsg", "visualization_msgs"):
    pytest.importorskip(_library, reason="needs the extras graph and ros")

PROFILE = load_profile("mono_hydra_itc")
ODOM, OPTICAL = "/odom", "left_cam_kimera"
START_NS = 1_700_000_000_000_000_000
STEP_NS = 100_000_000
ROOT = Path(__file__).resolve().parents[2]
OK, WARN, ERROR = b"\x00", b"\x01", b"\x02"


class GraphProcess:
    """The node's process, and what another node hears of it."""

    def __init__(self, session: RosSession, log: Path, parameters: dict[str, Any]) -> None:
        words = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
        clean = {name: value for name, value in os.environ.items() if name not in TRANSPORT_VARIABLES}
        self._log = log
        self._node = session.node
        with log.open("w") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "m2h_runtime.ros.graph_node", "--ros-args", *words],
                env={**clean, "PYTHONPATH": str(ROOT)},
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        self._health: list[Any] = []
        kind = message_class("diagnostic_msgs/msg/DiagnosticArray")
        self._node.create_subscription(kind, "/diagnostics", self._health.append, 10)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def said(self, part: str = "graph") -> Any:
        """The latest status of one part; None before the first."""
        entries = self._health[-1].status if self._health else []
        return next((entry for entry in entries if entry.name == f"m2h: {part}"), None)

    def figures(self) -> dict[str, str]:
        return {value.key: value.value for value in self.said().values} if self.said() else {}

    def count(self, name: str) -> int:
        return int(self.figures().get(name, 0))

    def hear(self, kind: str, topic: str) -> list[Any]:
        """The messages of one of its topics, the last one from before included."""
        heard: list[Any] = []
        self._node.create_subscription(message_class(kind), f"/m2h_graph/{topic}", heard.append, latched(1))
        return heard

    def end(self, number: int) -> tuple[int, float]:
        """Exit code and seconds until it was there."""
        before = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(15)
        return code, time.monotonic() - before


class Walk:
    """A walk through one room of the house, as Mono-Hydra's perception and odometry would tell it."""

    def __init__(self, session: RosSession) -> None:
        node = session.node
        kinds = {"depth": IMAGE, "labels": IMAGE, "rgb": IMAGE, "camera_info": CAMERA_INFO}
        self._publishers = {
            output: node.create_publisher(message_class(kind), PROFILE.outputs[output].topic, reliable(10))
            for output, kind in kinds.items()
            if output != "rgb"
        }
        self._odometry = node.create_publisher(message_class(ODOMETRY), ODOM, reliable(50))
        self._stamp_ns = START_NS
        self._sightings: Iterator[Sighting] = walk(-1.4)

    def wait_for_reader(self) -> None:
        for publisher in (*self._publishers.values(), self._odometry):
            wait_for(publisher.get_subscription_count)

    def send(
        self,
        *,
        placed: bool = True,
        lost: bool = False,
        label_rows: int | None = None,
        label: int | None = None,
    ) -> None:
        """The next image's messages, 0.5 ms apart as those of Mono-Hydra; the walk begins again at its end."""
        try:
            sighting = next(self._sightings)
        except StopIteration:
            self._sightings = walk(-1.4)
            sighting = next(self._sightings)
        self._stamp_ns += STEP_NS
        labels = sighting.labels[:label_rows] if label is None else np.full_like(sighting.labels, label)
        header, late = (self._stamp_ns, OPTICAL), (self._stamp_ns + 500_000, OPTICAL)
        self._publishers["camera_info"].publish(cdr.camera_info(late, sighting.camera))
        self._publishers["depth"].publish(cdr.image(header, sighting.depth, "32FC1"))
        self._publishers["labels"].publish(cdr.image(late, np.ascontiguousarray(labels), "mono8"))
        if placed:
            pose = sighting.world_from_camera.copy()
            state = "lost" if lost else "tracking"
            told = Estimate(self._stamp_ns, OPTICAL, pose, np.eye(6), 0.9, state)
            self._odometry.publish(odometry(told))

    def go(self, until: Callable[[], object], timeout_s: float = 10.0, **how: Any) -> None:
        """Send until it has happened, 20 images a second."""
        end = time.monotonic() + timeout_s
        while not until():
            assert time.monotonic() < end, "it did not happen in time"
            self.send(**how)
            time.sleep(0.05)


@pytest.fixture
def start(session: RosSession, tmp_path: Path) -> Iterator[Callable[..., GraphProcess]]:
    """Starts nodes that read Mono-Hydra's topics; ends those that are still there."""
    nodes: list[GraphProcess] = []

    def make(**parameters: Any) -> GraphProcess:
        given = {"profile": PROFILE.name, "odometry_topic": ODOM, "period_s": 0.05, **parameters}
        nodes.append(GraphProcess(session, tmp_path / "node.log", given))
        return nodes[-1]

    yield make
    for node in nodes:
        node.process.kill()
        node.process.wait()


@pytest.fixture
def sender(session: RosSession) -> Walk:
    return Walk(session)


def shown(markers: list[Any]) -> list[str]:
    """The classes of the objects in the latest array."""
    latest = markers[-1].markers if markers else []
    return [one.text.partition(" ")[0] for one in latest if one.ns == "object names"]


def test_a_walk_becomes_markers_a_mesh_and_files_that_spark_dsg_reads(
    start: Callable[..., GraphProcess], sender: Walk, tmp_path: Path
) -> None:
    import spark_dsg

    out = tmp_path / "graph"
    node = start(out=out, update_s=0.5, save_s=2.0)
    markers = node.hear(MARKERS, "markers")
    sender.wait_for_reader()
    sender.go(lambda: node.count("mapped") >= 15 and node.said().level == OK, timeout_s=20.0)
    sender.go(lambda: "table" in shown(markers))
    wait_for(lambda: (out / "graph.json").is_file())  # while it runs
    array = markers[-1].markers
    names = shown(markers)
    assert {one.header.frame_id for one in array} == {"odom"}
    assert array[0].action == 3  # what was there before goes
    lines = next(one for one in array if one.ns == "objects").points
    boxes = np.array([(point.x, point.y, point.z) for point in lines]).reshape(len(names), 24, 3)
    table = boxes[names.index("table")]
    assert np.all((table > np.array(TABLE_BOX[0]) - 0.15) & (table < np.array(TABLE_BOX[1]) + 0.15))
    assert np.all(np.ptp(table, axis=0) > 0.1)
    mesh = node.hear(MARKER, "mesh")
    wait_for(lambda: mesh)  # who comes late gets it, too
    assert len(mesh[-1].points) == len(mesh[-1].colors) > 3000
    later = node.hear(MARKERS, "markers")
    wait_for(lambda: later)
    assert (node.count("unplaced"), node.count("unusable")) == (0, 0)
    assert float(node.figures()["seconds per update"]) > 0
    code, seconds = node.end(signal.SIGINT)
    assert code == 128 + signal.SIGINT
    assert seconds < 4
    assert {path.name for path in out.iterdir()} == {"graph.json", "mesh.ply", "graph.html", "graph.jpg"}
    graph = spark_dsg.DynamicSceneGraph.load(str(out / "graph.json"))
    objects = [one.attributes.name for one in graph.get_layer(spark_dsg.DsgLayers.OBJECTS).nodes]
    assert any(name.startswith("table") for name in objects)
    assert graph.get_layer(spark_dsg.DsgLayers.ROOMS).num_nodes() >= 1
    assert graph.mesh.num_faces() > 1000
    assert "there is no hydra_msgs, so nothing on ~/dsg" in node.log
    assert "Traceback" not in node.log


def test_what_hinders_it_is_on_diagnostics_and_passes(
    start: Callable[..., GraphProcess], sender: Walk, tmp_path: Path
) -> None:
    node = start()
    wait_for(lambda: node.said("inputs") is not None and "nothing comes" in node.said("inputs").message)
    assert node.said("inputs").level == ERROR
    sender.wait_for_reader()
    sender.go(lambda: node.count("unplaced") > 1, placed=False)
    assert (node.said("poses").level, node.said("inputs").level) == (ERROR, OK)
    assert "/odom: no odometry has come" in node.said("poses").message
    sender.go(lambda: "says that it is lost" in node.said("poses").message, lost=True)
    sender.go(lambda: node.said("outputs") is not None, label_rows=48)
    assert "depth is 128x96, labels are 128x48" in node.said("outputs").message
    sender.go(lambda: "id 40 is not in label space nyud20" in node.said("outputs").message, label=40)
    assert node.count("mapped") == 0
    sender.go(lambda: node.count("mapped") > 3 and node.said().level == OK)
    code, seconds = node.end(signal.SIGTERM)
    assert code == 128 + signal.SIGTERM
    assert seconds < 4
    assert "Traceback" not in node.log


def test_a_node_that_got_nothing_ends_soon_and_says_so(
    start: Callable[..., GraphProcess], tmp_path: Path
) -> None:
    node = start(out=tmp_path / "graph")
    wait_for(lambda: node.said() is not None)
    code, seconds = node.end(signal.SIGTERM)
    assert code == 128 + signal.SIGTERM
    assert seconds < 2
    assert "nothing was mapped, so there is no graph" in node.log
    assert not (tmp_path / "graph").exists()


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"label_space": "nyu"}, "no label space 'nyu'; there are nyud20, nyudv2_40, scannet20"),
        ({"odometri_topic": "x"}, "no parameter 'odometri_topic'; the nearest is 'odometry_topic'"),
        ({"period_s": 0.0}, "parameter period_s: 0 is not above 0"),
        ({"profile": "hidra"}, "no profile 'hidra'"),
        ({"out": __file__}, "is a file"),
        ({"image_topic": "/x"}, "no parameter 'image_topic'"),
    ],
)
def test_what_is_wrong_at_the_start_is_one_line_and_exit_code_2(
    ros_domain: int, capfd: pytest.CaptureFixture[str], parameters: dict[str, Any], text: str
) -> None:
    words = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    assert graph_node.main(["graph_node", "--ros-args", "-p", "odometry_topic:=/odom", *words]) == 2
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("m2h_graph: ")
    assert text in last


def test_without_tf_and_odometry_it_says_what_is_missing(
    ros_domain: int, capfd: pytest.CaptureFixture[str]
) -> None:
    try:
        message_class(TF_TYPE)
    except Exception:
        assert graph_node.main(["graph_node"]) == 2
        assert "tf2_msgs: cannot be imported, so there are no poses from /tf" in capfd.readouterr().err
    else:
        pytest.skip("tf2_msgs is installed here")
