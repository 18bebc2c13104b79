"""Where frames come from. Every source hands out `Frame`s in the same way; see `base.Source`."""

from m2h_runtime.sources.bag import BagSource
from m2h_runtime.sources.bag_topics import BagTopics
from m2h_runtime.sources.base import EndOfStream, Source
from m2h_runtime.sources.camera import CameraSource
from m2h_runtime.sources.euroc import EurocSource
from m2h_runtime.sources.gstreamer import GStreamerSource, jetson_csi
from m2h_runtime.sources.images import ImagesSource
from m2h_runtime.sources.loop import LoopedSource
from m2h_runtime.sources.oak import OakSource
from m2h_runtime.sources.paced import PacedSource
from m2h_runtime.sources.realsense import RealSenseSource
from m2h_runtime.sources.recording import Recording
from m2h_runtime.sources.simulation import SimulationSource
from m2h_runtime.sources.stream import RtspSource
from m2h_runtime.sources.video import VideoSource

__all__ = [
    "BagSource",
    "BagTopics",
    "CameraSource",
    "EndOfStream",
    "EurocSource",
    "GStreamerSource",
    "ImagesSource",
    "LoopedSource",
    "OakSource",
    "PacedSource",
    "RealSenseSource",
    "Recording",
    "RtspSource",
    "SimulationSource",
    "Source",
    "VideoSource",
    "jetson_csi",
]
