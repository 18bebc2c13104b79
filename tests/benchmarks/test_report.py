"""docs/performance.md says what the result files say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import pytest
import report
import web_cost
from honesty import summary as honesty_summary
from sections import common, measuring, pytorch, scaling

ROOT = Path(__file__).resolve().parent.parent.parent
FACTS = {"cores": 2, "cpu": "a CPU", "features": [], "date": "2026-01-01", "packages": {"numpy": "2"}}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of results."""
    folder = tmp_path / "results"
    folder.mkdir()
    monkeypatch.setattr(common, "RESULTS", folder)
    return folder


def write(folder: Path, name: str, result: dict[str, Any]) -> None:
    told = {"command": f"python benchmarks/{name}.py", "machine": FACTS, **result}
    (folder / f"{name}.json").write_text(json.dumps(told))


def measured(turns: list[float], eager: list[float], gflop: float) -> dict[str, Any]:
    ratios = sorted(e / t for e, t in zip(eager, turns, strict=True))
    proof = {"numerics": "bf16", "problems": [], "ready_s": 1.0}
    spread = {"ratio": ratios[1], "ratio_min": ratios[0], "ratio_max": ratios[2]}
    return {"median_ms": sorted(turns)[1], "turns_ms": turns, "gflop": gflop, "proof": proof, **spread}


def speed(eager_ms: list[float], ours_ms: list[float], published_ms: list[float]) -> dict[str, Any]:
    rows = {
        "eager": measured(eager_ms, eager_ms, 50.0),
        "published-openvino-bf16": measured(published_ms, eager_ms, 50.0),
        "openvino-bf16": measured(ours_ms, eager_ms, 40.0),
    }
    peaks = {"m2h-small": {"fp32": 200.0, "bf16": 400.0}}
    missing = {"m2h-small": {"compile": "no C++ compiler"}}
    return {
        "size": [224, 224],
        "threads": 2,
        "models": {"m2h-small": rows},
        "peaks": peaks,
        "missing": missing,
    }


def test_the_page_of_the_repository_is_made_of_its_results(tmp_path: Path) -> None:
    text = report.page(tmp_path / "performance.png")
    assert text == report.PAGE.read_text(encoding="utf-8"), "python benchmarks/report.py makes it anew"
    commands = re.findall(r"^`(python benchmarks/.*)`$", text, flags=re.MULTILINE)
    assert len(commands) >= 4
    for name in ("cpu_speed", "loop_speed", "parity"):
        assert json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())["command"] in text
    assert cv2.imread(str(tmp_path / "performance.png")).shape[0] > 300


def test_nothing_measured_gives_no_sections_but_the_gpu_s(results: Path, tmp_path: Path) -> None:
    text = report.page(tmp_path / "performance.png")
    assert re.findall(r"^## (.*)$", text, flags=re.MULTILINE) == ["On a GPU"]
    assert "no GPU has run this yet" in text
    assert not (tmp_path / "performance.png").exists()


def test_goals_ratios_and_share_of_the_peak(results: Path) -> None:
    write(results, "cpu_speed", speed([2000, 4000, 2000], [100, 200, 100], [180, 360, 160]))
    text = "\n".join(pytorch.section())
    figures = "100.0 | 20.0 | 20.0 – 20.0 | 400 | 100 %"
    assert f"| m2h-small | openvino-bf16 | {figures} | within the limits of bf16 | ≥ 18: met |" in text
    assert "1.80 times as fast as the published graph in the same openvino-bf16 (≥ 1.7: met)" in text
    assert "without compile: no C++ compiler" in text


def test_a_missed_goal_says_missed(results: Path) -> None:
    write(results, "cpu_speed", speed([1000, 1000, 1000], [100, 100, 100], [150, 150, 150]))
    text = "\n".join(pytorch.section())
    assert "≥ 18: missed" in text
    assert "≥ 1.7: missed" in text


