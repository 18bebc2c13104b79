"""Engines: the contract, the manifest, the self-test, and one file per backend."""

from m2h_runtime.engine.base import Engine
from m2h_runtime.engine.contract import Neighbours
from m2h_runtime.engine.select import BACKENDS, open_engine

__all__ = ["BACKENDS", "Engine", "Neighbours", "open_engine"]
