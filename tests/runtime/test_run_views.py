"""m2h-run with a cross-view engine, from the command line to the report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from made_bags import MS, START_NS, BagMaker
from tiny_engine import VIEWS, make_tiny_engine, picture

from m2h_runtime.cli.run_options import build_parser, check_options, source_spec
from m2h_runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cross_view(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_engine(tmp_path_factory.mktemp("engines") / "cross", views=VIEWS)


def run(engine: Path, report: Path, *arguments: object) -> tuple[dict[str, Any], str, str]:
    """The report, stdout and stderr."""
    command = [
        sys.executable,
        "-m",
        "m2h_runtime.cli.run",
        *arguments,
        "--engine",
        engine,
        "--report",
        report,
    ]
    done = subprocess.run(
        [*map(str, command), "--backend", "onnxruntime-cpu", "--threads", "1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(report.read_text()), done.stdout, done.stderr


def test_a_simulated_walk_is_perceived_from_two_views(cross_view: Path, tmp_path: Path) -> None:
    pytest.importorskip("embreex", reason="rendering needs embreex, which has wheels for x86-64")
    said, stdout, stderr = run(
        cross_view,
        tmp_path / "run.json",
        *("--simulate", "3-drone", "--camera-size", "64x48", "--camera-fps", 10, "--frames", 40),
    )
    views = said["views"]
    assert views["frames"]["two views"] > 20
    assert sum(views["frames"].values()) == 40
    assert 0.02 < views["median_baseline_m"] < 1.0
    assert f"{views['frames']['two views']} two views" in stdout
    assert said["health"] == []
    assert "degraded" not in stderr


def test_a_single_view_engine_has_no_views_to_report(tiny_engine: Path, tmp_path: Path, video: Path) -> None:
    said, stdout, _ = run(tiny_engine, tmp_path / "run.json", "--video", video)
    assert said["views"] is None
    assert "views" not in stdout


def test_a_video_without_intrinsics_says_what_is_missing(
    cross_view: Path, tmp_path: Path, video: Path
) -> None:
    said, _, stderr = run(cross_view, tmp_path / "run.json", "--video", video)
    assert list(said["views"]["frames"]) == ["single view"]
    assert stderr.count("\n") == 1
    assert stderr.startswith(
        "m2h-run: views degraded: single view: the camera's intrinsics are unknown; give"
    )


def test_a_bags_odometry_gives_two_views(cross_view: Path, tmp_path: Path) -> None:
    maker = BagMaker("mcap")
    for index in range(30):
        stamp_ns = START_NS + index * 100 * MS
        maker.image("/camera/image_raw", stamp_ns, picture(index))
        maker.camera_info("/camera/camera_info", stamp_ns, (64, 96), 80.0)
    for index in range(160):
        drive(maker, START_NS + index * 20 * MS, 0.01 * index)
    bag = maker.write(tmp_path)
    said, _, stderr = run(cross_view, tmp_path / "run.json", "--bag", bag, "--odometry", "/odom", "--rectify")
    assert said["views"]["frames"]["two views"] > 20
    assert "odometry: of base_link, taken for x forward, y left, z up" in stderr
    blind, _, _ = run(cross_view, tmp_path / "blind.json", "--bag", bag, "--rectify")
    assert list(blind["views"]["frames"]) == ["single view"]


def drive(maker: BagMaker, stamp_ns: int, ahead_m: float) -> None:
    """A nav_msgs/Odometry of a robot on wheels."""
    make, vector = maker._make, "geometry_msgs/msg/Vector3"
    pose = make(
        "geometry_msgs/msg/Pose",
        make("geometry_msgs/msg/Point", ahead_m, 0.0, 0.0),
        make("geometry_msgs/msg/Quaternion", 0.0, 0.0, 0.0, 1.0),
    )
    still = make("geometry_msgs/msg/Twist", *(make(vector, 0.0, 0.0, 0.0) for _ in range(2)))
    unknown = np.zeros(36)
    maker.add(
        "/odom",
        "nav_msgs/msg/Odometry",
        stamp_ns,
        maker.header(stamp_ns, "odom"),
        "base_link",
        make("geometry_msgs/msg/PoseWithCovariance", pose, unknown),
        make("geometry_msgs/msg/TwistWithCovariance", still, unknown),
    )


@pytest.mark.parametrize("source", [("--camera", "0"), ("--euroc", "V1_01"), ("--simulate",)])
def test_odometry_goes_with_bags_and_topics(source: Sequence[str]) -> None:
    args = build_parser().parse_args([*source, "--odometry", "/odom"])
    with pytest.raises(InputError, match="--odometry goes with --bag and --topic only, not with --"):
        check_options(args, ())


def test_the_topic_is_handed_on() -> None:
    args = build_parser().parse_args(["--topic", "/image", "--odometry", "/odom"])
    check_options(args, ())
    assert source_spec(args).odometry_topic == "/odom"
