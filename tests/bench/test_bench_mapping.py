"""What a map is worth: the measure itself on surfaces whose distance is known, and the command."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from m2h_runtime.bench.mapping import measure_mapping
from m2h_runtime.bench.mapping_tables import mapping_table, pooled
from m2h_runtime.bench.rendered_walk import RenderedWalk, TrueSurface
from m2h_runtime.cli.bench import main

ENGINE = Path(__file__).resolve().parents[2] / "engines" / "m2h-nano-apartments"


def grid(x1: float, z: float = 0.0, step: float = 0.02) -> np.ndarray:
    """Points of the floor from 0 to `x1`, and from 0 to 2 along y, float32 (N, 3)."""
    x, y = np.mgrid[0:x1:step, 0:2:step]
    return np.stack([x.ravel(), y.ravel(), np.full(x.size, z)], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def floor() -> TrueSurface:
    """A floor of 4 m x 2 m of which the half up to x = 2 was seen."""
    corners = np.array([[0, 0, 0], [4, 0, 0], [4, 2, 0], [0, 2, 0]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    return TrueSurface(SimpleNamespace(vertices=corners, faces=faces), grid(2.0))  # type: ignore[arg-type]


@pytest.mark.parametrize("height", [0.0, 0.05, -0.2])
def test_the_distance_is_that_to_the_surface_and_not_to_its_samples(
    floor: TrueSurface, height: float
) -> None:
    inner = grid(1.9, height)[300:]
    assert floor.distances(inner).mean() == pytest.approx(abs(height), abs=0.002)


def test_what_nobody_saw_is_no_truth(floor: TrueSurface) -> None:
    beyond = np.array([[3.0, 1.0, 0.0]], np.float32)
    assert floor.distances(beyond)[0] == pytest.approx(1.0, abs=0.06)
    assert floor.points[:, 0].max() < 2.05


def test_completeness_is_the_share_that_was_reconstructed(floor: TrueSurface) -> None:
    assert floor.covered(grid(2.0)) > 0.97
    assert floor.covered(grid(1.0)) == pytest.approx(0.5, abs=0.04)
    assert floor.covered(grid(2.0, 0.2)) == 0


@pytest.fixture(scope="module")
def walk() -> RenderedWalk:
    pytest.importorskip("embreex", reason="rendering needs embreex, which has wheels for x86-64")
    return RenderedWalk("1-wheeled", (96, 128), 3.0)


def test_true_depth_and_true_poses_give_the_true_surface(walk: RenderedWalk) -> None:
    result = measure_mapping(walk)
    assert (result.frames, result.mapped) == (30, 15)
    assert result.me_m < 0.03
    assert result.completeness > 0.5


def test_wrong_poses_show_in_the_error(walk: RenderedWalk) -> None:
    result = measure_mapping(walk, pose_noise=(0.05, 1.0))
    assert result.me_m > 2 * measure_mapping(walk).me_m


def result(me_m: float, matched: int, found: int) -> dict[str, Any]:
    score = {
        "matched": matched,
        "found": found,
        "true": 10,
        "precision": matched / found,
        "recall": matched / 10,
    }
    facts = {"fps": 10.0, "sd_m": 0.1, "completeness": 0.5, "graph_s": 0.3, "frames": 600, "mapped": 300}
    return {"name": "truth", "aligned": False, "me_m": me_m, "rooms": score, "objects": score, **facts}


def test_walks_together_are_means_and_their_nodes_count_alike() -> None:
    (together,) = pooled([[result(0.1, 2, 2)], [result(0.3, 8, 18)]])
    assert together["me_m"] == pytest.approx(0.2)
    assert together["rooms"]["precision"] == 0.5  # 10 of 20, not the mean of 1 and 0.44
    (row,) = mapping_table("", [together]).rows
    assert row == ("truth", "no", "0.200", "0.100", "0.50", "10.0", "0.50 / 0.50", "0.50 / 0.50")


def test_the_command_judges_truth_and_engine_with_and_without_alignment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("embreex", reason="rendering needs embreex, which has wheels for x86-64")
    files = ["--json", str(tmp_path / "m.json"), "--markdown", str(tmp_path / "m.md")]
    assert main(["mapping", "--walk", "1-wheeled", "--duration", "1", "--engine", str(ENGINE), *files]) == 0
    told = json.loads((tmp_path / "m.json").read_text())
    rows = told["walks"]["1-wheeled"]
    assert [(row["name"], row["aligned"]) for row in rows] == [
        ("truth", False),
        (ENGINE.name, False),
        (ENGINE.name, True),
    ]
    assert all(row["frames"] == 10 for row in rows)
    assert rows[0]["me_m"] < rows[1]["me_m"]
    assert told["engines"][ENGINE.name]["name"] == "m2h-nano"
    assert f"| {ENGINE.name} | yes |" in (tmp_path / "m.md").read_text()
    assert "0.11 m" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--walk", "nowhere"], "simulation 'nowhere': give"),
        (["--json", "none/m.json"], "none/m.json: cannot be written"),
        (["--engine", "none"], "none"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mapping", *options]) == 2
    said = capsys.readouterr().err
    assert said.startswith("m2h-bench mapping: ")
    assert message in said
    assert said.count("\n") == 1


def test_an_engine_whose_classes_nobody_knows_is_refused_before_the_walk(
    tiny_engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mapping", "--engine", str(tiny_engine)]) == 2
    assert "label space classes_2: no roles are known" in capsys.readouterr().err


def test_noise_is_two_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["mapping", "--pose-noise", "0.01"])
    assert "expected metres and degrees, e.g. 0.01,0.5" in capsys.readouterr().err
