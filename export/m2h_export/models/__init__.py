"""Networks. `build_model` makes one by name."""

from m2h_export.models.m2h import M2H, MODELS, TASKS, M2HConfig, build_model

__all__ = ["M2H", "MODELS", "TASKS", "M2HConfig", "build_model"]
