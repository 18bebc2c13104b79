"""The ament package: colcon builds it, its node runs from the install folder, its files fit the node."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml
from ros_helpers import TRANSPORT_VARIABLES

from m2h_runtime import __version__
from m2h_runtime.ros.graph_settings import GraphSettings
from m2h_runtime.ros.parameters import read_all, read_settings
from m2h_runtime.ros.profiles import load_profile, profile_names
from m2h_runtime.ros.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "ros2_ws" / "src" / "m2h_ros"
LAUNCH_FILES = sorted((PACKAGE / "launch").iterdir(), key=lambda path: path.name)
NODE = "m2h_perception"
OF_THE_NODE = {"use_sim_time", "autostart"}


@pytest.fixture(scope="module")
def install(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The install folder of a build of a copy of the package."""
    here = Path(sys.executable).with_name("colcon")
    colcon = str(here) if here.exists() else shutil.which("colcon")
    if colcon is None:
        pytest.skip("needs colcon: pip install colcon-ros, here or in an environment on PATH")
    workspace = tmp_path_factory.mktemp("ros2_ws")
    shutil.copytree(PACKAGE, workspace / "src" / "m2h_ros")
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    built = subprocess.run(
        [colcon, "build"], cwd=workspace, env=environ, capture_output=True, text=True, check=False, timeout=60
    )
    assert built.returncode == 0, built.stdout + built.stderr
    assert "Finished <<< m2h_ros" in built.stdout
    return workspace / "install"


