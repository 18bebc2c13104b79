"""What all tests share: a tiny real engine, a video and photographs, made when they are first asked for."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for tiny_engine
from tiny_engine import make_tiny_engine, picture

VIDEO_FRAMES = 25
VIDEO_FPS = 25.0
VIDEO_SIZE = (120, 160)


@pytest.fixture(scope="session", autouse=True)
def cache_apart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No test reads or writes the user's own cache; child processes inherit this."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["M2H_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engine folder of size (64, 96), see tiny_engine.py; not to be changed."""
    return make_tiny_engine(tmp_path_factory.mktemp("engines") / "tiny")


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second of 160x120 at 25 FPS; frame i is gray, brightness 8 i + 20."""
    path = tmp_path_factory.mktemp("video") / "second.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), VIDEO_FPS, VIDEO_SIZE[::-1])
    for index in range(VIDEO_FRAMES):
        writer.write(np.full((*VIDEO_SIZE, 3), 8 * index + 20, np.uint8))
    writer.release()
    return path


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photo_0.png .. photo_3.png, lossless, 96x64 (the engine's size), `picture(0)` .. (3)."""
    folder = tmp_path_factory.mktemp("photographs")
    for seed in range(4):
        cv2.imwrite(str(folder / f"photo_{seed}.png"), cv2.cvtColor(picture(seed), cv2.COLOR_RGB2BGR))
    return folder
