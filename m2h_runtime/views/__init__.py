"""Which earlier frames a cross-view engine is given with a frame, and from where they were taken."""

from m2h_runtime.views.keeper import ViewKeeper

__all__ = ["ViewKeeper"]
