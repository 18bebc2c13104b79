"""The section on maps says what was measured, and which goals were met."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from sections import common, mapping

if TYPE_CHECKING:
    from pathlib import Path

FACTS = {"cores": 2, "cpu": "a CPU", "features": [], "date": "2026-01-01", "packages": {"numpy": "2"}}


def row(name: str, me_m: float, matched: int, *, aligned: bool = False) -> dict[str, Any]:
    """Of 10 true nodes and 10 found ones."""
    score = {"matched": matched, "found": 10, "true": 10, "precision": matched / 10, "recall": matched / 10}
    facts = {"fps": 40.0, "sd_m": 0.1, "completeness": 0.5, "graph_s": 0.3, "frames": 600, "mapped": 300}
    return {"name": name, "aligned": aligned, "me_m": me_m, "rooms": score, "objects": score, **facts}


def chained(fps: float) -> dict[str, Any]:
    stages = {"preprocess": 0.1, "engine": 20.0, "align": 3.0, "sink graph": 8.0}
    return {"frames": 600, "mapped": 300, "graphs": 30, "fps": fps, "cpu_ms": 45.0, "stages_ms": stages}


@pytest.fixture
def result() -> dict[str, Any]:
    walks = {
        name: [
            row("truth", me_m, matched),
            row("nano", 0.25, 2),
            row("nano", 0.2, 3, aligned=True),
        ]
        for name, me_m, matched in (("9001-handheld", 0.01, 9), ("9002-handheld", 0.03, 6))
    }
    return {
        "command": "python benchmarks/mapping.py",
        "machine": FACTS,
        "engine": {"folder": "nano", "choice": "openvino: the fastest here"},
        "duration_s": 60.0,
        "size": [192, 256],
        "walks": walks,
        "chain": {"walk": "9001-handheld", "memory": chained(30.0), "renderer": chained(8.0)},
    }


def page(result: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(common, "RESULTS", folder)
    (folder / "mapping.json").write_text(json.dumps(result))
    return "\n".join(mapping.section())


def test_walks_together_come_first_and_each_follows(
    result: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = page(result, tmp_path, monkeypatch)
    assert text.index("### All walks together") < text.index("### 9001-handheld") < text.index("### 9002")
    assert "| truth | no | 0.020 | 0.100 | 0.50 | 40.0 | 0.75 / 0.75 | 0.75 / 0.75 |" in text
    assert "| nano | yes | 0.200 | 0.100 | 0.50 | 40.0 | 0.30 / 0.30 | 0.30 / 0.30 |" in text
    assert "ME 0.11 m and SD 0.14 m" in text


def test_goals_are_judged(result: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = page(result, tmp_path, monkeypatch)
    assert "at most 0.03 m: met" in text
    assert "Rooms with true depth and labels, precision and recall at least 0.8: missed" in text
    assert "Objects with true depth and labels, precision and recall at least 0.6: met" in text
    assert "| pictures from memory | 30.0 | 45 | 0.1 | 20.0 | 3.0 | 8.0 | ≥ 10: met |" in text
    assert "meanwhile | 8.0 | 45 | 0.1 | 20.0 | 3.0 | 8.0 |  |" in text


def test_nothing_measured_is_no_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    assert mapping.section() == []
