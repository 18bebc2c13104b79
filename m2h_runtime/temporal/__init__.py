"""Successive perceptions in one picture: depth and labels of the frames before, as they look from here."""

from m2h_runtime.temporal.alignment import Alignment
from m2h_runtime.temporal.settings import AlignmentSettings

__all__ = ["Alignment", "AlignmentSettings"]