def test_sizes_and_threads_have_their_tables_and_their_curve(results: Path, tmp_path: Path) -> None:
    row = {"median_ms": 10.0, "ratio": 1.0, "ratio_min": 1.0, "ratio_max": 1.0}
    sizes = {"160x160": {**row, "pixels": 25600}, "320x320": {**row, "median_ms": 40.0, "pixels": 102400}}
    line = {"fixed_ms": 0.0, "ms_per_megapixel": 390.0, "r2": 1.0}
    models = {"m2h-nano": {"openvino": {"sizes": sizes, "line": line}}}
    write(results, "input_size", {"threads": 2, "models": models})
    write(results, "threads", {"models": {"m2h-nano": {"openvino": {"1": row, "2": {**row, "ratio": 1.9}}}}})
    text = "\n".join(scaling.section())
    assert "| m2h-nano openvino | 10.0 | 40.0 | 0.0 | 390 | 1.000 |" in text
    assert "| m2h-nano openvino | 2 | 10.0 | 1.90 | 1.00 – 1.00 |" in text
    write(results, "cpu_speed", speed([1000, 1000, 1000], [100, 100, 100], [150, 150, 150]))
    report.page(tmp_path / "performance.png")
    assert cv2.imread(str(tmp_path / "performance.png")).shape[1] > 1000


def test_verdicts_are_counted_as_m2h_bench_s_script_counts_them(results: Path) -> None:
    def verdict(kind: str) -> dict[str, object]:
        return {"kind": kind, "ratio": 1.0, "text": ""}

    right = {"same": verdict("no difference"), "slowed": verdict("slower")}
    wrong = {**right, "same": verdict("slower")}
    repeats = [{"compare": right, "against": right}] * 18 + [{"compare": wrong, "against": right}] * 2
    told = {"engine": "e", "backend": "b", "seconds": 6.0, "share": 0.1, "summary": honesty_summary(repeats)}
    write(results, "honesty", told)
    text = "\n".join(measuring.section())
    assert "| two runs, `--compare` | with itself | no difference | 18 × no difference, 2 × slower" in text
    assert text.count("19 of 20: met") == 3
    assert text.count("19 of 20: missed") == 1


def test_what_the_dashboard_costs_is_read_as_its_script_writes_it(results: Path) -> None:
    turn = {"without": {"fps": 50.0, "cpu_percent": 0.0}, "nobody": {"fps": 49.9, "cpu_percent": 0.02}}
    watched = {"fps": 46.0, "updates_per_s": 10.0, "kB_per_s": 300.0}
    pair = {"one viewer": watched, "nobody": {"fps": 50.0, "updates_per_s": 0.0, "kB_per_s": 0.0}}
    told = {
        "engine": "e",
        "backend": "auto",
        "frames_per_run": 900,
        "seconds_per_phase": 4.0,
        **web_cost.summary([turn] * 8, [pair] * 8),
    }
    write(results, "web_cost", told)
    text = "\n".join(measuring.section())
    assert "| nobody | 49.9 | 0.20 % | 0.20 – 0.20 % | 0.02 % of all cores | ≤ 0.5 %: met |" in text
    assert "| one viewer | 46.0 | 8.00 % | 8.00 – 8.00 % |  | ≤ 5 %: missed |" in text


def test_a_trial_on_a_cpu_is_no_result_of_a_gpu(results: Path, tmp_path: Path) -> None:
    write(results, "gpu", {"device": "cpu"})
    with pytest.raises(SystemExit, match="trial on a CPU"):
        report.page(tmp_path / "performance.png")


def test_the_command_writes_page_and_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["report.py", "--out", str(tmp_path / "performance.md")])
    report.main()
    text = (tmp_path / "performance.md").read_text()
    shown = re.search(r"\]\((images/.*?)\)", text)
    assert shown is not None
    assert (tmp_path / shown[1]).is_file()
