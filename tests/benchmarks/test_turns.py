"""Contestants in processes of their own: what they tell, and how they fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from turns import TurnError, compared, engine_turn, own_process, possible_backends, timed

if TYPE_CHECKING:
    from pathlib import Path


def child(folder: Path, code: str) -> Path:
    path = folder / "child.py"
    path.write_text(code)
    return path


def test_the_last_line_of_a_process_is_its_result(tmp_path: Path) -> None:
    path = child(tmp_path, "import sys\nprint('warming up')\nprint('{\"ms\": ' + sys.argv[1] + '}')")
    assert own_process(path, [1.5]) == {"ms": 1.5}


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("raise SystemExit('no such provider')", "no such provider"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "killed by signal 11"),
        ("import time; time.sleep(30)", "no end after 1 s"),
        ("print('done')", "exit code 0"),
        (
            "raise ValueError('too small\\nNext steps:\\n  read the trace')",
            "ValueError: too small",
        ),
    ],
    ids=["refuses", "crashes", "hangs", "tells nothing", "fails with advice below"],
)
def test_a_contestant_that_fails_says_why_in_one_line(tmp_path: Path, code: str, why: str) -> None:
    with pytest.raises(TurnError) as caught:
        own_process(child(tmp_path, code), [], timeout_s=1 if "sleep" in code else 60)
    assert str(caught.value) == why


def test_an_environment_is_added_to_ours(tmp_path: Path) -> None:
    path = child(
        tmp_path, "import json, os\nprint(json.dumps({k: os.environ[k] for k in ('EXTRA', 'PATH')}))"
    )
    told = own_process(path, [], {"EXTRA": "yes"})
    assert told["EXTRA"] == "yes"
    assert told["PATH"]


def test_ratios_are_taken_within_a_round() -> None:
    # The machine runs at half speed in the second round: no ratio may notice.
    rows = compared({"eager": [10.0, 20.0, 10.0], "engine": [5.0, 10.0, 4.0]}, "eager")
    assert rows["engine"]["ratio"] == 2.0
    assert (rows["engine"]["ratio_min"], rows["engine"]["ratio_max"]) == (2.0, 2.5)
    assert rows["engine"]["median_ms"] == 5.0
    assert rows["eager"]["ratio"] == 1.0


def test_the_first_call_is_told_apart_and_at_least_two_are_timed() -> None:
    calls: list[int] = []
    told = timed(lambda: calls.append(1), 0.0)
    assert told["calls"] == 2
    assert len(calls) == 3


def test_an_engine_takes_its_turn_in_another_process(tiny_engine: Path) -> None:
    assert 0 < engine_turn(tiny_engine, "onnxruntime-cpu", 1, 0.01) < 1000


def test_backends_that_do_not_run_here_are_left_out_aloud(
    tiny_engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert possible_backends(tiny_engine, ["onnxruntime-cpu", "tensorrt"]) == ["onnxruntime-cpu"]
    assert "tiny: without tensorrt: " in capsys.readouterr().out


def test_a_turn_of_a_broken_engine_names_the_reason(tiny_engine: Path, tmp_path: Path) -> None:
    with pytest.raises(TurnError, match="no such engine folder"):
        engine_turn(tmp_path / "nowhere", "onnxruntime-cpu", 1, 0.01)
