"""Every command in the README runs: `make` ones in CI, the others here, as written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
IN_CI = ("make demo", "make test", "make lint")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def shell_lines() -> list[str]:
    return [line for block in blocks("bash") for line in block.splitlines() if line.strip()]


def place(folder: Path) -> None:
    """What the README's commands expect beside them: the engines, the experiments, a photograph."""
    (folder / "engines").symlink_to(ROOT / "engines")
    (folder / "export").symlink_to(ROOT / "export")
    (folder / "out").mkdir()
    (folder / "photos").mkdir()
    ramp = np.linspace(0, 255, 320, dtype=np.uint8)
    cv2.imwrite(
        str(folder / "photos" / "room.jpg"), np.broadcast_to(ramp[None, :, None], (240, 320, 3)).copy()
    )


def test_ci_runs_the_make_commands() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    named = [line for line in shell_lines() if line.startswith("make")]
    assert named
    assert set(named) <= set(IN_CI)
    assert all(line in script.splitlines() for line in named)


@pytest.mark.slow  # three engines are opened, one is trained and one is exported
def test_the_other_commands_run_as_written(tmp_path: Path) -> None:
    place(tmp_path)
    commands = [
        line
        for line in shell_lines()
        if not line.startswith(("make", ". .venv", "pip install"))  # CI's own steps
    ]
    assert len(commands) >= 8
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for command in commands:
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    for made in (
        "out/annotated.mp4",
        "out/run.json",
        "out/graph/graph.html",
        "out/walk/graph.json",
        "out/sheet.png",
        "out/eval/results.json",
        "out/engines/m2h-nano/manifest.yaml",
    ):
        assert (tmp_path / made).stat().st_size > 0


def test_the_python_example_runs(tmp_path: Path) -> None:
    place(tmp_path)
    (example,) = blocks("python")
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert " m; " in done.stdout


def test_links_lead_somewhere() -> None:
    for name in ("README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))):
        page = ROOT / name
        for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{name}: {target}"


def test_shipped_engine_is_trained_and_small() -> None:
    folder = ROOT / "engines" / "m2h-nano-apartments"
    assert "random_weights: false" in (folder / "manifest.yaml").read_text()
    assert sum(path.stat().st_size for path in folder.iterdir()) < 20e6
    assert [path.name for path in (ROOT / "engines").iterdir()] == [folder.name]
