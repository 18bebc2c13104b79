from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import pytest

for folder in (Path(__file__).parent, Path(__file__).parents[1] / "mapping"):
    sys.path.append(str(folder))  # for house and shapes, at the end: `import conftest` means the one above

if TYPE_CHECKING:
    from m2h_runtime.scene_graph import SceneGraphBuilder


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    cv2.setNumThreads(1)


@pytest.fixture(scope="session")
def builder() -> SceneGraphBuilder:
    """Two rooms and what is in them, see house.py, walked through and updated; not to be changed."""
    from house import walked

    return walked()
