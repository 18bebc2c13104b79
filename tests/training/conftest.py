"""One thread for every test of training: the networks are tiny."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from m2h_export.data.sample import Sample
from m2h_runtime.simulation.episode import Episode, default_camera
from m2h_runtime.simulation.renderer import boundaries

sys.path.append(str(Path(__file__).parent))  # for toy, at the end: `import conftest` means the one above


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def room_views() -> list[Sample]:
    """Two stills of one thing in a rendered apartment, 64 x 48, with all their truth."""
    camera = default_camera(64, 48)
    episode = Episode(0, "handheld", 20.0, camera)
    matrix = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1.0]])
    views = []
    for place in (0, 1):
        shot = episode.survey_shot(2, place)
        labels = np.ascontiguousarray(shot.view.labels20)
        views.append(
            Sample(
                f"place{place}",
                shot.image,
                shot.view.depth,
                labels,
                shot.view.normals,
                boundaries(labels),
                intrinsics=matrix,
                world_from_camera=shot.world_from_camera,
            )
        )
    return views
