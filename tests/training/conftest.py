"""One thread for every test of training: the networks are tiny."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parent))  # for toy, at the end: `import conftest` means the one above


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
