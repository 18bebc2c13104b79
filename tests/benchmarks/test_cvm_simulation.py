"""The table of the cross-view module: gains are over the baseline of the same seed; kept runs stay in the file."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

import cvm_simulation
import pytest
from sections import common, cvm

from m2h_export.training.experiment import read_experiment
from m2h_export.training.network import make_network

if TYPE_CHECKING:
    from pathlib import Path


def evaluated(depth: float, edges: float = 0.5) -> dict[str, Any]:
    headlines = {"semantics": 0.2, "depth": depth, "normals": 30.0, "edges": edges}
    return {"headlines": headlines, "consistency": {"mean": 40.0, "median": 30.0}, "images": 120, "alone": 3}


def run(variant: str, seed: int, **views: dict[str, Any]) -> dict[str, Any]:
    evaluations = {name.removeprefix("v"): told for name, told in views.items()}
    return {"variant": variant, "seed": seed, "steps": 10, "evaluations": evaluations}


def test_gains_are_over_the_baseline_of_the_same_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [
        run("baseline, video", 0, v1=evaluated(1.0)),
        run("CvM", 0, v1=evaluated(1.0), v2=evaluated(0.8)),
        run("baseline, video", 1, v1=evaluated(0.5)),
        run("CvM", 1, v1=evaluated(0.5), v2=evaluated(0.4, edges=0.6)),
    ]
    told = {"command": "python x", "machine": {}, "steps": 10, "runs": runs}
    (tmp_path / "cvm_simulation.json").write_text(json.dumps(told))
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    text = "\n".join(cvm.section())
    assert "10 steps of eight pictures" in text and "120 frames" in text
    # Two views: depth 20 % better both times, edges 20 % better once; a quarter of 20 and of 40 %.
    assert (
        "| CvM | 2 | 20.00 ± 0.00 | 0.6000 ± 0.2828 | 30.00 ± 0.00 | 55.00 ± 7.07 | 40.00 ± 0.00 | +7.50 ± 3.54 | 2 |"
        in text
    )
    assert "| baseline, video | 1 | 20.00 ± 0.00 | 0.7500 ± 0.3536 |" in text


def test_a_later_run_keeps_those_of_the_same_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cvm_simulation, "RESULTS", tmp_path / "results.json")
    steps = argparse.Namespace(steps=10)
    one = {"steps": 10, "evaluations": {"1": evaluated(1.0)}}
    cvm_simulation.write({("CvM", 1): one}, steps)
    cvm_simulation.write({("baseline", 0): one}, steps)
    written = json.loads((tmp_path / "results.json").read_text())
    assert [(r["variant"], r["seed"]) for r in written["runs"]] == [("baseline", 0), ("CvM", 1)]
    assert written["command"].endswith("--seeds 2 --steps 10")
    cvm_simulation.write({("CvM", 0): {**one, "steps": 20}}, argparse.Namespace(steps=20))
    assert len(json.loads((tmp_path / "results.json").read_text())["runs"]) == 1


@pytest.mark.parametrize("name", cvm_simulation.VARIANTS)
def test_every_variant_is_a_network(name: str) -> None:
    experiment = read_experiment(cvm_simulation.EXPERIMENT, cvm_simulation.VARIANTS[name].changes)
    network = make_network(experiment, 21)
    assert (network.cvm is None) == name.startswith("baseline")
