"""The comparison with PyTorch: equality first, on m2h-nano at a small size."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from against_pytorch import CONTESTANTS, FORMS, prove
from equality import proof
from tiny_engine import SIZE, make_tiny_engine, picture, twin
from torch_forms import Form, build, perceive

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from conftest import Script
    from numpy.typing import NDArray

    from m2h_runtime.perception import Perception


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with "m2h-nano": its golden frame is right, its graph is another network's."""
    folder = tmp_path_factory.mktemp("engines")
    golden = perceive(build("m2h-nano", SIZE, Form()), picture(0))
    make_tiny_engine(folder / "m2h-nano", golden=golden)
    return folder


@pytest.mark.parametrize(
    "name", ["eager", "eager-channels-last", "eager-autocast", "eager-bf16", "rewritten-eager"]
)
def test_forms_of_the_same_weights_are_equal(name: str, engines: Path) -> None:
    told = prove(name, "m2h-nano", engines / "m2h-nano", 1)
    assert told["problems"] == []
    assert told["numerics"] == ("bf16" if "bf16" in name or "autocast" in name else "fp32")
    assert told["ready_s"] > 0


def test_half_precision_is_not_float32_in_disguise(engines: Path) -> None:
    exact, half = (
        prove(name, "m2h-nano", engines / "m2h-nano", 1)["depth_rel"] for name in ("eager", "eager-bf16")
    )
    assert half > 100 * exact


def test_an_engine_of_another_network_is_found(engines: Path) -> None:
    assert prove("onnxruntime-cpu", "m2h-nano", engines / "m2h-nano", 1)["problems"]


def test_a_comparison_that_cannot_fail_is_refused() -> None:
    def always(_: NDArray[np.uint8]) -> Perception:
        return twin(picture(0))

    with pytest.raises(SystemExit, match="proves nothing"):
        proof(always, picture(0), twin(picture(0)), "fp32")
    assert proof(twin, picture(0), twin(picture(0)), "fp32")["problems"] == []


@pytest.mark.slow  # five processes in turn
def test_a_whole_run_writes_rows_peaks_and_keeps_other_networks(
    engines: Path, tmp_path: Path, script: Script
) -> None:
    out = tmp_path / "speed.json"
    before = {"m2h": {"eager": {"median_ms": 1.0, "ratio": 1.0, "ratio_min": 1.0, "ratio_max": 1.0}}}
    out.write_text(json.dumps({"models": before}))
    options = ["--models", "m2h-nano", "--engines", engines, "--rounds", 1, "--seconds", 0, "--threads", 1]
    done = script("against_pytorch", *options, "--contestants", "eager", "--out", out)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert result["models"]["m2h"] == before["m2h"]
    row = result["models"]["m2h-nano"]["eager"]
    assert row["ratio"] == 1.0
    assert row["median_ms"] == row["turns_ms"][0] > 0
    assert row["proof"]["problems"] == []
    assert result["peaks"]["m2h-nano"]["fp32"] > 0
    assert result["peaks"]["m2h-nano"]["bf16"] > 0
    assert result["missing"]["m2h-nano"] == {}


def test_an_engine_that_is_not_equal_is_not_timed(engines: Path, tmp_path: Path, script: Script) -> None:
    out = tmp_path / "speed.json"
    options = ["--models", "m2h-nano", "--engines", engines, "--rounds", 1, "--threads", 1, "--out", out]
    done = script("against_pytorch", *options, "--contestants", "onnxruntime-cpu", "eager")
    assert done.returncode != 0
    assert "m2h-nano onnxruntime-cpu: not what PyTorch fp32 gives" in done.stderr.splitlines()[-1]
    assert not out.exists()


def test_the_baseline_cannot_be_left_out(engines: Path, script: Script) -> None:
    done = script("against_pytorch", "--engines", engines, "--contestants", "openvino")
    assert done.returncode == 2
    assert "eager is what all others are compared with" in done.stderr


def test_every_form_names_arguments_that_exist() -> None:
    assert all(Form(**arguments) for arguments in FORMS.values())
    assert set(CONTESTANTS) >= {"eager", "compile", "rewritten-compile-bf16", "published-openvino-bf16"}
