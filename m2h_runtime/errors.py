"""Errors that we foresee. Each is one line: what was wrong, where, and what to do.

The commands print such an error as that one line and exit with 2; anything else keeps its traceback.
"""

from __future__ import annotations


class M2HError(Exception):
    """Base of every error that this project raises on purpose."""


class InputError(M2HError):
    """Something that the user named cannot be used: a path, an option, a size."""


class ContractError(M2HError):
    """An array or a graph tensor has another shape or dtype than the engine contract says."""


class EngineError(M2HError):
    """An engine folder is incomplete, edited, unverified, or its engine failed."""


class EngineMismatchError(EngineError):
    """The engine is fine but was made for another device or another TensorRT."""


class BackendUnavailableError(EngineError):
    """The library or the device of a backend is not on this machine."""


class SourceError(M2HError):
    """A camera, recording, topic or image folder cannot be opened or read."""


class CalibrationError(M2HError):
    """A calibration cannot be read, contradicts itself or does not fit the images."""


class SinkError(M2HError):
    """An output file or display cannot be written."""


class CheckpointError(M2HError):
    """A weight file cannot be read, or belongs to another network."""


class ParityError(M2HError):
    """An engine's outputs differ too much from the PyTorch reference."""
