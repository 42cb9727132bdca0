"""Names that a log may have, from its preparation to the report of a comparison."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.columns.labels import LabelColumn
from data_prep.columns.layout import CategoricalColumn, DenseColumn, Layout
from data_prep.engine.options import IdOptions, WorkOptions
from data_prep.engine.prepare import prepare
from data_prep.engine.split import SplitOptions
from dlrm_mtl.config import CheckpointConfig, ModelConfig
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.model_schema import Task
from dlrm_mtl.planning.options import PlanConfig
from dlrm_mtl.planning.report import make_report
from dlrm_mtl.reporting.html import write_run_report
from dlrm_mtl.run_config import CompareConfig
from dlrm_mtl.schema import read_schema
from dlrm_mtl.studies.comparison import run_comparison
from dlrm_mtl.training.run_log import RunLog
from dlrm_mtl.training.window import Window
from tests.ranks import RankPool

FEATURES = (
    *("type", "items", "forward", "_modules", "user", "user.id", "User", "a/b", "a@b", "..", "%2E", "embedding_bags"),
    *("task_type", 'it\'s "q"', "点击 <b>", "weight", "x" * 200),
)
DENSE = ("training", "age.log", "float")
TASKS = ("type", "ctr.7d", "a/b", "b", "a", "b/a", "_c|v_r*", "<b>点击</b> `$x_1$`")
ROWS = 400


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("names")
    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {name: rng.integers(0, 5, ROWS) for name in FEATURES}
    columns |= {name: rng.normal(size=ROWS) for name in DENSE}
    columns["day"] = rng.choice(["2024-01-01", "<b>|点击</b> `$x_1$`", "x" * 200], ROWS)
    columns |= {f"label.{index}": rng.integers(0, 2, ROWS) for index in range(len(TASKS))}
    pq.write_table(pa.table(columns), directory / "log.parquet")
    layout = Layout(
        "names",
        categorical=tuple(
            CategoricalColumn(name, "integer", table="values" if name in ("type", "items") else "") for name in FEATURES
        ),
        dense=tuple(DenseColumn(name, standardise=True) for name in DENSE),
        labels=tuple(LabelColumn(f"label.{index}") for index in range(len(TASKS))),
        tasks=tuple(Task(name, f"label.{index}") for index, name in enumerate(TASKS)),
        cluster="a@b",
        segments=("a/b", "点击 <b>", "x" * 200, "day"),
    )
    out = directory / "data"
    prepare("names", "test", layout, [directory / "log.parquet"], out, IdOptions(), SplitOptions(), WorkOptions())
    return out


def test_each_table_has_a_vocabulary(data: Path) -> None:
    tables = read_schema(data).tables
    files = [path.name.lower() for path in (data / "vocabulary").iterdir()]
    assert len(set(files)) == len(tables)
    assert "user.id.parquet" in files


def compare_interrupted(ranks: Ranks, config: CompareConfig) -> str:
    """Runs a comparison that is told to end after its first window, and goes on; returns its report."""
    log_window = RunLog.window

    def end(log: RunLog, window: Window) -> None:
        log_window(log, window)
        os.kill(os.getpid(), signal.SIGTERM)

    RunLog.window = end  # type: ignore[assignment, method-assign]
    try:
        with pytest.raises(SystemExit):
            run_comparison(config, ranks)
    finally:
        RunLog.window = log_window  # type: ignore[method-assign]
    run_comparison(config, ranks)
    return write_run_report(config.out)


def test_a_comparison(data: Path, rank_pool: RankPool, tmp_path: Path) -> None:
    arms = ("mean", "gradvac", "uncertainty")
    config = CompareConfig(
        data,
        tmp_path / "run",
        batch_size=32,
        max_steps=4,
        log_every=2,
        seeds=1,
        arms=arms,
        model=ModelConfig(embedding_dim=4, bottom_mlp=(4,), head_mlp=(4,), embedding_dims={"user.id": 4}),
        checkpoint=CheckpointConfig(every_steps=2),
    )
    rank_pool.run(1, compare_interrupted, config)
    starts = [json.loads(line) for line in (config.out / "starts.jsonl").read_text().splitlines()]
    assert [start["step"] for start in starts] == [0, 2]
    assert {table["table"] for table in json.loads((config.out / "plan.json").read_text())} == {"values", *FEATURES[2:]}
    comparison = json.loads((config.out / "comparison.json").read_text())
    assert comparison["tasks"] == list(TASKS)
    assert all(arm["tasks"].keys() == set(TASKS) for arm in comparison["arms"].values())
    windows = [
        json.loads(line) for line in (config.out / "seed-0" / "gradvac" / "metrics.jsonl").read_text().splitlines()
    ]
    assert [window["step"] for window in windows] == [2, 4, 4]
    assert windows[0]["window"].keys() == windows[0]["task_weights"].keys() == set(TASKS)
    assert len(windows[0]["cosines"]) == len(TASKS) * (len(TASKS) - 1) // 2


def test_a_plan(data: Path) -> None:
    report = make_report(PlanConfig(data=data, device="cpu", hosts=1, gpus_per_host=1, batch_size=32))
    assert {table["table"] for table in report["plan"]["tables"]} == {"values", *FEATURES[2:]}
