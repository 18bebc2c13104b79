"""What the tests of the cross-view networks share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests" / "export"))  # for golden
sys.path.append(str(ROOT / "benchmarks"))  # for cvm_cost
sys.path.append(str(Path(__file__).parent))  # for scenes


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)
