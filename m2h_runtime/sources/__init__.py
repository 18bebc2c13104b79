"""Where frames come from. Every source hands out `Frame`s in the same way; see `base.Source`."""

from m2h_runtime.sources.base import EndOfStream, Source
from m2h_runtime.sources.camera import CameraSource
from m2h_runtime.sources.images import ImagesSource
from m2h_runtime.sources.paced import PacedSource
from m2h_runtime.sources.simulation import SimulationSource
from m2h_runtime.sources.video import VideoSource

__all__ = [
    "CameraSource",
    "EndOfStream",
    "ImagesSource",
    "PacedSource",
    "SimulationSource",
    "Source",
    "VideoSource",
]
