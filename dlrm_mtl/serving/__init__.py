"""Models for serving: their export and its deltas, and what scores with it."""

from dlrm_mtl.serving.deltas.applying import apply_deltas
from dlrm_mtl.serving.scorer import Scorer

__all__ = ["Scorer", "apply_deltas"]
