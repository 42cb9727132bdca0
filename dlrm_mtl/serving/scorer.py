"""Raw rows to predictions. Needs torch and pyarrow, and for int8 tables fbgemm_gpu."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dlrm_mtl.serving.exported import open_export
from dlrm_mtl.serving.manifest import ENCODING
from dlrm_mtl.serving.raw_inputs import RawInputs


class Scorer:
    """Scores rows as they are before a preparation.

    ::

        scorer = Scorer(Path("export"))
        scorer.score([{"user_id": 7, "item": "a", "price": 2.5}])["click"]

    Args:
        directory: of the export.
        compiled: as for :func:`open_export`.

    Raises:
        ValueError: see :func:`open_export` and :class:`RawInputs`; the export has no encoding.
    """

    def __init__(self, directory: Path, compiled: bool | None = None) -> None:
        self._export = open_export(directory, compiled)
        manifest = self._export.manifest
        if not manifest.has_encoding:
            raise ValueError(
                f"{directory}: has no {ENCODING}/encoding.json, since the data set had none; prepare that again, and"
                " export with --data"
            )
        self._inputs = RawInputs(directory / ENCODING, manifest.meaning)
        self.outputs = tuple(output.name for output in manifest.outputs)
        """Names of the predictions: of the tasks, then of the funnels' products."""

    @property
    def columns(self) -> list[str]:
        """The columns that a raw row must have."""
        return self._inputs.columns

    @property
    def unseen(self) -> Counter[str]:
        """Values outside the vocabulary so far, by feature: many of them tell of another spelling."""
        return self._inputs.unseen

    def score(self, rows: Any) -> pa.Table:
        """The predictions (B,), float32, by output. Argument and errors as for :meth:`RawInputs.encode`."""
        predictions = np.concatenate([self._export(*inputs).numpy() for inputs in self._inputs.encode(rows)])
        return pa.table({name: pa.array(predictions[:, place]) for place, name in enumerate(self.outputs)})
