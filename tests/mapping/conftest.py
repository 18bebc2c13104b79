from __future__ import annotations

import sys
from pathlib import Path

import cv2
import pytest

sys.path.append(str(Path(__file__).parent))  # for shapes, at the end: `import conftest` means the one above


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    cv2.setNumThreads(1)
