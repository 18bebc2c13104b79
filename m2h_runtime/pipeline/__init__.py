"""The loop: newest frame wins, every stage is timed, sinks cannot hold the engine up."""

from m2h_runtime.pipeline.loop import Counts, Pipeline

__all__ = ["Counts", "Pipeline"]
