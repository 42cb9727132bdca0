"""A model that was trained on a text log, and the log's rows."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from data_prep.columns.labels import LabelColumn
from dlrm_mtl.config import ModelConfig
from dlrm_mtl.export_options import ExportOptions
from dlrm_mtl.model_schema import Task
from dlrm_mtl.serving.manifest import ENCODING, read_manifest
from dlrm_mtl.serving.raw_inputs import RawInputs
from dlrm_mtl.serving.writing import write_export
from tests.data_prep.logs import COLUMNS, LAYOUT, lines_of, run_prepare, write_log
from tests.distributed.training import run_config
from tests.inference.training import in_order, train_and_predict
from tests.ranks import RankPool

ROWS, EVAL_ROWS = 600, 60
FUNNEL = replace(
    LAYOUT,
    labels=(LabelColumn("click"), LabelColumn("long", "unused", positive=("xxx", "xxxx"), missing_is_negative=True)),
    tasks=(Task("ctr", "click"), Task("cvr", "long", given="click")),
)
MODEL = ModelConfig(relation="esmm", embedding_dim=4, bottom_mlp=(6,), head_mlp=(5,))


@dataclass(frozen=True)
class RawExport:
    """An export, and the rows of the eval split as a program has them."""

    directory: Path
    rows: list[dict[str, Any]]
    probabilities: npt.NDArray[np.float64]
    """(B, M), as the trained model gives them for the prepared rows."""

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """The model's inputs for the rows."""
        [inputs] = RawInputs(self.directory / ENCODING, read_manifest(self.directory).meaning).encode(self.rows)
        return inputs


def make_raw_export(directory: Path, rank_pool: RankPool) -> RawExport:
    run_prepare(write_log(directory / "log", lines_of(ROWS)), directory / "data", FUNNEL)
    config = run_config(directory / "data", log_every=3, model=MODEL)
    [[logits]] = rank_pool.run(1, train_and_predict, config, directory / "run", ["mean"])
    write_export(ExportOptions(directory / "run", directory / "export", data=directory / "data"))
    probabilities = 1 / (1 + np.exp(-in_order([logits]).astype(np.float64)))
    return RawExport(directory / "export", _raw_rows(), probabilities)


def _raw_rows() -> list[dict[str, Any]]:
    rows = []
    for line in lines_of(ROWS)[-EVAL_ROWS:]:
        row: dict[str, Any] = {name: text or None for name, text in zip(COLUMNS, line.split("\t"), strict=True)}
        row["count"], row["user"] = (None if row[name] is None else int(row[name]) for name in ("count", "user"))
        row["weight"] = None if row["weight"] is None else float(row["weight"])
        rows.append(row)
    return rows
