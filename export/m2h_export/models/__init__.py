"""Networks. `build_model` makes one by name."""

from m2h_export.models.catalogue import CVM_MODELS, Network, build_model, model_names
from m2h_export.models.cross_view import CrossView, CrossViewConfig, CrossViewNetwork, M2HCrossView
from m2h_export.models.cvm import CvMConfig
from m2h_export.models.m2h import M2H, MODELS, TASKS, M2HConfig

__all__ = [
    "CVM_MODELS",
    "M2H",
    "MODELS",
    "TASKS",
    "CrossView",
    "CrossViewConfig",
    "CrossViewNetwork",
    "CvMConfig",
    "M2HConfig",
    "M2HCrossView",
    "Network",
    "build_model",
    "model_names",
]
