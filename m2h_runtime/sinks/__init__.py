"""Where perceptions go."""

from m2h_runtime.sinks.base import Observation, Sink, check_writable
from m2h_runtime.sinks.contact_sheet import ContactSheetSink
from m2h_runtime.sinks.video_file import VideoFileSink

__all__ = ["ContactSheetSink", "Observation", "Sink", "VideoFileSink", "check_writable"]
