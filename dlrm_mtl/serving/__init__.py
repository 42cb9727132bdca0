"""Models for serving: their export, and what scores with it."""

from dlrm_mtl.serving.scorer import Scorer

__all__ = ["Scorer"]
