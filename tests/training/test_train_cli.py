"""m2h-train as a user calls it."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from toy import YAML, sample

from m2h_export.checkpoints import check_fit, read_checkpoint
from m2h_export.training.cli import main

SMOKE = Path(__file__).parents[2] / "export" / "experiments" / "smoke_apartments.yaml"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "toy.yaml"
    path.write_text(YAML)
    return path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "data.root: missing for apartments; pass --data FOLDER"),
        (["--set", "model.nam=x"], "model.nam: no such key; the nearest is model.name"),
        (["--set", "data.kind=kitti", "--data", "."], "no data set kind 'kitti'"),
        (["--set", "steps=0"], "steps: 0 must be above 0"),
        (["--steps", "0"], "argument --steps: expected a whole number from 1 up, got '0'"),
        (["--device", "cuda"], "--device cuda: no CUDA device for process 0"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_folder(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    if "cuda" in options and __import__("torch").cuda.is_available():
        pytest.skip("there is a CUDA device")
    try:
        code = main([str(file), "--out", str(tmp_path / "run"), *options])
    except SystemExit as error:  # the parser's own
        code = error.code
    assert code == 2
    said = capsys.readouterr().err
    assert said.startswith("m2h-train: ") and said.count("\n") == 1
    assert message in said
    assert not (tmp_path / "run").exists()


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from m2h_export.training.cli import build_parser; build_parser().format_help(); "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures with every truth, as NYUD_MT keeps them."""
    root = tmp_path_factory.mktemp("nyud")
    for folder in ("images", "depth", "normals", "segmentation", "edge", "gt_sets"):
        (root / folder).mkdir()
    for index in range(4):
        s = sample(index)
        assert (
            s.depth is not None and s.normals is not None and s.semantics is not None and s.edges is not None
        )
        cv2.imwrite(str(root / "images" / f"{index}.png"), s.image[..., ::-1])
        np.save(root / "depth" / f"{index}.npy", s.depth)
        np.save(root / "normals" / f"{index}.npy", s.normals * np.float32([-1, -1, -1]))
        cv2.imwrite(str(root / "segmentation" / f"{index}.png"), s.semantics + 1)
        cv2.imwrite(str(root / "edge" / f"{index}.png"), s.edges)
    (root / "gt_sets" / "train.txt").write_text("0\n1\n2\n3\n")
    return root


def lines(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_an_experiment_becomes_weights_for_export_and_goes_on(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    command = [str(SMOKE), "--out", str(out), "--data", str(data), "--threads", "1", "--seed", "5"]
    command += ["--set", "data.kind=nyudv2_folder", "--set", "log_every=1"]
    assert main([*command, "--steps", "3"]) == 0
    assert f"{out}/model.safetensors: done, 3 steps" in capsys.readouterr().out.replace("\n", "")
    checkpoint = read_checkpoint(out / "model.safetensors")
    check_fit(checkpoint, out / "model.safetensors", "m2h-nano", 40)
    assert [sorted(line["losses"]) for line in lines(out)][-1] == [  # type: ignore[call-overload]
        "depth",
        "depth_normals",
        "edges",
        "edges_semantics",
        "normals",
        "semantics",
    ]
    assert main([*command, "--steps", "4"]) == 2
    assert "already holds a training; pass --resume" in capsys.readouterr().err
    assert main([*command, "--steps", "4", "--resume"]) == 0
    assert "going on after step 3, with other stages" in capsys.readouterr().out
    assert [line["step"] for line in lines(out)] == [1, 2, 3, 4]


def test_sigterm_says_how_to_go_on_and_that_works(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "a run"  # a blank, for the shell
    command = [str(SMOKE), "--out", str(out), "--data", str(data), "--threads", "1"]
    command += ["--set", "data.kind=nyudv2_folder", "--set", "log_every=1", "--set", "save_every=0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "m2h_export.training.cli", *command, "--steps", "500"],
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (out / "metrics.jsonl").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    done = len(lines(out))
    last = said.strip().splitlines()[-1]
    assert last.startswith(f"stopped after step {done}; go on with: m2h-train ")
    again = shlex.split(last.split("m2h-train ")[1])
    again[again.index("--steps") + 1] = str(done + 2)
    assert main(again) == 0
    assert [line["step"] for line in lines(out)] == list(range(1, done + 3))
