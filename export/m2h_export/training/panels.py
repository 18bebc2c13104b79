"""Pictures of what a network in training makes of a few samples: looked at sooner than curves are believed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from m2h_export.evaluation.panels import label_space_of, panel
from m2h_export.evaluation.predictors import predict

if TYPE_CHECKING:
    from pathlib import Path

    from m2h_export.data.sample import DenseDataset
    from m2h_export.models import Network

COUNT = 4


class SamplePanels:
    """Writes `panels/step-0000500.png`: `COUNT` samples spread over a data set, truth above prediction.

    Call it with the number of steps done and the network, in evaluation mode.
    """

    def __init__(self, out: Path, samples: DenseDataset) -> None:
        self.folder, self.samples = out / "panels", samples

    def __call__(self, step: int, network: Network) -> None:
        """Predict and write; a disk that is full ends the training as it would at the next state."""
        self.folder.mkdir(parents=True, exist_ok=True)
        space = label_space_of(self.samples.class_names)
        pictures = []
        for index in np.linspace(0, len(self.samples) - 1, COUNT).astype(int):
            sample = self.samples[int(index)]
            pictures.append(panel(sample, predict(network, sample.image), space))
        sheet = np.concatenate(pictures)
        cv2.imwrite(str(self.folder / f"step-{step:07d}.png"), np.ascontiguousarray(sheet[..., ::-1]))
