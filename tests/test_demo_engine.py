"""The engine that ships perceives: on stills of the reserved apartments, rendered now.

The floors lie well below what the card says (200 frames), since sixteen stills scatter; noise is far below them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from m2h_export.data.sample import Sample
from m2h_export.evaluation import Evaluator, Prediction
from m2h_runtime import open_engine
from m2h_runtime.label_space import load_label_space
from m2h_runtime.simulation.episode import Episode, default_camera, reserved_seeds
from m2h_runtime.simulation.renderer import boundaries

ENGINE = Path(__file__).resolve().parent.parent / "engines" / "m2h-nano-apartments"
APARTMENTS = reserved_seeds()["test"][:2]
STILLS = 8


@pytest.fixture(scope="module")
def result() -> dict[str, dict[str, float]]:
    space = load_label_space("nyud20")
    evaluator = Evaluator(space.classes, ("semantics", "depth", "normals", "edges"), absent="exclude")
    with open_engine(ENGINE, "onnxruntime-cpu", threads=1) as engine:
        assert engine.manifest.label_space.classes == space.classes
        height, width = engine.manifest.size
        for seed in APARTMENTS:
            episode = Episode(seed, "handheld", 20.0, default_camera(width, height))
            for number in range(STILLS):
                shot = episode.survey_shot(number)
                seen = engine.infer(shot.image)
                evaluator.add(
                    Prediction(
                        depth=seen.depth, semantics=seen.semantics, normals=seen.normals, edges=seen.edges
                    ),
                    Sample(
                        f"{seed}/{number}",
                        shot.image,
                        shot.view.depth,
                        np.where(shot.view.labels > 0, shot.view.labels20, np.uint8(255)),
                        shot.view.normals,
                        boundaries(shot.view.labels20),
                    ),
                )
    return evaluator.result()["tasks"]


@pytest.mark.parametrize(
    ("task", "metric", "least"),
    [("semantics", "pixel_accuracy", 0.6), ("depth", "delta1", 0.5), ("edges", "odsF", 0.4)],
)
def test_it_finds_enough(result: dict[str, dict[str, float]], task: str, metric: str, least: float) -> None:
    assert result[task][metric] > least


@pytest.mark.parametrize(("task", "metric", "most"), [("depth", "AbsRel", 0.3), ("normals", "mean", 30.0)])
def test_it_errs_little(result: dict[str, dict[str, float]], task: str, metric: str, most: float) -> None:
    assert result[task][metric] < most
