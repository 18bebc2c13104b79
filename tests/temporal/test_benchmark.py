"""The benchmark counts what it says it counts."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from rooms import CAMERA, SHELF, WALL, perception, pose, room, walk

sys.path.append(str(Path(__file__).resolve().parent.parent.parent / "benchmarks"))
import temporal
from sections import common
from sections import temporal as told

from m2h_runtime.frame import Frame

if TYPE_CHECKING:
    from numpy.typing import NDArray


def moment(where: NDArray, error_m: float = 0.0, label: int | None = None) -> temporal.Moment:
    """A frame of the room whose perceived depth is off by `error_m`."""
    depth, labels = room(where)
    frame = Frame(np.zeros((*CAMERA.size, 3), np.uint8), 0, 0, world_from_camera=where)
    said = perception(depth + np.float32(error_m), labels if label is None else label)
    return temporal.Moment(frame, said, depth, labels)


def figures(*moments: temporal.Moment) -> dict[str, float]:
    walked = temporal.Walk("walk", CAMERA, list(moments))
    said = [[one.perception for one in moments]]
    return temporal.measured([walked], said, said)


def test_corresponding_points_are_the_same_places_of_the_room() -> None:
    first, second = pose(), pose(0.1, z=0.2, turn=(0.0, 0.05, 0.0))
    pair = temporal.correspond(CAMERA, moment(first), moment(second))
    labels, earlier = room(second)[1], room(first)[1]
    assert len(pair.here[0]) > 0.7 * labels.size
    assert (labels[pair.here] == earlier[pair.there]).mean() > 0.98
    same = temporal.correspond(CAMERA, moment(first), moment(first))
    np.testing.assert_array_equal(same.here, same.there)


def test_a_perfect_network_has_no_flicker_and_one_that_is_wrong_has_as_much_as_its_errors_change() -> None:
    way = walk(3)
    perfect = figures(*(moment(where) for where in way))
    assert perfect["flicker_mm"] == 0
    assert perfect["rmse_m"] == 0
    assert perfect["miou"] == 1
    steady = figures(*(moment(where, 0.2) for where in way))
    assert steady["flicker_mm"] == pytest.approx(0, abs=0.01)
    assert steady["rmse_m"] == pytest.approx(0.2, rel=1e-4)
    shaky = figures(*(moment(where, 0.05 * (-1) ** i) for i, where in enumerate(way)))
    assert shaky["flicker_mm"] == pytest.approx(100, rel=1e-3)
    flipping = figures(*(moment(where, label=(WALL, SHELF)[i % 2]) for i, where in enumerate(way)))
    assert flipping["flips"] == 1


def test_pixels_without_a_depth_count_nowhere() -> None:
    good, bad = moment(pose()), moment(pose(), 1.0)
    depth = good.perception.depth.copy()
    depth[:32] += 1
    mask = depth.copy()
    mask[:32] = 0
    walked = temporal.Walk("walk", CAMERA, [bad, bad])
    said = [[replace(good.perception, depth=depth)] * 2]
    only = [[replace(good.perception, depth=mask)] * 2]
    assert temporal.measured([walked], said, only)["rmse_m"] == pytest.approx(0, abs=1e-6)
    assert temporal.measured([walked], said, only)["pixels"] == 0.5


def test_odometry_drifts_and_the_gyroscope_has_no_pose() -> None:
    walked = temporal.Walk("walk", CAMERA, [moment(where) for where in walk(30)])
    off = [
        np.linalg.norm(frame.world_from_camera[:3, 3] - one.frame.world_from_camera[:3, 3])
        for frame, one in zip(temporal.odometry(walked), walked.moments, strict=True)
    ]
    assert off[0] == 0
    assert 0.001 < np.mean(off[15:]) < 0.1
    assert all(frame.world_from_camera is None for frame in temporal.gyroscope(walked))


def test_a_walk_is_measured_and_told(
    tiny_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tiny engine's depths are no depths, so frames may not fit their poses."""
    out, picture = tmp_path / "temporal.json", tmp_path / "temporal.jpg"
    given = ("--engine", tiny_engine, "--seeds", 9001, "--frames", 4, "--out", out, "--picture", picture)
    monkeypatch.setattr(sys, "argv", ["temporal.py", *map(str, given)])
    temporal.main()
    result = json.loads(out.read_text())
    assert result["walks"] == ["9001-handheld"]
    assert sum(result["variants"]["true poses"]["states"].values()) == 4
    assert "poses" not in result["variants"]["gyroscope only"]["states"]
    assert result["thread_time"]["320x240"]["median_ms"] > 0
    assert picture.stat().st_size > 1000
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    page = "\n".join(told.section())
    assert "| true poses | " in page
    assert "≤ 6 ms" in page
