"""The options of an export. Free of torch, so that ``--help`` is quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dlrm_mtl.config import require_positive
from dlrm_mtl.location import Location

Precision = Literal["float", "int8"]


@dataclass(frozen=True)
class ExportOptions:
    """Exports a trained model: one file that PyTorch runs without TorchRec and without this package."""

    checkpoint: Path
    """RUN (its newest checkpoint), RUN/seed-S or RUN/checkpoints/step-N."""
    out: Path
    """Directory of the export; new."""
    arm: str | None = None
    """Arm, as it was given to the run; by default its first."""
    data: Location | None = None
    """Data set whose encoding is copied, and on whose eval split int8 is compared with float; by default the run's."""
    precision: Precision = "float"
    """Of the embedding tables. int8: a quarter of the size, quantised row by row; everything else stays float32."""
    compile: bool = False
    """Write compiled.pt2 as well, compiled for this machine's processor; needs a C++ compiler."""
    batch_size: int = 2048
    """Rows that are predicted at a time when int8 is compared with float."""

    def __post_init__(self) -> None:
        require_positive(self, "batch_size")
