"""The picture of docs/simulation.md: views of a reserved test apartment with their truth.

    python tools/apartment_sheet.py docs/images/apartments.png

Columns are views; rows are the picture, NYUD20 labels, depth and normals.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from m2h_runtime.label_space import load_label_space
from m2h_runtime.simulation.episode import Episode, Shot, default_camera
from m2h_runtime.sinks.render import DepthRange, depth_picture, normals_picture, semantics_picture

SEED, SURVEY = 9001, (2, 6, 34, 12, 8)
RENDERED, SHOWN = (640, 480), (192, 144)  # width and height; shrinking also removes the sensor's noise
GAP = 4


def column(shot: Shot) -> np.ndarray:
    """A view and its truth below each other."""
    view = shot.view
    rows = [
        shot.image,
        semantics_picture(view.labels20, load_label_space("nyud20").palette),
        depth_picture(view.depth, *DepthRange().update(view.depth)),
        normals_picture(view.normals),
    ]
    small = [cv2.resize(row, SHOWN, interpolation=cv2.INTER_AREA) for row in rows]
    return np.concatenate([cv2.copyMakeBorder(row, 0, GAP, 0, GAP, cv2.BORDER_CONSTANT) for row in small])


def main() -> int:
    """Write the sheet named on the command line."""
    if len(sys.argv) != 2:
        print("usage: python tools/apartment_sheet.py FILE.png", file=sys.stderr)
        return 2
    out = Path(sys.argv[1])
    out.parent.mkdir(parents=True, exist_ok=True)
    episode = Episode(SEED, "handheld", 10.0, default_camera(*RENDERED))
    columns = [column(episode.survey_shot(number)) for number in SURVEY]
    sheet = np.concatenate(columns, axis=1)[:-GAP, :-GAP, ::-1]
    cv2.imwrite(str(out), sheet, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return 0


if __name__ == "__main__":
    sys.exit(main())
