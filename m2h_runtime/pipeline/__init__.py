"""The loop: newest frame wins, every stage is timed, sinks cannot hold the engine up, health is told."""

from m2h_runtime.pipeline.health import Condition, Health, Level, Transition
from m2h_runtime.pipeline.loop import Counts, Pipeline
from m2h_runtime.pipeline.reconnect import ReconnectingSource

__all__ = ["Condition", "Counts", "Health", "Level", "Pipeline", "ReconnectingSource", "Transition"]
