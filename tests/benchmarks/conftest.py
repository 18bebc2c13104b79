"""The benchmark scripts are run as files; tests of their parts import them by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Protocol

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.append(str(ROOT / "benchmarks"))


class Script(Protocol):
    def __call__(self, name: str, *arguments: object) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture
def script() -> Script:
    """Run `benchmarks/NAME.py` as a user does."""

    def run(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)

    return run
