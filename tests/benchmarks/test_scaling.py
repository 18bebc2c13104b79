"""Latency against threads and input size, with an engine that takes a moment."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
from input_size import SIZES, line
from threads import counts

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Script

QUICK = ("--backends", "onnxruntime-cpu", "--rounds", 1, "--seconds", 0.01)


@pytest.fixture
def engines(tiny_engine: Path, tmp_path: Path) -> Path:
    """The tiny engine under the names that the scripts look for; a size there is only a name."""
    for name in ("tiny", "tiny-32x48", "tiny-64x96"):
        shutil.copytree(tiny_engine, tmp_path / name)
    return tmp_path


def test_threads_are_powers_of_two_and_all_cores() -> None:
    assert counts(1) == [1]
    assert counts(2) == [1, 2]
    assert counts(6) == [1, 2, 4, 6]


def test_threads_are_compared_with_one_thread(engines: Path, script: Script) -> None:
    out = engines / "threads.json"
    done = script(
        "threads", "--engines", engines, "--models", "tiny", *QUICK, "--threads", 1, 2, "--out", out
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())["models"]["tiny"]["onnxruntime-cpu"]
    assert list(rows) == ["1", "2"]
    assert rows["1"]["ratio"] == 1.0
    assert rows["2"]["median_ms"] > 0


def test_sizes_get_rows_and_a_line(engines: Path, script: Script) -> None:
    out = engines / "input_size.json"
    sizes = ("--sizes", "32x48", "64x96")
    done = script("input_size", "--engines", engines, "--models", "tiny", *QUICK, *sizes, "--out", out)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())["models"]["tiny"]["onnxruntime-cpu"]
    assert [row["pixels"] for row in found["sizes"].values()] == [1536, 6144]
    assert set(found["line"]) == {"fixed_ms", "ms_per_megapixel", "r2"}


def test_the_line_is_the_known_one() -> None:
    found = line([100_000, 200_000, 400_000], [3.0, 5.0, 9.0])
    assert found == {"fixed_ms": 1.0, "ms_per_megapixel": 20.0, "r2": 1.0}


def test_sizes_are_whole_patches() -> None:
    for model, patch in (("m2h-nano", 16), ("m2h-small", 14)):
        assert all(height % patch == width % patch == 0 for height, width in SIZES[model])
