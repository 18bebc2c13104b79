"""Metrics of the four tasks as the published evaluators define them, and `m2h-eval`, the command."""

from __future__ import annotations

from m2h_export.evaluation.evaluator import Evaluator, Prediction, Variants
from m2h_export.evaluation.gain import delta_mtl

__all__ = ["Evaluator", "Prediction", "Variants", "delta_mtl"]
