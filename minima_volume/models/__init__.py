"""One file per architecture, built by name or import path."""

from minima_volume.models.build import MODELS, build_model

__all__ = ["MODELS", "build_model"]
