"""Exports that the tests share: a compilation takes long."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from torch import Tensor

from data_prep.encoding.encoding import of_encoded
from data_prep.encoding.files import write_encoding
from data_prep.ids.assignment import write_vocabulary
from dlrm_mtl.config import ModelConfig
from dlrm_mtl.distributed.checkpoint_directory import list_checkpoints
from dlrm_mtl.export_options import ExportOptions
from dlrm_mtl.schema import read_schema
from dlrm_mtl.serving.served_model import model_inputs
from dlrm_mtl.serving.writing import write_export
from tests.datasets import make_dataset
from tests.distributed.training import run_config
from tests.entry_points.processes import python
from tests.inference.training import in_order, train_and_predict
from tests.ranks import RankPool
from tests.serving.models import real_batches
from tests.serving.raw_export import RawExport, make_raw_export

MODEL = ModelConfig(embedding_dim=8, bottom_mlp=(4,), head_mlp=(), relation="esmm")


@dataclass(frozen=True)
class Exports:
    """Of one checkpoint that two ranks wrote, with tables that were sharded by columns."""

    checkpoint: Path
    data: Path
    """The small data set, with an encoding."""
    probabilities: dict[str, npt.NDArray[np.float64]]
    """(N, M) of the eval split, by arm, as the trained models gave them."""
    float: Path
    int8: Path
    per_task: Path
    """Of the arm single_task, by the entry point and without a data set."""
    process: subprocess.CompletedProcess[str]
    """The entry point."""

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """The eval split."""
        [batch] = real_batches(self.data, 200)
        return model_inputs(batch)


@pytest.fixture(scope="session")
def exports(rank_pool: RankPool, tmp_path_factory: pytest.TempPathFactory) -> Exports:
    directory = tmp_path_factory.mktemp("export")
    data = make_dataset(directory / "data")
    write_vocabulary(pa.table({"value": range(48), "count": range(48)}), data / "vocabulary" / "user.parquet")
    write_encoding(of_encoded(read_schema(data)), data, {"user": "vocabulary/user.parquet"})
    arms = ("mean", "single_task")
    config = run_config(data, log_every=3, model=MODEL)
    parts = rank_pool.run(2, train_and_predict, config, directory / "run", arms, "column_wise")
    logits = {arm: in_order([part[index] for part in parts]) for index, arm in enumerate(arms)}
    [checkpoint] = list_checkpoints(directory / "run" / "checkpoints")

    def export(name: str, **options: Any) -> Path:
        write_export(ExportOptions(checkpoint, directory / name, "mean", data, **options))
        return directory / name

    options = ("--checkpoint", checkpoint, "--arm", "single_task", "--out", directory / "new" / "per-task")
    return Exports(
        checkpoint,
        data,
        {arm: 1 / (1 + np.exp(-each)) for arm, each in logits.items()},
        export("float", compile=True),
        export("int8", precision="int8"),
        directory / "new" / "per-task",
        python("dlrm_mtl.export", *options),
    )


@pytest.fixture(scope="session")
def raw_export(rank_pool: RankPool, tmp_path_factory: pytest.TempPathFactory) -> RawExport:
    return make_raw_export(tmp_path_factory.mktemp("raw-export"), rank_pool)