def run_installed(
    install: Path, *arguments: str, node: str = "perception_node"
) -> subprocess.CompletedProcess[str]:
    """The installed executable with the environment that `setup.sh` gives, by this Python, which has m2h_runtime."""
    environ = {name: value for name, value in os.environ.items() if name not in TRANSPORT_VARIABLES}
    executable = install / "m2h_ros" / "lib" / "m2h_ros" / node
    return subprocess.run(
        [
            "sh",
            "-c",
            '. "$0/setup.sh"; exec "$@"',
            install,
            sys.executable,
            executable,
            "--ros-args",
            *arguments,
        ],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_colcon_builds_it_and_installs_every_file(install: Path) -> None:
    share = install / "m2h_ros" / "share"
    assert (share / "ament_index" / "resource_index" / "packages" / "m2h_ros").is_file()
    for folder in ("launch", "config", "rviz"):
        assert {path.name for path in (share / "m2h_ros" / folder).iterdir()} == {
            path.name for path in (PACKAGE / folder).iterdir() if path.is_file()
        }


def test_the_installed_node_runs(install: Path, ros_domain: int, nyu_engine: Path, video: Path) -> None:
    parameters = install / "m2h_ros" / "share" / "m2h_ros" / "config" / "default.yaml"
    given = {"engine": nyu_engine, "backend": "onnxruntime-cpu", "source": f"video:{video}"}
    words = [word for name, value in given.items() for word in ("-p", f"{name}:={value}")]
    done = run_installed(install, "--params-file", str(parameters), *words)
    assert done.returncode == 0, done.stderr
    assert "streaming: video" in done.stdout + done.stderr


def test_the_installed_graph_node_runs(install: Path, ros_domain: int) -> None:
    pytest.importorskip("spark_dsg", reason="needs the extra graph")
    parameters = install / "m2h_ros" / "share" / "m2h_ros" / "config" / "graph.yaml"
    words = ["-p", "odometry_topic:=/odom", "-p", "label_space:=elsewhere"]
    done = run_installed(install, "--params-file", str(parameters), *words, node="graph_node")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("m2h_graph: no label space 'elsewhere'; there are ")


@pytest.mark.parametrize("node", ["perception_node", "graph_node"])
def test_the_installed_node_says_in_one_line_that_m2h_runtime_is_missing(
    install: Path, tmp_path: Path, node: str
) -> None:
    (tmp_path / "m2h_runtime.py").write_text("raise ImportError(\"No module named 'm2h_runtime'\")")
    site = next((install / "m2h_ros" / "lib").glob("python3*/site-packages"))
    done = subprocess.run(
        [sys.executable, "-m", f"m2h_ros.{node}"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{site}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"{node}: No module named 'm2h_runtime' (Python: ")
    assert done.stderr.count("\n") == 1


def test_versions_and_names_agree() -> None:
    package = ET.parse(PACKAGE / "package.xml").getroot()  # noqa: S314  # our own file
    assert package.get("format") == "3"
    assert (package.findtext("name"), package.findtext("version")) == ("m2h_ros", __version__)
    assert package.findtext("export/build_type") == "ament_python"
    assert f'version="{__version__}"' in (PACKAGE / "setup.py").read_text()


@pytest.mark.parametrize("name", profile_names())
def test_each_profile_has_a_parameter_file_that_the_node_accepts(name: str) -> None:
    raw = yaml.safe_load((PACKAGE / "config" / f"{name}.yaml").read_text())
    settings, notes = read_settings(raw["/**"]["ros__parameters"])
    assert settings.profile == name
    assert notes == []
    profile = load_profile(name)
    tailored = settings.tailored(profile)
    assert tailored == profile
    assert settings.image_topic in ("", profile.image_topic)
    assert settings.camera_info_topic in ("", profile.camera_info_topic)


def test_rviz_shows_topics_of_the_default_profile() -> None:
    shown = topics_shown("m2h.rviz")
    published = {output.topic.replace("~", f"/{NODE}") for output in load_profile("default").outputs.values()}
    assert len(shown) == 6
    assert shown <= published


def test_rviz_shows_what_the_graph_node_keeps_for_latecomers() -> None:
    assert topics_shown("graph.rviz") == {"/m2h_graph/markers", "/m2h_graph/mesh"}
    assert (PACKAGE / "rviz" / "graph.rviz").read_text().count("Transient Local") == 1  # both share it


def topics_shown(layout: str) -> set[str]:
    displays = yaml.safe_load((PACKAGE / "rviz" / layout).read_text())["Visualization Manager"]["Displays"]
    return {display["Topic"]["Value"] for display in displays if "Topic" in display}


def test_the_graph_node_accepts_its_parameter_file_which_names_all_defaults() -> None:
    raw = yaml.safe_load((PACKAGE / "config" / "graph.yaml").read_text())["/**"]["ros__parameters"]
    assert set(raw) == set(GraphSettings.__dataclass_fields__)
    assert read_all(GraphSettings, raw) == (GraphSettings(), [])


def calls(tree: ast.AST, name: str) -> list[str]:
    """The first arguments, where they are plain texts, of all calls of `name`."""
    return [
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == name
        and node.args
        and isinstance(node.args[0], ast.Constant)
    ]


def tables(tree: ast.Module) -> dict[str, dict[str, Any]]:
    """The dictionaries at the top of a module, by name."""
    return {
        statement.targets[0].id: ast.literal_eval(statement.value)
        for statement in tree.body
        if isinstance(statement, ast.Assign)
        and isinstance(statement.targets[0], ast.Name)
        and isinstance(statement.value, ast.Dict)
    }


def arguments_of(path: Path) -> set[str]:
    """The launch arguments that a file declares: by name, or from its tables."""
    tree = ast.parse(path.read_text())
    return {
        *calls(tree, "DeclareLaunchArgument"),
        *(name for table in tables(tree).values() for name in table),
    }


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda path: path.name)
def test_a_launch_file_uses_only_arguments_that_it_declares(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert "generate_launch_description" in {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef)
    }
    assert set(calls(tree, "LaunchConfiguration")) <= arguments_of(path)
    assert all(name not in path.read_text() for name in ("TODO", "print("))


def test_what_the_launch_file_hands_to_the_node_are_parameters_of_it() -> None:
    known = tables(ast.parse((PACKAGE / "launch" / "perception.launch.py").read_text()))
    fields = Settings.__dataclass_fields__
    assert all(isinstance(fields[name].default, str) for name in known["PARAMETERS"])
    assert all(isinstance(fields[name].default, bool) for name in known["FLAGS"])
    assert OF_THE_NODE - {"use_sim_time"} <= set(fields)
    handed = tables(ast.parse((PACKAGE / "launch" / "graph.launch.py").read_text()))["PARAMETERS"]
    assert all(isinstance(GraphSettings.__dataclass_fields__[name].default, str) for name in handed)


def test_the_aligned_topics_are_those_that_mono_hydra_reads() -> None:
    aligned = tables(ast.parse((PACKAGE / "launch" / "mono_hydra.launch.py").read_text()))["ALIGNED_TOPICS"]
    tailored = Settings(align=True, **aligned).tailored(load_profile("mono_hydra_itc"))
    named = {name: tailored.outputs[name].topic for name in ("depth", "labels", "colors")}
    assert named == {
        "depth": "/temporally_aligned/depth",
        "labels": "/temporally_aligned/labels_argmax",
        "colors": "/temporally_aligned/semantic",
    }


@pytest.mark.parametrize("name", ["mono_hydra", "hydra", "bag_replay"])
def test_what_other_launch_files_hand_on_are_arguments_of_perception(name: str) -> None:
    path = PACKAGE / "launch" / f"{name}.launch.py"
    tree = ast.parse(path.read_text())
    handed = {
        key.value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and "perception.launch.py" in ast.unparse(call)
        for node in ast.walk(call)
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant)
    } | {
        key
        for table in ("PERCEPTION", "OF_OTHER_NAMES", "ALIGNED_TOPICS")
        for key in tables(tree).get(table, ())
    }
    assert handed <= arguments_of(PACKAGE / "launch" / "perception.launch.py") | {"use_perception"}
