"""What the calibration tests share: a folder of rendered board images, made once."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import pytest

sys.path.append(str(Path(__file__).parent))  # for rendered, at the end: `import conftest` means the one above
from rendered import CHARUCO, PINHOLE, photographs


@pytest.fixture(scope="session")
def board_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 photographs 00.png .. 23.png of `CHARUCO` by `PINHOLE`."""
    folder = tmp_path_factory.mktemp("board")
    for index, image in enumerate(photographs(CHARUCO, PINHOLE, 24)):
        cv2.imwrite(str(folder / f"{index:02d}.png"), image)
    return folder
