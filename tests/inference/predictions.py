"""Worker functions: predictions of rows, and what is read of them."""

import resource
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.inference.predictions.options import PredictOptions
from dlrm_mtl.inference.predictions.predicting import predict


def predict_rows(ranks: Ranks, arguments: dict[str, Any], room: int = resource.RLIM_INFINITY) -> str:
    """The error that predictions end in; empty: they are finished.

    Args:
        room: bytes that a file may have.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        predict(PredictOptions(**arguments), ranks)
    except (ValueError, OSError) as error:
        return str(error)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    return ""


def read_rows(out: Path) -> pa.Table:
    """All predictions, in order."""
    return pa.concat_tables([pq.read_table(file) for file in sorted((out / "parts").iterdir())])
