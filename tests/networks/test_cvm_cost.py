"""Size and cost of the whole network, beside the papers' (Tables A15 and A16)."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
from cvm_cost import PAPERS, SIZE, cost, main, on_meta

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def counted() -> dict[str, Any]:
    return cost("cvm-vitl", SIZE, 2)


def test_parameters_are_the_papers(counted: dict[str, Any]) -> None:
    count = counted["parameters"]
    assert 4.5e6 <= count["module"] <= 5.5e6
    assert count["encoder"] == pytest.approx(PAPERS["encoder"]["parameters_m"] * 1e6, rel=0.02)
    assert sum(n for name, n in count.items() if name.startswith("module:")) == count["module"]


def test_operations_are_the_papers(counted: dict[str, Any]) -> None:
    found = counted["all_views"]
    assert found["module_gflop"] == pytest.approx(PAPERS["module"]["tflop"] * 1e3, rel=0.15)
    assert 10 < found["cost_volume_gflop"] < 25
    wanted = PAPERS["encoder"]["tflop_without_attention"] * 1e3
    assert found["encoder_gflop_without_attention"] == pytest.approx(wanted, rel=0.01)
    # Four products of tokens² × width in each of 24 blocks, for two views: what layers do not show.
    assert found["attention_gflop"]["encoder"] == pytest.approx(2 * 24 * 4 * 1013**2 * 1024 / 1e9, rel=1e-4)
    # Windows of 28 × 36 cells, two attentions in each of six layers.
    assert found["attention_gflop"]["module"] == pytest.approx(2 * 12 * 4 * 4032 * 1008 * 128 / 1e9, rel=1e-4)


def test_a_frame_of_a_stream_costs_little_more_than_half(counted: dict[str, Any]) -> None:
    assert counted["stream_over_all_views"] <= 0.62
    once, both = counted["stream"]["gflop"], counted["all_views"]["gflop"]
    for part, value in both.items():
        share = 1 if part == "multi-view transformer" else 0.5
        assert once[part] == pytest.approx(share * value, rel=1e-3), part


def test_more_planes_cost_more() -> None:
    network = on_meta("cvm-nano")
    assert network.cvm is not None
    few = cost("cvm-nano", (224, 224), 2)["all_views"]["gflop"]["warping and matching"]
    config = network.cvm.config
    assert few == pytest.approx(2 * 9 * config.planes * config.channels * 28 * 28 / 1e9, abs=1e-3)


def test_the_script_writes_what_it_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cost.json"
    arguments = ["--models", "cvm-nano", "--size", "64x96", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["benchmarks/cvm_cost.py", *arguments])
    main()
    result = json.loads(out.read_text())
    told = capsys.readouterr().out
    assert f"{result['models']['cvm-nano']['all_views']['total_gflop']:.2f}" in told
    assert "papers" not in told, "they have no such network"
    assert result["models"]["cvm-nano"]["size"] == [64, 96]
    assert result["machine"]["cores"] > 0
    assert result["command"].startswith("python benchmarks/cvm_cost.py")
