"""Apartments take a second each to build, so the tests share a few."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import pytest

from m2h_runtime.simulation.apartment import Apartment, build_apartment
from m2h_runtime.simulation.episode import Episode, default_camera

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    cv2.setNumThreads(1)


@pytest.fixture(scope="session")
def apartment_of() -> Callable[[int], Apartment]:
    """The apartment of a seed; not to be changed."""
    return lru_cache(build_apartment)


@pytest.fixture(scope="session")
def episode() -> Episode:
    """Eight seconds by hand through apartment 1, at 160x120."""
    return Episode(1, "handheld", 8.0, default_camera(160, 120))
