"""Two processes that talk over DDS, apart from whatever else runs on this machine."""

from __future__ import annotations

import itertools
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tiny_engine import make_tiny_engine

from m2h_runtime import open_engine
from m2h_runtime.engine.manifest import read_manifest
from m2h_runtime.label_space import load_label_space
from m2h_runtime.ros.session import RosSession

sys.path.append(
    str(Path(__file__).parent)
)  # for ros_helpers, at the end: `import conftest` means the one above
sys.path.append(str(Path(__file__).parents[1] / "scene_graph"))  # for house
sys.path.append(str(Path(__file__).parents[1] / "mapping"))  # for shapes
from ros_helpers import TRANSPORT_VARIABLES, Receiver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from m2h_runtime.engine.base import Engine
    from m2h_runtime.ros.outputs import RosSink

_DOMAINS = itertools.count(os.getpid() % 90)


@pytest.fixture
def ros_domain(monkeypatch: pytest.MonkeyPatch) -> int:
    """A ROS domain of this test's own, on this machine only; child processes inherit it."""
    pytest.importorskip("rclpy", reason="needs ROS 2: source its setup.bash, or pip install ros-rclpy")
    domain = 1 + next(_DOMAINS) % 100
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    for name in TRANSPORT_VARIABLES:  # also undoes what a session sets
        monkeypatch.setenv(name, "")
    return domain


@pytest.fixture
def session(ros_domain: int) -> Iterator[RosSession]:
    """A node "m2h" that is served."""
    with RosSession("m2h") as opened:
        yield opened


@pytest.fixture(scope="session")
def nyu_engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny engine with the 41 classes of NYUDv2, which every profile has a table for."""
    folder = make_tiny_engine(tmp_path_factory.mktemp("engines") / "nyu")
    replace(read_manifest(folder), label_space=load_label_space("nyudv2_40")).write(folder)
    return folder


@pytest.fixture(scope="session")
def engine(nyu_engine: Path) -> Iterator[Engine]:
    """`nyu_engine`, opened."""
    opened = open_engine(nyu_engine)
    yield opened
    opened.close()


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Callable[..., Receiver]]:
    """Starts receivers of a sink's topics, ready to receive; ends those that are still there."""
    started: list[Receiver] = []

    def start(sink: RosSink, outputs: list[str], *options: str, **more: Any) -> Receiver:
        started.append(Receiver(sink, outputs, tmp_path, *options, **more))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()
